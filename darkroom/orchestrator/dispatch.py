"""Carries out what a committed change implies: wakes runs, creates them, hands out free slots.

Called after the commit, by whoever made the change. Nothing here is the only chance: what fails is logged and done
again by `reconcile`, which finds it on record.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from sqlalchemy.exc import SQLAlchemyError

from darkroom.errors import DarkroomError
from darkroom.ledger import NOTHING, Granted, Implied, Ledger, Start, Wake
from darkroom.orchestrator import Orchestrator

logger = logging.getLogger(__name__)


class Dispatcher:
    def __init__(self, ledger: Ledger, orchestrator: Orchestrator) -> None:
        self._ledger = ledger
        self._orchestrator = orchestrator

    def carry_out(self, implied: Implied) -> None:
        self.reach_prefect(implied)
        if implied.grant:
            self.grant()

    def reach_prefect(self, implied: Implied) -> None:
        """Carry out the part of it that concerns runs; the grant is left to the caller."""
        for wake in implied.wakes:
            self._wake(wake)
        for start in implied.starts:
            self._start(start)
        for job_id in implied.notifies:
            with _left_to_reconcile(f"The run of {job_id} was not told that something came"):
                self.reach_prefect(self._ledger.runs.notify_job(job_id))
        for job_id in implied.cancels:
            with _left_to_reconcile(f"{job_id} was not cancelled with the job that waited for it"):
                self.carry_out(self._ledger.jobs.cancel(job_id))
        for deployment in dict.fromkeys(implied.begins):
            self._let_begin(deployment)
        if implied.assigns:
            self.reach_prefect(self.assign(implied.assigns))

    def assign(self, job_ids: Sequence[str]) -> Implied:
        """Assign jobs to runs in the ledger. Return what concerns Prefect."""
        with _left_to_reconcile(f"{len(job_ids)} jobs were not handed to a run"):
            return self._ledger.runs.assign(*job_ids)
        return NOTHING

    def begin(self, deployment: str) -> Implied:
        """Let those pending runs of the deployment begin that may, in the ledger. Return what concerns Prefect."""
        with _left_to_reconcile(f"The starts of {deployment} that are held were not looked at"):
            return self._ledger.starts.begin(deployment)
        return NOTHING

    def _let_begin(self, deployment: str) -> None:
        """Let pending runs of the deployment begin as long as there may be more."""
        again = True
        while again:
            implied = self.begin(deployment)
            again = bool(implied.begins)
            self.reach_prefect(replace(implied, begins=()))

    def begin_all(self) -> None:
        """Let pending runs of every deployment begin, for a caller that does again what was not done."""
        self.reach_prefect(self._ledger.starts.release(all=True))

    def wake_due(self) -> Implied:
        """Notify the suspended runs of which a wait is over, in the ledger. Return what concerns Prefect."""
        implied = NOTHING
        for job_id in self._ledger.waits.wake_due().notifies:
            with _left_to_reconcile(f"The run of {job_id} was not told that its time has come"):
                implied += self._ledger.runs.notify_job(job_id)
        return implied

    def grant(self) -> None:
        """Hand out the slots that are free, notify the runs, and make those that are missing."""
        self.reach_prefect(self.hand_out())

    def hand_out(self, *, on_grant: Callable[[Sequence[Granted]], None] | None = None) -> Implied:
        """Hand out the slots that are free, in the ledger. Return what concerns Prefect.

        `on_grant` is told of them before any run is; it returns at once.
        """
        granted = self._ledger.grants.grant()
        if granted and on_grant is not None:
            on_grant(granted)
        implied = NOTHING
        # One notification wakes a run for all its rows.
        for run_id, of_run in _by_run(granted).items():
            with _left_to_reconcile(f"Run {run_id} was not told of its slots"):
                job_ids = [each.job_id for each in of_run]
                implied += self._ledger.runs.notify(run_id, of_run[-1].ref, job_ids=job_ids)
        if unassigned := [each.job_id for each in granted if each.run_id is None]:
            with _left_to_reconcile(f"{len(unassigned)} jobs with a slot were not handed to a run"):
                implied += self._ledger.runs.assign(*unassigned)
        return implied

    def start_ahead(self, count: int) -> Implied:
        """Assign the next so many in line that need a run of their own: its process is there when the slot comes."""
        job_ids = self._ledger.grants.next_without_run(count)
        return self._ledger.runs.assign(*job_ids)

    def _wake(self, wake: Wake) -> None:
        with _left_to_reconcile(f"Flow run {wake.flow_run_id} was not told of {wake.event}"):
            if wake.awaits_input:
                self._orchestrator.resume(wake.flow_run_id)
                return
            self._orchestrator.wake(wake.flow_run_id, event=wake.event, request_ref=wake.ref, payload={"ref": wake.ref})

    def _start(self, start: Start) -> None:
        with _left_to_reconcile(f"Run {start.run_id} was not started"):
            self._orchestrator.ensure_queue(start.user_id, limit=start.in_flight)
            flow_run_id = self._orchestrator.create_run(
                deployment=start.deployment,
                run_key=start.run_id,
                user_id=start.user_id,
                plan=start.plan,
                parameters=start.parameters,
            )
            self._ledger.runs.created(start.run_id, flow_run_id)


def _by_run(granted: Sequence[Granted]) -> dict[str, list[Granted]]:
    """Return those of which a run has the job, by the run."""
    found: dict[str, list[Granted]] = {}
    for each in granted:
        if each.run_id is not None:
            found.setdefault(each.run_id, []).append(each)
    return found


@contextmanager
def _left_to_reconcile(what: str) -> Iterator[None]:
    """Log an effect that fails, so that it does not keep the next from happening."""
    try:
        yield
    except (DarkroomError, SQLAlchemyError) as error:
        logger.warning("%s; reconcile will do it: %s", what, error)
