"""The runner: one Prefect run that carries one job or many.

It looks in the ledger, calls the job functions that can go on, and waits: a while in its process (the patience), where
Postgres notifies it of what was committed for it, then not at all: the run suspends and an event brings it back. Only
the runner waits, never a task. A job's failure is its own; the run goes on with the others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from darkroom.engine.calls import Calls, JobFunction
from darkroom.engine.looks import Looks, job_ids_in
from darkroom.engine.polling import Poller
from darkroom.engine.resources import Resources, open_resources
from darkroom.engine.suspend import pause, suspend
from darkroom.engine.ui.report import Reports
from darkroom.ledger import ON_DEMAND, OUTAGES, JobStatus, Ledger, Run, WakeRun, Work
from darkroom.orchestrator.run_states import RunState
from darkroom.orchestrator.state_names import RECOVERING

PREFECTS_NET = timedelta(hours=24)  # its time-out of a suspension is only the net under the ledger's deadlines
COLLECTS_SECONDS = 0.01  # between two looks at least: what comes meanwhile is one look
FOREVER = timedelta(days=100 * 366)
MOST_OUTAGE_PAUSES = 6  # each twice as long as the one before: a minute


def drive(
    function: JobFunction,
    *,
    kind: str,
    parameters: Mapping[str, Any],
    user: str,
    as_tasks: bool = True,
    patience: timedelta = timedelta(0),
    check: Callable[[], None] | None = None,
) -> State[Any]:
    """Carry the run's jobs to their ends and return the flow's final state.

    A run that the gateway made finds its jobs in the ledger; one that a person started opens its own, with these
    parameters, for this user (a name or an id). A finished run that a person retries goes on with its failed jobs.
    `as_tasks`: each step of a lone job is a task in Prefect's UI. Not for a job of hundreds of steps. `patience`: how
    long it waits in its process at least, for a run to which something will come soon; scaled like our own limits.
    `check`: raises for what is wrong with the parameters, before anything is on record. What is, goes on, though its
    model's card has changed since, or is not sold any more.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        if check is not None:
            check()  # what is wrong with the order is told first, as far as it can be seen without a ledger
        raise RuntimeError("drive() is called inside a flow run.")
    with open_resources() as resources:
        run = _entered(resources, context.flow_run)
        if run is None:
            if check is not None:
                check()
            run = _opened(resources, context.flow_run, kind=kind, parameters=parameters, user=user)
        if run.closed_at is not None:  # a person retries it, or its process died before it could tell Prefect
            run = _retried(resources, run, context.flow_run.id)
        if run.closed_at is None:
            Runner(
                resources,
                run,
                function,
                deployed=context.flow_run.deployment_id is not None,
                as_tasks=as_tasks,
                patience=patience,
                suspension=context.flow_run_suspension_request,
            ).carry()
        return _final_state(resources.ledger, run.id)


class Suspension(Protocol):
    """That somebody has suspended the run in Prefect, while its process runs."""

    def is_requested(self) -> bool: ...

    def raise_if_requested(self) -> None:
        """Raise Prefect's `Pause`, with which a flow ends that goes on later."""


