"""Callbacks to a customer who fails in every way, while gateway and Postgres are killed: none is lost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from callback_storm import storm
from ledger_databases import running_postgres
from support import SLOW

WANTED = {"/fails": 4, "/hangs": 1, "/moved": 4, "/gone": 10, "/out": 40, "/well": 41}
DELIVERED = {"/out", "/well"}
SECONDS_BESIDE = 1


@pytest.mark.timeout(600)
def test_of_a_hundred_callbacks_each_is_delivered_or_on_record_as_dead(tmp_path: Path) -> None:
    """Whatever dies meanwhile; and another customer hears within a second, on a quiet machine, while they fail."""
    # A Postgres of its own: the session's would take the connections of other tests with it.
    with running_postgres() as databases:
        figures = storm(databases.lasting(), tmp_path, wanted=WANTED)
    outcomes = {(path, "delivered" if path in DELIVERED else "dead"): number for path, number in WANTED.items()}
    assert figures.outcomes == Counter(outcomes)
    assert figures.beside[len(figures.beside) * 95 // 100] <= SLOW * SECONDS_BESIDE
    assert "Traceback" not in (tmp_path / "log").read_text()
