"""The runner: one Prefect run that carries one job or many.

It looks in the ledger, calls the job functions that can go on, and waits: a while in its process (the patience), where
Postgres rings when something was committed for it, then not at all: the run suspends and an event brings it back. Only
the runner waits, never a task. A job's failure is its own; the run goes on with the others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from blocks.clock import utc_now
from blocks.errors import DarkroomError
from blocks.ledger import OUTAGES, Bell, JobStatus, Run
from blocks.ledger import Job as JobRow
from blocks.outcomes import ask_provider, error_document
from flows.engine.job import Cancelled, Job, Waiting
from flows.engine.resources import Resources, open_resources
from flows.engine.waiting import pause, suspend

JobFunction = Callable[[Job], object]

SIDE_BY_SIDE = 8  # job functions called at once; each is short, the provider's time is not spent here
LINGER = timedelta(seconds=2)  # how long a run that others may share stays for the user's next job
RENEWAL = timedelta(seconds=5)
TICK = 1.0  # seconds between looks when nobody rings (a lost connection, a private network)
LONGEST_OUTAGE = timedelta(minutes=2)  # of the ledger, before the run gives up its process
NET = timedelta(hours=24)  # Prefect's time-out is only the net under the ledger's deadlines


def drive(function: JobFunction, *, parameters: Mapping[str, Any], user: str) -> State[Any]:
    """Carries the run's jobs to their ends and returns the flow's final state.

    A run that the gateway made finds its jobs in the ledger; one that a person started opens its own, with these
    parameters, for this user (a name or an id).
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow is None:
        raise RuntimeError("drive() is called inside a flow run.")
    with open_resources() as resources:
        run = _enter(resources, context.flow_run, kind=context.flow.name, parameters=parameters, user=user)
        if run.closed_at is None:
            Runner(resources, run, function, deployed=context.flow_run.deployment_id is not None).carry()
        return _final_state(resources, resources.ledger.jobs.of_run(run.id))


