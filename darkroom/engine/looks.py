"""What the runner finds when it looks in the ledger: all of the run's open jobs, or those alone of which it was told.

A notification says which jobs something came for. All of them are looked at where it is not known which have moved,
each second (`Timing.work_poll`) all the same, and always where a job waits for other than calls: for a time, for its
rows, for a person.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from darkroom.ledger import Ledger, Work

NOTHING_YET = Work(open=(), ready=(), came=frozenset())
ANY = ""  # a job of which the notification does not say which it is


def job_ids_in(heard: Iterable[str]) -> set[str]:
    """Return the jobs that notifications name; among them `ANY` for one that names none."""
    return {job_id for said in heard for job_id in (said.split() or [ANY])}


class Looks:
    def __init__(self, ledger: Ledger, run_id: str) -> None:
        self._ledger = ledger
        self._run_id = run_id
        self._every = ledger.timing.work_poll.total_seconds()
        self._all_at = float("-inf")  # when all were looked at
        self._work = NOTHING_YET

    def look(self, waits: Mapping[str, Collection[str]], told: Collection[str], *, ended: Collection[str] = ()) -> Work:
        """Find the run's open jobs, and which of them can go on (`Runs.poll_work`).

        `told`: the jobs that have moved since the last look, as far as this process was told. `ended`: those whose end
        this process has put on record.
        """
        now = time.monotonic()
        if ANY in told or now - self._all_at >= self._every or _for_other_than_calls(waits):
            self._all_at = now
            self._work = self._ledger.runs.poll_work(self._run_id, waits)
            return self._work
        # Need not be asked for. One that a replay has reopened since is told of, or found by the next look at all.
        self._work = merged(self._work, NOTHING_YET, ended)
        if told:
            # In a burst that is one webhook or a few. To read two hundred jobs for each cost more than what came.
            own = {job_id: waits[job_id] for job_id in told if job_id in waits}
            self._work = merged(self._work, self._ledger.runs.poll_work(self._run_id, own, only=told), told)
        return self._work


def merged(before: Work, part: Work, looked_at: Collection[str]) -> Work:
    """Return what is known of all jobs after some of them were looked at."""
    known = set(before.open)
    still = set(part.open)
    ready = [job_id for job_id in before.ready if job_id not in looked_at] + list(part.ready)
    work = Work(
        open=(
            *(job_id for job_id in before.open if job_id not in looked_at or job_id in still),
            *(job_id for job_id in part.open if job_id not in known),
        ),
        ready=tuple(ready),
        came=before.came - set(looked_at) | part.came,
        sent=before.sent - set(looked_at) | part.sent,
    )
    return replace(work, ready=tuple(sorted(ready, key=work.urgency)))


def _for_other_than_calls(waits: Mapping[str, Collection[str]]) -> bool:
    # What is no call has a word in front: `rows:`, `choice:`, `wait:`.
    return any(":" in ref for refs in waits.values() for ref in refs)
