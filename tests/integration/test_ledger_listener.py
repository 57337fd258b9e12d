"""What a waiting process listens with: Postgres notifies it, and so do threads of its own."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import takewhile

import psycopg
import pytest
from ledger_databases import Db

from darkroom.ledger import OUTAGES, Ledger, database


def test_rings_from_both_sides_count_as_one(ledger: Ledger, db: Db) -> None:
    """However many there were, a wait hears all that have come, and then there is silence: not a hundred waits."""
    with ledger.listen("fox") as listener:
        for _ in range(100):
            listener.notify()
            db.execute("SELECT pg_notify('fox', '')")
        heard = len(list(takewhile(lambda _: listener.wait(0.5), range(100))))
        assert 1 <= heard < 10  # the last ones may still have been on their way from Postgres


def test_a_thread_of_the_process_ends_the_wait(ledger: Ledger) -> None:
    """A call that has ended need not go through Postgres to be heard."""
    with ledger.listen("fox") as listener, ThreadPoolExecutor(1) as pool:
        pool.submit(listener.notify)
        assert listener.wait(20)


def test_a_ring_never_blocks(ledger: Ledger) -> None:
    """Not even when nobody has listened for very long."""
    with ledger.listen("fox") as listener:
        for _ in range(100_000):
            listener.notify()
        assert listener.wait(0)


def test_a_lost_connection_is_an_outage(ledger: Ledger, db: Db) -> None:
    """Silence would be taken for nothing having happened."""
    with ledger.listen("fox") as listener:
        db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
        with pytest.raises(OUTAGES):
            while listener.wait(5):
                pass


@pytest.mark.parametrize(
    "error",
    [
        psycopg.errors.ReadOnlySqlTransaction("cannot execute LISTEN during recovery"),
        OSError(errno.EMFILE, "Too many open files"),
    ],
    ids=["a standby", "no file left"],
)
def test_what_keeps_from_listening_and_passes_is_an_outage(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A standby becomes the primary, and files are closed: it is tried again, as after a lost connection."""

    def refuse(_: object) -> None:
        raise error

    monkeypatch.setattr(database, "Listener", refuse)
    with pytest.raises(OUTAGES), ledger.listen("fox"):
        pass


def test_what_befalls_the_one_who_listens_is_no_outage(ledger: Ledger) -> None:
    """A file of its own that cannot be opened is not the ledger's."""
    with pytest.raises(FileNotFoundError), ledger.listen("fox"):
        raise FileNotFoundError


def test_an_address_with_options_is_good_for_both_kinds_of_connection(ledger_url: str) -> None:
    """The one that asks and the one that listens understand the same, blanks and all."""
    address = f"{ledger_url}{'&' if '?' in ledger_url else '?'}options=-c%20statement_timeout%3D61000&schema=public"
    with closing(Ledger(address)) as ledger, ledger.listen("fox") as listener:
        assert ledger.answers()
        listener.notify()
        assert listener.wait(20)
        assert listener._connection.execute("SHOW statement_timeout").fetchone() == ("61s",)
