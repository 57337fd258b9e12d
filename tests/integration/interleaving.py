"""Forces two transactions into a given order on a real Postgres, without sleeping.

A gate is a trigger: whoever writes to its table stops there, in the middle of its transaction and holding the locks it
has taken, until the gate is opened. One that is put into the commit lets all statements through and holds what makes
them last. Postgres itself tells who stands still (`pg_stat_activity`), so the test goes on exactly when the first has
reached the gate and the second either waits for a lock or is through.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from ledger_databases import Db
from support import SLOW, wait_until

A = TypeVar("A")
B = TypeVar("B")

_GATE = 7001  # any number: the advisory lock behind which writers wait
_OF_OTHERS = "datname = current_database() AND pid <> pg_backend_pid()"
_STANDS = "wait_event_type = 'Lock'"


def overlap(db: Db, first: Callable[[], A], second: Callable[[], B], *, at: str) -> tuple[A, B]:
    """`first` goes up to its first `at` (e.g. "UPDATE ON run"), `second` as far as it gets; then both to their ends."""
    with ThreadPoolExecutor(2) as pool, _closed_gate(db, at):
        one = pool.submit(first)
        wait_until(lambda: _standing_still(db) == 1 or one.done())
        assert not one.done(), f"the first went through without an {at}: {one.result()}"
        two = pool.submit(second)
        wait_until(lambda: _standing_still(db) == 2 or two.done())
        _open(db)
        return one.result(timeout=SLOW * 20), two.result(timeout=SLOW * 20)


@dataclass(frozen=True)
class Gate:
    """A closed one, and who stands before it."""

    db: Db

    def reached(self) -> None:
        """Returns as soon as somebody stands there."""
        wait_until(lambda: _standing_still(self.db), what="a writer at the gate")

    def open(self) -> None:
        """Returns when whoever stood there is through."""
        _open(self.db)
        self._until_nobody_writes()

    def turn_away(self) -> None:
        """Returns when what whoever stood there did has not happened: a statement outlives its client in Postgres."""
        self.db.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {_OF_OTHERS} AND {_STANDS}")
        self._until_nobody_writes()

    def _until_nobody_writes(self) -> None:
        wait_until(lambda: not _in_a_transaction(self.db), what="the end of the writer's transaction")


@contextmanager
def closed_gate(db: Db, *, at: str, in_the_commit: bool = False) -> Iterator[Gate]:
    """For a writer that is another process: the test tells itself when to go on."""
    with _closed_gate(db, at, in_the_commit=in_the_commit):
        yield Gate(db)


def all_at_once(actions: Sequence[Callable[[], A]]) -> list[A]:
    """Each in a thread of its own, started together; what each gave, in the order given. Raises what one raised."""
    barrier = threading.Barrier(len(actions))

    def after_the_others(action: Callable[[], A]) -> A:
        barrier.wait(timeout=SLOW * 20)
        return action()

    with ThreadPoolExecutor(len(actions)) as pool:
        futures: list[Future[A]] = [pool.submit(after_the_others, action) for action in actions]
        return [future.result(timeout=SLOW * 60) for future in futures]


@contextmanager
def _closed_gate(db: Db, at: str, *, in_the_commit: bool = False) -> Iterator[None]:
    db.execute(
        f"CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN PERFORM pg_advisory_xact_lock_shared({_GATE}); RETURN NEW; END $$"
    )
    if in_the_commit:
        how = f"CONSTRAINT TRIGGER gate AFTER {at} DEFERRABLE INITIALLY DEFERRED"
    else:
        how = f"TRIGGER gate BEFORE {at}"
    db.execute(f"CREATE {how} FOR EACH ROW EXECUTE FUNCTION gate()")
    db.execute(f"SELECT pg_advisory_lock({_GATE})")
    try:
        yield
    finally:
        _open(db)  # whoever still stands there must get through before the threads are joined


def _open(db: Db) -> None:
    db.execute("SELECT pg_advisory_unlock_all()")


def _standing_still(db: Db) -> int:
    return _sessions(db, _STANDS)


def _in_a_transaction(db: Db) -> int:
    return _sessions(db, "xact_start IS NOT NULL")


def _sessions(db: Db, which: str) -> int:
    found = db.execute(f"SELECT count(*) AS n FROM pg_stat_activity WHERE {_OF_OTHERS} AND {which}").fetchone()
    assert found is not None
    return int(found["n"])
