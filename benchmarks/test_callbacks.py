"""Ten thousand callbacks to a customer who fails in every way, with another beside it: none is lost, and that one hears
within a second."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from callback_storm import storm
from ledger_databases import running_postgres

WANTED = {"/fails": 500, "/hangs": 10, "/moved": 500, "/gone": 1000, "/out": 4000, "/well": 3990}
DELIVERED = {"/out", "/well"}
MOST_SECONDS_BESIDE = 1.0


@pytest.mark.timeout(1800)
def test_of_ten_thousand_callbacks_each_is_delivered_or_on_record_as_dead(tmp_path: Path) -> None:
    """Though gateway and Postgres are killed in the middle of it."""
    with running_postgres() as databases:
        figures = storm(databases.lasting(), tmp_path, wanted=WANTED)
    at_95 = figures.beside[len(figures.beside) * 95 // 100]
    print(f"\n{figures.calls} calls in {figures.seconds:.0f} s, {figures.twice} of them twice under one id")
    print(f"beside: {len(figures.beside)} callbacks, p95 {at_95:.2f} s, {figures.beside[-1]:.2f} s at most")
    outcomes = {(path, "delivered" if path in DELIVERED else "dead"): number for path, number in WANTED.items()}
    assert figures.outcomes == Counter(outcomes)
    assert at_95 <= MOST_SECONDS_BESIDE