class Runner:
    def __init__(
        self,
        resources: Resources,
        run: Run,
        function: JobFunction,
        *,
        deployed: bool,
        as_tasks: bool,
        patience: timedelta,
        suspension: Suspension,
    ) -> None:
        assert run.flow_run_id is not None
        self._resources = resources
        self._ledger = resources.ledger
        self._timing = resources.timing
        self._poll_seconds = self._timing.work_poll.total_seconds()
        self._run_id = run.id
        self._flow_run_id: UUID = run.flow_run_id
        self._shared = run.shared
        self._deployed = deployed
        self._as_tasks = as_tasks
        self._patience = max(self._timing.scale(patience), self._timing.patience).total_seconds()
        self._suspension = suspension
        self._suspended_by_hand = False
        self._reports = Reports(resources, run.flow_run_id)
        self._calls = Calls(function, resources, self._reports)
        self._poller = Poller(resources, run.id)
        self._only: str | None = None  # the one job that the run has had so far
        self._several = self._ledger.runs.has_had_several(run.id)

    def carry(self) -> None:
        """Work until no job is open, and none came while the run lingered.

        A ledger that restarts meanwhile is waited for.
        """
        closed, outages, calm_since = False, 0, float("-inf")
        while not closed:
            try:
                closed = self._round()
            except OUTAGES as error:
                calm = time.monotonic() - calm_since > self._timing.ledger_outage.total_seconds()
                outages = 0 if calm else outages + 1
                self._until_the_ledger_is_back(error)
                # A database of the pipeline's own that is out looks the same, and then the ledger answers at once.
                time.sleep(self._poll_seconds * 2 ** min(outages, MOST_OUTAGE_PAUSES))
                calm_since = time.monotonic()
        self._reports.show_waits(self._run_id)

    def _round(self) -> bool:
        """Work, then suspend or close the run. Return True if the run is closed."""
        if self._work():
            self._suspend()
            return False
        return self._ledger.runs.close(self._run_id)  # not where a job was handed to it since the last look

    def _until_the_ledger_is_back(self, error: Exception) -> None:
        get_run_logger().warning("The ledger cannot be reached, waiting for it: %s", type(error).__name__)
        deadline = time.monotonic() + self._timing.ledger_outage.total_seconds()
        while not self._ledger.answers():
            if time.monotonic() > deadline:
                raise error  # the run fails, and `reconcile` puts it back
            time.sleep(self._poll_seconds)
        self._calls.forget()

    def _work(self) -> bool:
        """Call what can go on until nothing has moved for as long as the run stays in its process.

        Return True if jobs are still open.
        """
        with (
            self._alive(),
            self._ledger.listen(self._run_id) as listener,  # before the first look: what comes after that is heard
            self._reports.sending(),  # left after the calls: what they have to show is sent
            self._poller.threads(),
            self._calls.threads(listener),
        ):
            moved = time.monotonic()
            looks = Looks(self._ledger, self._run_id)
            while True:
                # First what ended calls say that their jobs wait for: the look goes by that.
                going_on, ended = self._calls.take_in()
                told = going_on | job_ids_in(listener.heard())
                self._heed_a_suspension()
                looked_at = time.monotonic()
                work = looks.look(self._calls.waits, told, ended=ended)
                self._calls.start(work, as_tasks=self._as_tasks and self._is_alone(work))
                if self._calls.busy:
                    moved = time.monotonic()
                left = moved + self._stay(work) - time.monotonic()
                if left <= 0 and not self._calls.busy:
                    return bool(work.open)
                again = min(self._calls.next_due, self._until_the_next_time())
                poll = self._poll_seconds
                # Never for longer than providers are polled: without a public address nothing else tells.
                listener.wait(min(poll, again, poll if self._calls.busy else left))
                time.sleep(max(0.0, looked_at + COLLECTS_SECONDS - time.monotonic()))
                self._poller.ask_all()
                self._reports.send_what_is_due()

    def _heed_a_suspension(self) -> None:
        """Record a suspension that a person asked for. The process leaves as soon as it can."""
        # Prefect's engine would heed it at the next task, and there may be none.
        if not self._suspended_by_hand and self._suspension.is_requested():
            self._ledger.runs.suspended_by_hand(self._run_id)
            self._suspended_by_hand = True

    def _stay(self, work: Work) -> float:
        """Return the seconds to stay in the process though nothing moves: for an answer, or for the user's next job."""
        if work.open and (self._suspended_by_hand or self._calls.form is not None):
            return 0  # for a person, who takes minutes or days
        if work.open:
            # Nothing is expected but the time of a wait, or an event in its own time: if that is far away, no process.
            asleep = self._calls.sleep(work.open) and self._until_the_next_time() > self._patience
            return 0 if asleep else self._patience
        return self._timing.linger.total_seconds() if self._shared else 0

    def _until_the_next_time(self) -> float:
        """Return the seconds until the next time at which a wait is over.

        Infinite where no wait has one, or it has passed: then the ledger says whether that still counts.
        """
        due = self._calls.next_time
        left = float("inf") if due is None else (due - self._resources.clock()).total_seconds()
        return left if left > 0 else float("inf")

    def _is_alone(self, work: Work) -> bool:
        """Return whether the run has only ever had one job: then each step of it is shown."""
        self._only = self._only or next(iter(work.open), None)
        self._several = self._several or any(job_id != self._only for job_id in work.open)
        return not self._several

    def _suspend(self) -> None:
        """Give the process back, as nothing has come for the patience."""
        timeout = self._until_the_net()
        self._reports.show_waits(self._run_id, leaving=True)
        if self._suspended_by_hand:
            self._on_suspended()
            self._suspension.raise_if_requested()
        elif self._deployed:
            suspend(timeout=timeout, on_suspended=self._on_suspended, form=self._calls.form)
        else:  # Prefect suspends only what a deployment starts again
            pause(self._resources.orchestrator, self._flow_run_id, timeout=timeout, on_suspended=self._on_suspended)
            self._ledger.runs.enter(self._flow_run_id, run_key=None)  # this process goes on, so nobody else enters

    def _on_suspended(self) -> None:
        awaits_input = self._deployed and self._calls.form is not None
        if self._ledger.runs.on_suspended(self._run_id, self._calls.waits, awaits_input=awaits_input):
            return
        # Something came between the last look and Prefect's word, and found nobody suspended: the run wakes itself.
        wake = WakeRun(
            flow_run_id=self._flow_run_id, ref=self._run_id, event="darkroom.run.woken", awaits_input=awaits_input
        )
        self._resources.dispatcher.carry_out((wake,))

    def _until_the_net(self) -> timedelta:
        """Return the time-out of the suspension: Prefect fails a run that was suspended for longer."""
        waits = self._ledger.waits.outlook(self._run_id)
        if waits.endless:
            return FOREVER
        ends = [row.deadline_at for row in self._ledger.requests.in_flight_of_run(self._run_id)] + [waits.until]
        now = self._resources.clock()
        return PREFECTS_NET + max([end - now for end in ends if end is not None], default=timedelta(0))

    @contextmanager
    def _alive(self) -> Iterator[None]:
        """Record every few seconds that this process carries the run."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(self._timing.renewal.total_seconds()):
                with suppress(*OUTAGES):  # a lease outlasts a few that do not get through
                    self._ledger.runs.renew(self._run_id)

        thread = threading.Thread(target=renew, daemon=True, name="alive")
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _entered(resources: Resources, flow_run: FlowRun) -> Run | None:
    """Return the run, which goes on here; None for one that the ledger does not know."""
    entered = resources.ledger.runs.enter(flow_run.id, run_key=flow_run.idempotency_key)
    if entered is None:
        return None
    run, implied = entered
    resources.dispatcher.carry_out(implied)
    return run


def _opened(resources: Resources, flow_run: FlowRun, *, kind: str, parameters: Mapping[str, Any], user: str) -> Run:
    """Put a run that a person has started on record, with its own job."""
    owner = resources.ledger.users.find(user)
    resources.orchestrator.add_tags(flow_run.id, [f"user:{owner.id}", f"plan:{owner.plan}"])
    deployment = resources.orchestrator.deployment_of(flow_run.deployment_id) if flow_run.deployment_id else ON_DEMAND
    return resources.ledger.runs.open_own(
        flow_run.id, user_id=owner.id, kind=kind, deployment=deployment, parameters=parameters
    )


def _retried(resources: Resources, run: Run, flow_run_id: UUID) -> Run:
    """Reopen the run where a person has asked for it and something of it failed.

    What has succeeded is not done again.
    """
    if not is_retried(resources.orchestrator.history(flow_run_id)):
        return run
    reopened = resources.ledger.runs.reopen(run.id)
    if reopened is None:
        return run
    run, implied = reopened
    resources.dispatcher.carry_out(implied)
    return run


def is_retried(history: Sequence[RunState]) -> bool:
    """Return whether a person started an ended run again: in Prefect's UI or by `prefect flow-run retry`.

    `history`: oldest state first. A run that crashed when its end was on record already, and was requeued (Recovering),
    only has to say so.
    """
    ends = [n for n, state in enumerate(history) if state.is_final]
    return bool(ends) and all(state.name != RECOVERING for state in history[ends[-1] :])


def _final_state(ledger: Ledger, run_id: str) -> State[Any]:
    """Return the flow's final state.

    One job: its own ending. Several: completed, and the message counts them.
    """
    endings = ledger.jobs.endings(run_id)
    message = ", ".join(f"{endings[status]} {status.value}" for status in JobStatus if status in endings)
    if endings == {JobStatus.FAILED: 1}:
        (job,) = ledger.jobs.of_run(run_id)
        return Failed(message=str((job.error or {}).get("message")))
    return Completed(message=message or "Its jobs were replayed, and other runs have them.")
