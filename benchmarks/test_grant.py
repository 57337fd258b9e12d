"""What a grant costs as the backlog grows: a ratio of two backlogs, measured side by side in one run."""

from __future__ import annotations

from contextlib import closing
from statistics import median

import ledger_growth
from ledger_databases import Databases

from darkroom.ledger import Ledger

ROUNDS = 15


def _seconds_per_grant(url: str, *, users: int, rows: int) -> float:
    """The median over rounds of ten slots each, every time from the same backlog."""
    ledger_growth.fill_backlog(url, users=users, rows=rows)
    with closing(Ledger(url)) as ledger:
        return median(ledger_growth.grant_and_give_back(ledger, url, times=ROUNDS))


def test_a_backlog_a_hundred_times_as_large_costs_a_grant_less_than_twenty_times_as_much(databases: Databases) -> None:
    """1,000 queued rows of 10 users against 100,000 of 1,000: reading the backlog itself would cost a hundred times."""
    with databases.fresh() as small, databases.fresh() as large:
        few = _seconds_per_grant(small, users=10, rows=1_000)
        many = _seconds_per_grant(large, users=1_000, rows=100_000)
    figures = f"{few * 1000:.1f} ms at 1,000 queued, {many * 1000:.1f} ms at 100,000: {many / few:.1f} times"
    print(f"\na grant of 10 slots: {figures}")
    assert many < 20 * few
