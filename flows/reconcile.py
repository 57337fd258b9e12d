"""The guarantee behind the fast path: does again whatever was implied and not done.

Cron deployment, every minute; several may be started, one works (`pg_try_advisory_lock`), the others leave at once.
`decide_request` and `decide_run` are pure functions from a row and the time to what is to be done; `Reconciler` does
it. Fails only if the ledger cannot be reached; what one row raises is logged and does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial

from prefect import flow
from prefect.logging import get_run_logger

from blocks.clock import utc_now
from blocks.errors import DarkroomError
from blocks.fal import find_model
from blocks.ledger import Happening, JobStatus, Outcome, Request, RequestStatus, Run
from blocks.lost_submits import adopt_lost_submits
from blocks.orchestrator import RunState
from blocks.outcomes import ask_provider, error_document
from flows.engine.resources import Resources, open_resources

SUBMIT_LIMIT = timedelta(seconds=60)  # a POST has 30 s: a row that is still submitting has lost its process
WAKE_AGAIN = timedelta(seconds=10)  # event to first line takes two or three
STARTED_BY = timedelta(seconds=15)
PENDING_LIMIT = timedelta(seconds=60)
GRACE = timedelta(seconds=30)  # past `alive_until`, which is renewed every 5 s


class ForRequest(StrEnum):
    NOTHING = "nothing"
    POLL = "poll"
    LOSE = "lose"  # submitting for too long: unknown from now on
    CANCEL = "cancel"  # its end was asked for, and the provider has it
    EXPIRE = "expire"  # no sign of it within its time: given up, a new attempt follows
    OVERDUE = "overdue"  # the provider has it still, past its deadline: asked once more, else cancelled and given up


class ForRun(StrEnum):
    NOTHING = "nothing"
    CREATE = "create"  # on record, but Prefect does not know it
    WAKE = "wake"  # it has work and has left, or its wake was not heard
    RECOVER = "recover"  # its process is gone
    HAND_OVER = "hand over"  # … and no worker can start it again: its jobs go to a run that one can
    CLOSE = "close"  # it has ended at Prefect: its jobs end with it


def decide_request(
    row: Request, *, now: datetime, expected: timedelta, start_timeout: timedelta, webhooks: bool
) -> ForRequest:
    """`webhooks`: whether the provider can reach us; if it can, only a silent row is asked about."""
    since = now - (row.submitted_at or now)
    match row.status:
        case RequestStatus.SUBMITTING if since > SUBMIT_LIMIT:
            return ForRequest.LOSE
        case RequestStatus.UNKNOWN if since > start_timeout + 3 * expected + SUBMIT_LIMIT:
            return ForRequest.EXPIRE
        case RequestStatus.IN_FLIGHT if row.cancel_requested_at is not None:
            return ForRequest.CANCEL
        case RequestStatus.IN_FLIGHT if row.deadline_at is not None and now > row.deadline_at:
            return ForRequest.OVERDUE
        case RequestStatus.IN_FLIGHT if not webhooks or since > max(timedelta(seconds=20), 3 * expected):
            return ForRequest.POLL
        case _:
            return ForRequest.NOTHING


def decide_run(run: Run, state: RunState | None, *, now: datetime, has_granted: bool) -> ForRun:
    """`state`: Prefect's, None if it has no such run; `has_granted`: a row of the run holds a slot it has not used."""
    if run.flow_run_id is None or state is None:
        return ForRun.CREATE if now - run.created_at > STARTED_BY else ForRun.NOTHING
    if state.type in ("COMPLETED", "FAILED", "CANCELLED"):
        return ForRun.CLOSE
    if state.type == "PAUSED":
        return ForRun.WAKE if _ought_to_be_awake(run, now=now, has_granted=has_granted) else ForRun.NOTHING
    if not _lost(run, state, now=now):
        return ForRun.NOTHING
    return ForRun.RECOVER if state.deployed else ForRun.HAND_OVER


def _lost(run: Run, state: RunState, *, now: datetime) -> bool:
    if state.type == "CRASHED":
        return True
    if state.type == "PENDING" and now - state.timestamp > PENDING_LIMIT:
        return True  # its worker died before it had started a process, and no other takes a pending run
    silent = run.alive_until is not None and now - run.alive_until > GRACE
    return silent and state.type == "RUNNING"


def _ought_to_be_awake(run: Run, *, now: datetime, has_granted: bool) -> bool:
    if run.woken_at is not None:
        return now - run.woken_at > WAKE_AGAIN
    if run.left_at is not None:
        return has_granted
    # Suspended, yet never marked as left: its process died between Prefect's word and ours.
    return run.alive_until is None or now - run.alive_until > GRACE


