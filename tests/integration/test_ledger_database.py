"""A ledger outlives what is done to its database: connections that are cut, and tables that grow under it."""

from __future__ import annotations

import pytest
from ledger_databases import Db
from ledger_scenes import picture_in_flight
from sqlmodel import SQLModel

from darkroom.ledger import OUTAGES, Ledger, database

CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> %s"


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


def test_one_that_was_cut_in_the_midst_of_work_fails_once(
    ledger: Ledger, db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an outage, which its caller tries again; then all of the pool are made anew."""
    monkeypatch.setattr(database, "IDLE_SECONDS", 3600.0)
    ledger.users.plans()
    cut_all_others(db)
    with pytest.raises(OUTAGES):
        ledger.users.plans()
    assert ledger.users.plans()


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
