"""A ledger outlives what is done to its database: connections that are cut, and tables that grow under it."""

from __future__ import annotations

import signal
from contextlib import ExitStack, closing

import pytest
from ledger_databases import Db
from ledger_scenes import picture_in_flight
from sqlmodel import SQLModel
from support import wait_until

from darkroom.ledger import OUTAGES, Ledger, database

CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> %s"


def others(db: Db) -> set[int]:
    """The processes of all other connections to it."""
    asked = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
    return {row["pid"] for row in db.execute(asked)} - {db.info.backend_pid}


def cut_all_others(db: Db) -> None:
    """What a restart of Postgres does to them."""
    db.execute(CUT, [db.info.backend_pid])


def test_an_idle_connection_that_was_cut_is_replaced(ledger: Ledger, db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first order after a quiet night does not fail."""
    monkeypatch.setattr(database, "IDLE_SECONDS", 0.0)
    ledger.users.plans()
    for _ in range(3):
        cut_all_others(db)
        assert ledger.users.plans()


def test_one_that_was_cut_a_moment_after_its_use_is_replaced(
    ledger: Ledger, db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postgres is back within a second: whoever asks before and after does not notice."""
    monkeypatch.setattr(database, "IDLE_SECONDS", 3600.0)
    with ledger._engine.begin(), ledger._engine.begin():
        assert len(others(db)) == 2
    for _ in range(3):
        cut_all_others(db)
        wait_until(lambda: not others(db), timeout=20, every=0.01, what="the end of the connections")
        assert ledger.users.plans()


def test_one_that_was_cut_in_the_midst_of_work_fails_once(ledger: Ledger, db: Db) -> None:
    """As an outage, which its caller tries again; then all of the pool are made anew."""
    with pytest.raises(OUTAGES), ledger._engine.begin() as connection:
        database.run(connection, "models_lock")
        cut_all_others(db)
        database.run(connection, "models_lock")
    assert ledger.users.plans()


def test_a_ledger_that_hangs_is_an_outage_for_those_who_get_no_connection(ledger: Ledger) -> None:
    """What a provider has answered waits for it then, and no job fails of it."""
    ledger._engine.pool._timeout = 0.1  # type: ignore[attr-defined]
    with ExitStack() as held:
        for _ in range(database.MOST_CONNECTIONS):
            held.enter_context(ledger._engine.connect())
        for asks in (ledger.users.plans, lambda: ledger.runs.renew("run_1")):
            with pytest.raises(OUTAGES):
                asks()
    assert ledger.users.plans()


class Ended(BaseException):
    """What Prefect raises in a run that is told to end, wherever it is."""


@pytest.mark.parametrize("how", ["in a transaction", "alone"])
def test_a_signal_in_the_midst_of_a_statement_leaves_no_connection_in_it(
    how: str, ledger: Ledger, db: Db, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The signal is what the run ends with; nothing else fails, and nobody gets the connection with its answer."""

    def end(*_: object) -> None:
        raise Ended

    was = signal.signal(signal.SIGALRM, end)
    try:
        with db.transaction(), pytest.raises(Ended):
            db.execute(database.queries()["models_lock"])
            signal.setitimer(signal.ITIMER_REAL, 0.5)  # it waits for that lock by then
            if how == "alone":
                database.run_alone(ledger._engine, "models_lock")
            with ledger._engine.begin() as connection:
                database.run(connection, "models_lock")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, was)
    assert not caplog.records
    assert ledger.users.plans()


def test_connections_that_lie_idle_are_closed(ledger_url: str, db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a burst has left keeps no memory in Postgres; what asks next does not notice."""
    monkeypatch.setattr(database, "CLOSED_AFTER_SECONDS", 0.5)
    monkeypatch.setattr(database, "IDLE_SECONDS", 0.0)
    with closing(Ledger(ledger_url)) as ledger:
        with ledger._engine.begin(), ledger._engine.begin():
            assert len(others(db)) == 2
        wait_until(lambda: not others(db), timeout=20, every=0.1, what="an end of the idle connections")
        assert ledger.users.plans()


def test_to_try_for_room_keeps_no_memory(ledger: Ledger) -> None:
    """It is tried again and again for as long as a gateway runs."""
    for _ in range(80):
        assert ledger._try_room()
    kept = "SELECT sum(total_bytes) FROM pg_backend_memory_contexts WHERE name = 'LocalBufferContext'"
    with ledger._engine.begin() as connection:
        assert 0 < connection.exec_driver_sql(kept).scalar_one() < 1e6


def test_what_is_prepared_is_carried_out_after_a_migration_has_added_columns(ledger: Ledger, db: Db) -> None:
    """A gateway or a run of before works on: no statement of its fails, not even once."""
    picture = picture_in_flight(ledger, ledger.users.add("ann").user_id)

    def the_statements_of_every_job() -> None:
        assert picture.row.request_id == "fal-1"
        assert picture.job.run_id == picture.run_id
        picture.accept()
        picture.look()
        ledger.runs.enter(picture.flow_run_id, run_key=None)
        ledger.jobs.take_up([picture.job_id])
        ledger.grants.grant()

    for _ in range(5):
        the_statements_of_every_job()
    prepared = "SELECT count(*) AS n FROM pg_prepared_statements"
    with ledger._engine.begin() as connection:
        assert connection.exec_driver_sql(prepared).scalar_one() > 5
    for table in SQLModel.metadata.tables:
        db.execute(f'ALTER TABLE "{table}" ADD COLUMN added_later text')

    the_statements_of_every_job()
    picture.settle()