class Runner:
    def __init__(self, resources: Resources, run: Run, function: JobFunction, *, deployed: bool) -> None:
        assert run.flow_run_id is not None
        self._resources = resources
        self._ledger = resources.ledger
        self._run_id = run.id
        self._flow_run_id: UUID = run.flow_run_id
        self._shared = run.shared
        self._function = function
        self._deployed = deployed
        self._waits: dict[str, frozenset[str]] = {}  # what each job waits for; a job that is not here is ready

    def carry(self) -> None:
        """Until no job is open, and none came while it lingered. A ledger that restarts meanwhile is waited for."""
        closed = False
        while not closed:
            try:
                closed = self._round()
            except OUTAGES as error:
                self._until_the_ledger_is_back(error)

    def _round(self) -> bool:
        """Works, then leaves or closes. True if the run is closed."""
        if self._work():
            self._leave()
            return False
        return not self._another_comes() and self._ledger.runs.close(self._run_id)

    def _until_the_ledger_is_back(self, error: Exception) -> None:
        """Then every job is called afresh: what was under way is on record, or it did not happen."""
        get_run_logger().warning("The ledger cannot be reached, waiting for it: %s", type(error).__name__)
        deadline = time.monotonic() + LONGEST_OUTAGE.total_seconds()
        while not self._ledger.answers():
            if time.monotonic() > deadline:
                raise error
            time.sleep(TICK)
        self._waits.clear()

    def _work(self) -> bool:
        """Calls what can go on until nothing has moved for the patience. True if jobs are still open."""
        patience = self._resources.settings.patience.total_seconds()
        with self._alive(), self._ledger.listen(self._run_id) as bell, self._pool() as pool:
            until = time.monotonic() + patience
            while True:
                work = self._ledger.runs.look(self._run_id, self._waits)
                if work.ready:
                    self._call_all(pool, work.ready)
                    until = time.monotonic() + patience
                elif not work.open:
                    return False
                elif time.monotonic() >= until:
                    return True
                else:
                    self._wait(bell, until)

    def _wait(self, bell: Bell, until: float) -> None:
        if bell.wait(max(0.0, min(TICK, until - time.monotonic()))):
            return
        if self._resources.settings.webhook_url is None:
            self._poll()

    def _poll(self) -> None:
        for row in self._ledger.requests.in_flight_of_run(self._run_id):
            try:
                outcome = ask_provider(self._resources.fal, row)
            except DarkroomError as error:
                get_run_logger().info("%s could not be polled: %s", row.ref, error)
                continue
            if outcome is not None:
                _, implied = self._ledger.requests.settle(row.ref, outcome, via="poll")
                self._resources.dispatcher.carry_out(implied)

    def _another_comes(self) -> bool:
        """Lingers for the user's next job, where the run takes any."""
        until = time.monotonic() + (LINGER.total_seconds() if self._shared else 0)
        with self._alive(), self._ledger.listen(self._run_id) as bell:
            while not self._ledger.runs.look(self._run_id, {}).open:
                if (left := until - time.monotonic()) <= 0:
                    return False
                bell.wait(min(TICK, left))
        return True

    def _call_all(self, pool: ThreadPoolExecutor, job_ids: Iterable[str]) -> None:
        """One job in this thread, several side by side; each thread sees the run's context, so tasks belong to it."""
        ids = list(job_ids)
        if len(ids) == 1:
            self._call(ids[0])
            return
        for future in [pool.submit(copy_context().run, self._call, job_id) for job_id in ids]:
            future.result()

    def _call(self, job_id: str) -> None:
        row = self._ledger.jobs.get(job_id)
        assert row is not None
        self._ledger.jobs.started(job_id)
        try:
            if row.cancel_requested_at is not None:
                self._cancel_at_provider(row)
            self._function(Job(row, self._resources))
        except Waiting as waiting:
            not_yet_cancelled = frozenset({job_id} if row.cancel_requested_at is None else ())
            self._waits[job_id] = waiting.refs | not_yet_cancelled
        except Cancelled:
            self._finish(row, JobStatus.CANCELLED, None)
        except DarkroomError as error:
            self._finish(row, JobStatus.FAILED, error)
        except OUTAGES:
            raise  # the ledger's failure is not the job's
        except Exception as error:
            get_run_logger().exception("Job %s failed in our own code", job_id)
            self._finish(row, JobStatus.FAILED, DarkroomError(type(error).__name__, code="internal_error"))
        else:
            self._finish(row, JobStatus.COMPLETED, None)

    def _cancel_at_provider(self, job: JobRow) -> None:
        """The slot stays held until the provider is done with it: a running request runs on and is billed."""
        for row in self._ledger.requests.of_job(job.id):
            if row.status.terminal or row.request_id is None:
                continue
            try:
                self._resources.fal.cancel(row.endpoint, row.request_id)
            except DarkroomError as error:
                get_run_logger().warning("%s could not be cancelled at the provider: %s", row.ref, error)

    def _finish(self, job: JobRow, status: JobStatus, error: DarkroomError | None) -> None:
        self._waits.pop(job.id, None)
        document = None if error is None else error_document(error)
        self._resources.dispatcher.carry_out(self._ledger.jobs.finish(job.id, status, error=document))
        get_run_logger().info("Job %s %s%s", job.id, status, f": {error}" if error else "")

    def _leave(self) -> None:
        """Nothing has come for the patience: give the process back."""
        timeout = self._until_the_net()
        if self._deployed:
            suspend(timeout=timeout, when_left=self._left)
        else:
            pause(self._resources.orchestrator, self._flow_run_id, timeout=timeout, when_left=self._left)
            self._ledger.runs.enter(self._flow_run_id, run_key=None)

    def _left(self) -> None:
        if not self._ledger.runs.left(self._run_id, self._waits):
            self._resources.orchestrator.wake(
                self._flow_run_id, event="darkroom.run.woken", request_ref=self._run_id, payload={}
            )

    def _until_the_net(self) -> timedelta:
        deadlines = [row.deadline_at for row in self._ledger.requests.in_flight_of_run(self._run_id)]
        return NET + max([due - utc_now() for due in deadlines if due is not None], default=timedelta(0))

    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="job")

    @contextmanager
    def _alive(self) -> Iterator[None]:
        """Says every few seconds that this process carries the run."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(RENEWAL.total_seconds()):
                with suppress(*OUTAGES):
                    self._ledger.runs.renew(self._run_id)

        thread = threading.Thread(target=renew, daemon=True, name="alive")
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _enter(resources: Resources, flow_run: FlowRun, *, kind: str, parameters: Mapping[str, Any], user: str) -> Run:
    run = resources.ledger.runs.enter(flow_run.id, run_key=flow_run.idempotency_key)
    if run is not None:
        return run
    owner = resources.ledger.users.find(user)
    resources.orchestrator.add_tags(flow_run.id, [f"user:{owner.id}", f"plan:{owner.plan}"])
    return resources.ledger.runs.open_own(flow_run.id, user_id=owner.id, kind=kind, parameters=parameters)


def _final_state(resources: Resources, jobs: list[JobRow]) -> State[Any]:
    """One job: its own ending. Several: completed, and the message counts them. The data are ids, never content."""
    data = [{"job": job.id, "status": job.status.value} for job in jobs]
    if len(jobs) == 1 and jobs[0].status is JobStatus.FAILED:
        return Failed(message=str((jobs[0].error or {}).get("message")), data=data)
    counts = {status: sum(job.status is status for job in jobs) for status in JobStatus}
    return Completed(message=", ".join(f"{n} {status.value}" for status, n in counts.items() if n), data=data)