class Reconciler:
    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._ledger = resources.ledger

    def once(self) -> None:
        self._each("Every lost submit", self._lost_submits)
        for row in self._ledger.requests.holding_slots():
            self._each(row.ref, partial(self._request, row))
        self._each("Every run", self._runs)
        for job_id in self._ledger.jobs.unplaced():
            self._each(job_id, partial(self._place, job_id))
        self._resources.dispatcher.grant()

    def _each(self, name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except DarkroomError as error:
            get_run_logger().warning("%s is left for the next time: %s", name, error)

    def _lost_submits(self) -> None:
        """First: what is found is polled, or cancelled, in the same turn."""
        for ref in adopt_lost_submits(self._ledger, self._resources.fal, self._ledger.requests.holding_slots()):
            get_run_logger().info("Request %s: found at the provider", ref)

    def _request(self, row: Request) -> None:
        model = find_model(row.endpoint)
        what = decide_request(
            row,
            now=utc_now(),
            expected=model.expected,
            start_timeout=model.start_timeout,
            webhooks=self._resources.settings.webhook_url is not None,
        )
        match what:
            case ForRequest.POLL:
                if (outcome := ask_provider(self._resources.fal, row)) is None:
                    return  # it runs on: nothing to tell
                self._settle(row, outcome, via="poll")
            case ForRequest.CANCEL if row.request_id is not None:
                self._resources.fal.cancel(row.endpoint, row.request_id)
                self._settle(row, ask_provider(self._resources.fal, row), via="poll")
            case ForRequest.OVERDUE:
                self._settle(row, ask_provider(self._resources.fal, row) or self._give_up(row), via="poll")
            case ForRequest.LOSE:
                self._ledger.requests.answer_lost(row.ref)
            case ForRequest.EXPIRE:
                self._settle(row, Outcome(happening=Happening.EXPIRE), via=None)
            case _:
                return
        get_run_logger().info("Request %s: %s", row.ref, what)

    def _give_up(self, row: Request) -> Outcome:
        """A request that runs on regardless is billed: its late result is kept and costed."""
        assert row.request_id is not None
        self._resources.fal.cancel(row.endpoint, row.request_id)
        return Outcome(happening=Happening.EXPIRE)

    def _settle(self, row: Request, outcome: Outcome | None, *, via: str | None) -> None:
        if outcome is not None:
            self._resources.dispatcher.carry_out(self._ledger.requests.settle(row.ref, outcome, via=via)[1])

    def _runs(self) -> None:
        """Prefect is asked about all of them at once: hundreds may be suspended, and want nothing."""
        runs = self._ledger.runs.not_closed()
        states = self._resources.orchestrator.run_states(run.flow_run_id for run in runs if run.flow_run_id)
        with_granted = self._ledger.runs.with_granted()
        for run in runs:
            state = states.get(run.flow_run_id) if run.flow_run_id else None
            what = decide_run(run, state, now=utc_now(), has_granted=run.id in with_granted)
            if what is not ForRun.NOTHING:
                self._each(run.id, partial(self._run, run, state, what))

    def _run(self, run: Run, state: RunState | None, what: ForRun) -> None:
        orchestrator = self._resources.orchestrator
        if what is ForRun.CREATE:
            self._resources.dispatcher.carry_out(self._ledger.runs.start_again(run.id))
        elif run.flow_run_id is not None and what is ForRun.WAKE:
            self._ledger.runs.mark_woken(run.id)
            orchestrator.resume(run.flow_run_id)
        elif run.flow_run_id is not None and what is ForRun.RECOVER:
            orchestrator.recover(run.flow_run_id)
        elif what is ForRun.HAND_OVER:
            self._resources.dispatcher.carry_out(self._ledger.runs.hand_over(run.id))
        elif what is ForRun.CLOSE and state is not None:
            self._close(run, state)
        get_run_logger().info("Run %s: %s", run.id, what)

    def _close(self, run: Run, state: RunState) -> None:
        """Ends the jobs of a run that was cancelled or gave up."""
        status = JobStatus.CANCELLED if state.type == "CANCELLED" else JobStatus.FAILED
        error = DarkroomError(f"The flow run ended before the job: {state.name}.", code="run_ended")
        for job_id in self._ledger.runs.end(run.id):
            document = None if status is JobStatus.CANCELLED else error_document(error)
            self._resources.dispatcher.carry_out(self._ledger.jobs.finish(job_id, status, error=document))

    def _place(self, job_id: str) -> None:
        self._resources.dispatcher.carry_out(self._ledger.runs.place(job_id))


@flow(name="reconcile", retries=0)
def reconcile() -> None:
    """Does again what was implied by a change in the ledger and not done."""
    with open_resources() as resources, resources.ledger.only_one("reconcile") as chosen:
        if chosen:
            Reconciler(resources).once()


if __name__ == "__main__":
    reconcile()
