"""What keeps the ledger small, and the machine quiet: what is old is deleted, and nobody looks for what is not there.

Deleted are events with what they did, and pending runs that have begun or were dropped, a bounded number at once. Kept
are those that something still refers to: a wait that took its event, a pending run that has not begun, or whose job has
not ended. Jobs, calls, files and verified webhooks are the record of what was paid: nothing deletes them.
"""

from __future__ import annotations

from datetime import timedelta

from darkroom.ledger.database import run
from darkroom.ledger.part import Part

MOST_FORGOTTEN = 2_000  # of each at once


class Housekeeping(Part):
    def forget(self, *, older_than: timedelta) -> int:
        """Delete old events, and then old pending runs. Return how many of both."""
        before = self._now() - older_than
        with self._engine.begin() as connection:
            events = run(connection, "events_forget", before=before, most=MOST_FORGOTTEN).rowcount
        with self._engine.begin() as connection:
            return events + run(connection, "starts_forget", before=before, most=MOST_FORGOTTEN).rowcount

    def anything_open(self) -> bool:
        """Tell whether a turn of `reconcile` may find something that was not done.

        That is so as long as any job, call, run or pending run is open or has ended just now, an event is on its way,
        or a person is to be told something. Bills, balances and what is to be deleted can wait for a later turn.
        """
        now = self._now()
        with self._engine.begin() as connection:
            since, unseen_since = now - self._timing.closed_within, now - self._timing.result_kept
            return bool(run(connection, "anything_open", since=since, unseen_since=unseen_since).scalar_one())
