"""What keeps the ledger small, and the machine quiet: what is old is deleted, and nobody looks for what is not there.

Deleted are events with what they did, and pending runs that have begun or were dropped, a bounded number at once. Kept
are those that something still refers to: a wait that took its event, a pending run that has not begun, or whose job has
not ended. Jobs, calls, files and verified webhooks are the record of what was paid: nothing deletes them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta

from darkroom.ledger.bills import FIRST, OLDEST
from darkroom.ledger.events import CANCELS_SEEN
from darkroom.ledger.part import Part

MOST_FORGOTTEN = 2_000  # of each at once


@dataclass(frozen=True, kw_only=True)
class TurnDue:
    """What is there for a turn of `reconcile`. `runs` and `calls`: of which Prefect's word and the models' decide."""

    runs: bool
    calls: bool
    paid_unseen: bool
    unassigned: bool
    pending_runs: bool
    queued: bool
    ends: bool
    cancels: bool
    events: bool
    money: bool
    old: bool
    accounts: bool
    endpoints: bool


class Housekeeping(Part):
    def forget(self, *, older_than: timedelta) -> int:
        """Delete old events, and then old pending runs. Return how many of both."""
        before = self._now() - older_than
        events = self._run("events_forget", before=before, most=MOST_FORGOTTEN).rowcount
        # After the events, whose effects name them.
        return events + self._run("starts_forget", before=before, most=MOST_FORGOTTEN).rowcount

    def turn_due(
        self, *, news_kept: timedelta, events_kept: timedelta, billing: Collection[str], drift_day: date | None
    ) -> TurnDue:
        """Tell what a turn of `reconcile` would find now, by one statement.

        `billing`: the accounts that tell bills; `drift_day`: the day for which bills are to be compared by now.
        """
        now, timing = self._now(), self._timing
        late = now - timing.idle_turn  # what is old, and bills, can wait for a turn that comes anyway
        found = self._run(
            "turn_due",
            now=now,
            closed_since=now - timing.closed_within,
            unseen_since=now - timing.result_kept,
            cancelled_since=now - CANCELS_SEEN,
            untold_before=now - timing.event_unpublished,
            billing=list(billing),
            bills_since=now - OLDEST,
            bills_before=late - timing.scale(FIRST),
            drift_day=drift_day,
            old_news=late - news_kept,
            old_events=late - events_kept,
        )
        return TurnDue(**found.one()._mapping)
