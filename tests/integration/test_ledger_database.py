"""Connections that are cut while nobody uses them are made anew before anybody notices."""

from __future__ import annotations

import pytest
from ledger_databases import Db

from blocks.ledger import OUTAGES, Ledger, database

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
