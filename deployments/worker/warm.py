"""The worker: polls like any other, and runs each flow run in a child forked from a process that has imported it all.

It differs from Prefect's process worker in what it leaves out: no interpreter is started, no deployment is read twice,
no websocket is opened for each run. A child that dies hurts only itself; it is reported as crashed only while the run
is still this child's, because a suspended run may long have been resumed elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import anyio
import anyio.abc
import httpx
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType, WorkerMetadata
from prefect.exceptions import InfrastructureNotAvailable, ObjectNotFound
from prefect.states import Cancelling, Crashed
from prefect.workers.base import BaseWorker, BaseWorkerResult

from darkroom.deployments.worker import child
from darkroom.deployments.worker.children import Child, explain, explain_error
from darkroom.deployments.worker.configuration import Recipe, Recipes, WarmJobConfiguration, WarmVariables
from darkroom.deployments.worker.forkserver import CannotPreload, ForkServer
from darkroom.deployments.worker.idle_turns import IdleTurns
from darkroom.deployments.worker.internals import installed_integrations, keep_lines_to_the_worker
from darkroom.deployments.worker.listeners import Changes, LedgerListener, hear_prefect
from darkroom.deployments.worker.messages import Message, Order, Suspended
from darkroom.deployments.worker.pool import pool_is_there
from darkroom.errors import way_to
from darkroom.ledger import Ledger
from darkroom.orchestrator.missed_runs import COMPLETED
from darkroom.settings import load_settings

logger = logging.getLogger(__name__)

# Not scaled: they are how long a process takes to end, and a call to Prefect.
STOP_GRACE = timedelta(seconds=5)  # of a child when the worker is stopped
LAST_WORDS = timedelta(seconds=2)
LONG_AGO = datetime.fromtimestamp(0, UTC)


class WarmWorkerResult(BaseWorkerResult):
    """How the child ended: its exit status, negative for a signal, and its pid."""


class WarmWorker(BaseWorker[WarmJobConfiguration, WarmVariables, WarmWorkerResult]):
    type = "warm"
    job_configuration = WarmJobConfiguration
    job_configuration_variables = WarmVariables
    _display_name = "Warm"
    _description = "Runs flow runs in processes forked from one that has imported Prefect and the flows."

    def __init__(self, *args: Any, forkserver: ForkServer | None = None, **kwargs: Any) -> None:
        """`forkserver`: one that stands already; without it, one is started with the worker."""
        super().__init__(*args, **kwargs)
        self._forkserver = forkserver
        self._children: dict[UUID, Child] = {}
        self._settings = load_settings()
        self._timing = self._settings.timing
        self._recipes = Recipes(timing=self._timing, media_store=self._settings.media_store)
        self._taken_up: dict[UUID, datetime] = {}  # runs that are carried out, and since when they were ready for it
        # Resumed while their child was still ending: one process at a time for a run.
        self._ready_too_soon: set[UUID] = set()
        self._one_poll, self._one_renewal = asyncio.Lock(), asyncio.Lock()
        self._said_pending: defaultdict[UUID, asyncio.Event] = defaultdict(asyncio.Event)
        self._notified = asyncio.Event()
        self._ready: dict[UUID, datetime] = {}  # the runs of which Prefect has notified
        self._notified_for_others = False
        self._tasks: list[asyncio.Task[None]] = []
        self._ledger_ear: LedgerListener | None = None
        self._turns: IdleTurns | None = None
        self._opened = ExitStack()

    @classmethod
    def get_default_base_job_template(cls) -> dict[str, Any]:
        """Leave out what a forked child has no use for."""
        # The server checks all of it, 20 ms, whenever a run is created.
        template = super().get_default_base_job_template()
        for name in ("command", "labels", "name"):
            del template["variables"]["properties"][name], template["job_configuration"][name]
        return template

    async def _worker_metadata(self) -> WorkerMetadata | None:
        return installed_integrations()

    async def setup(self) -> None:
        # Before anything else: a flow that cannot be imported is told to who starts the worker, not to each run.
        self._forkserver = self._forkserver or await anyio.to_thread.run_sync(ForkServer)
        if not self._create_pool_if_not_found:
            await pool_is_there(self._work_pool_name)
        await super().setup()
        keep_lines_to_the_worker()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._renew)
        self._tasks = [asyncio.create_task(self._poll_when_notified()), asyncio.create_task(self._hear_prefect())]
        if url := self._settings.ledger_url:
            ledger = Ledger(url, timing=self._timing)
            self._ledger_ear = LedgerListener(ledger, self._ring, timing=self._timing)
            self._turns = IdleTurns.of_stack(ledger, settings=self._settings, opened=self._opened)

    async def teardown(self, *exc_info: Any) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
        if self._ledger_ear:
            self._ledger_ear.close()
        for task in self._tasks:
            task.cancel()
        await super().teardown(*exc_info)
        self._opened.close()
        if self._forkserver:
            self._forkserver.retire()

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Poll once at a time, and not before what the last one gave is Pending."""
        # The server counts a queue's places by what is Pending or Running, and passes over rows that are just being
        # changed: asked meanwhile, it would offer the same place once more, for another run of the queue.
        async with self._one_poll:
            known = set(self._submitting_flow_run_ids)
            taken = await super().get_and_submit_flow_runs()
            for flow_run_id in self._submitting_flow_run_ids - known:
                await self._said_pending[flow_run_id].wait()
            self._said_pending.clear()
            return taken

    async def run(
        self,
        flow_run: FlowRun,
        configuration: WarmJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> WarmWorkerResult:
        """Forks a child, puts the run on record as the child's, lets it go, and waits for its end."""
        with await self._order(flow_run, configuration) as order:
            child = await self._fork(order)
            self._children[flow_run.id] = child
            try:
                # First, so that a child that dies is known to be the one that had the run.
                await self.client.update_flow_run(flow_run.id, infrastructure_pid=str(child.pid))
                child.send(Message.GO)
                if task_status is not None:
                    task_status.started(child.pid)
                status = await child.ended()
            except BaseException:
                await self._stop(child, flow_run, configuration)
                raise
            finally:
                del self._children[flow_run.id]
        return WarmWorkerResult(status_code=status, identifier=str(child.pid))

    async def _stop(self, child: Child, flow_run: FlowRun, configuration: WarmJobConfiguration) -> None:
        """End the child as the worker is being stopped, once its paid calls under way have come in.

        What it cannot say in time, `reconcile` finds out.
        """
        with anyio.CancelScope(shield=True):
            status = await child.end(grace=STOP_GRACE)
        with anyio.move_on_after(LAST_WORDS.total_seconds(), shield=True), suppress(httpx.HTTPError):
            result = WarmWorkerResult(status_code=status, identifier=str(child.pid))
            await self._report(flow_run, configuration, result, hooks=False)

    async def kill_infrastructure(
        self, infrastructure_pid: str, configuration: WarmJobConfiguration, grace_seconds: int = 30
    ) -> None:
        """Prefect asks for it when a run is cancelled before its flow has begun."""
        child = next((each for each in self._children.values() if str(each.pid) == infrastructure_pid), None)
        if child is None:
            raise InfrastructureNotAvailable(f"No child of this worker has the pid {infrastructure_pid}.")
        await child.end(grace=timedelta(seconds=grace_seconds))

    async def _submit_run(self, flow_run: FlowRun) -> None:
        """Carry out a run that was taken, and report its end."""
        # Prefect's own asks for the deployment twice, and says five things more that nobody needs.
        self._taken_up[flow_run.id] = ready_since(flow_run)
        try:
            configuration = await self._ready_to_run(flow_run)
            if configuration is not None:
                result = await self.run(flow_run, configuration)
                await self._report(flow_run, configuration, result)
                await self._note_turn(flow_run)
        except Exception as error:
            self.get_flow_run_logger(flow_run).error("The run could not be carried out.\n%s", way_to(error))
            await self._propose_crashed_state(flow_run, f"It could not be carried out: {explain_error(error)}.")
        finally:
            self._release_limit_slot(flow_run.id)
            self._submitting_flow_run_ids.discard(flow_run.id)
            del self._taken_up[flow_run.id]
            if self._limit is not None or flow_run.id in self._ready_too_soon:  # a place is free, or it is ready again
                self._ready_too_soon.discard(flow_run.id)
                self._ring()

    async def _ready_to_run(self, flow_run: FlowRun) -> WarmJobConfiguration | None:
        """Return None if it must not run: its deployment is gone, or the server says that somebody else has it."""
        try:
            if await self._is_needless(flow_run):
                await self._take_out(flow_run)
                return None
            recipe, ours = await asyncio.gather(self._recipe(flow_run), self._propose_pending_state(flow_run))
        finally:
            self._said_pending[flow_run.id].set()  # whatever came of it, as a poll waits for it
        if recipe is None:
            await self._mark_flow_run_as_cancelled(flow_run, {"message": "Its deployment no longer exists."})
        if recipe is None or not ours:
            return None
        return await recipe.configuration(
            flow_run,
            client=self.client,
            work_pool=self.work_pool,
            worker_name=self.name,
            worker_id=self.backend_id,
        )

    async def _is_needless(self, flow_run: FlowRun) -> bool:
        """Tell whether it is a turn of `reconcile` that would find nothing to do."""
        if self._turns is None or not self._turns.may_be_needless(flow_run):
            return False
        self._said_pending[flow_run.id].set()  # its queue has no places to count: nobody need wait for the answer
        return await anyio.to_thread.run_sync(self._turns.is_needless, flow_run)

    async def _take_out(self, flow_run: FlowRun) -> None:
        """Delete the run, which has not begun, at Prefect. Where that fails, it is offered and looked at again."""
        with suppress(ObjectNotFound, httpx.HTTPError):
            await self.client.delete_flow_run(flow_run.id)

    async def _note_turn(self, flow_run: FlowRun) -> None:
        """Remember the turn of `reconcile` that has completed: the next ones may be needless."""
        if self._turns is None or not flow_run.auto_scheduled or (recipe := await self._recipe(flow_run)) is None:
            return
        deployment = recipe.deployment.name if recipe.deployment else None
        self._turns.note(flow_run, flow=recipe.flow.name, deployment=deployment)
        if (slot := self._turns.slot(flow_run)) is not None:
            ended = (await self.client.read_flow_run(flow_run.id)).state
            if ended is not None and ended.name == COMPLETED:  # not one that was skipped
                self._turns.completed(slot)

    async def _recipe(self, flow_run: FlowRun) -> Recipe | None:
        try:
            return await self._recipes.of(flow_run, self.client)
        except ObjectNotFound:
            return None

    async def _order(
        self, flow_run: FlowRun, configuration: WarmJobConfiguration, *, hooks_for: State[Any] | None = None
    ) -> AbstractContextManager[Order]:
        recipe = await self._recipes.of(flow_run, self.client)
        flow, folder = recipe.preloaded() or (None, None)
        order = Order(
            flow_run=flow_run,
            known=recipe.known(self.work_pool),
            flow=flow,
            folder=str(configuration.working_dir or folder or ""),
            environment=configuration.environment,
            stream_output=configuration.stream_output,
            hooks_for=hooks_for,
        )
        return nullcontext(order) if order.folder else _in_temporary_folder(order)

    async def _fork(self, order: Order) -> Child:
        assert self._forkserver is not None
        begun = self._forkserver.begin(child.main, order)  # at once: nobody can retire it meanwhile
        with anyio.CancelScope(shield=True):  # a child that is there is somebody's to end
            process, line = await asyncio.wrap_future(begun)
        return Child(process, line, since=ready_since(order.flow_run))

    async def _report(
        self, flow_run: FlowRun, configuration: WarmJobConfiguration, result: WarmWorkerResult, *, hooks: bool = True
    ) -> None:
        """Says what the child could not say itself, if the run is still that child's to speak for."""
        now = await self.client.read_flow_run(flow_run.id) if result.status_code != 0 else None
        # A run that was suspended may long go on elsewhere: then it is that process that speaks for it.
        if now is None or now.state is None or now.infrastructure_pid != result.identifier:
            return
        message = explain(result.status_code)
        if now.state.type in (StateType.PENDING, StateType.RUNNING):
            await self._propose_crashed_state(flow_run, message)
            if hooks:
                await self._run_hooks(flow_run, configuration, Crashed(message=message))
        elif now.state.type == StateType.CANCELLING:
            if hooks:
                await self._run_hooks(flow_run, configuration, Cancelling(message=message))
            await self._mark_flow_run_as_cancelled(flow_run, {"message": message})

    async def _run_hooks(self, flow_run: FlowRun, configuration: WarmJobConfiguration, state: State[Any]) -> None:
        """Run the flow's hooks for a state that its own process did not live to see, in their own process."""
        with await self._order(flow_run, configuration, hooks_for=state) as order:
            hooks = await self._fork(order)
            hooks.send(Message.GO)
            await hooks.ended()

    async def _poll_when_notified(self) -> None:
        while True:
            await self._notified.wait()
            self._notified.clear()
            if not self._is_wanted():
                continue
            try:
                await self.get_and_submit_flow_runs()
            except Exception as error:
                logger.warning("Prefect could not be asked for runs (%s); polling goes on", type(error).__name__)

    def _ring(self) -> None:
        """Have Prefect asked for runs, whichever are ready."""
        self._notified_for_others = True
        self._notified.set()

    def _is_wanted(self) -> bool:
        """Tell whether Prefect is to be asked: the last poll may have brought all the runs of which it has notified."""
        ready, self._ready = self._ready, {}
        others, self._notified_for_others = self._notified_for_others, False
        return others or not all(self._has_taken_up(*each) for each in ready.items())

    def _has_taken_up(self, flow_run_id: UUID, ready_at: datetime) -> bool:
        since = self._taken_up.get(flow_run_id)
        return since is not None and ready_at <= since

    async def _hear_prefect(self) -> None:
        while self._work_pool is None:  # Prefect did not answer yet
            await asyncio.sleep(1)
        again = self._timing.listen_again
        await hear_prefect(self._work_pool.id, self._heard, poll=self._poll_children, again=again)

    async def _poll_children(self) -> None:
        """Look for what polling does not tell: that a run under way was cancelled or suspended."""
        wanted = FlowRunFilter(
            id=FlowRunFilterId(any_=list(self._children)),
            state=FlowRunFilterState(name=FlowRunFilterStateName(any_=[Changes.CANCELLING, Changes.SUSPENDED])),
        )
        for run in await self.client.read_flow_runs(flow_run_filter=wanted) if self._children else []:
            if run.state and run.state.name:
                self._heard(run.state.name, run.id, run.state.timestamp)

    def _heard(self, state: str, flow_run_id: UUID, when: datetime) -> None:
        child = self._children.get(flow_run_id)
        if state in Changes.READY:
            if self._has_taken_up(flow_run_id, when):
                return  # the ledger has told of it sooner
            if flow_run_id in self._submitting_flow_run_ids:
                self._ready_too_soon.add(flow_run_id)
            else:
                self._ready[flow_run_id] = when
                self._notified.set()
        elif child is None or when <= child.since:
            # Somebody else's; without a process yet, which the server will not let begin; or of a former process: a
            # stream that is heard again begins a minute ago.
            return
        elif state == Changes.CANCELLING:
            child.cancel(grace=self._timing.cancel_grace)
        elif state == Changes.SUSPENDED:
            child.send(Suspended(state=State(type=StateType.PAUSED, name=state, timestamp=when)))

    def _renew(self) -> None:
        """SIGHUP: new code. What runs finishes on the old."""
        self._tasks.append(asyncio.create_task(self._take_up_new_code()))

    async def _take_up_new_code(self) -> None:
        async with self._one_renewal:  # in turn: of two at once the older code may take longer, and would stay
            try:
                forkserver = await anyio.to_thread.run_sync(ForkServer)
            except Exception as error:  # CannotPreload, or of this machine: no memory, no process left
                reason = str(error) if isinstance(error, CannotPreload) else type(error).__name__
                self._logger.error("The new code is not taken up, the old goes on: %s", reason)
                return
            old, self._forkserver = self._forkserver, forkserver
            self._recipes.forget()
            if old:
                old.retire()
            self._logger.info("New code is taken up; what runs finishes on the old")


def ready_since(flow_run: FlowRun) -> datetime:
    """Return when it came into the state in which the server offers it to workers, by the server's own clock."""
    return flow_run.state.timestamp if flow_run.state else LONG_AGO


@contextmanager
def _in_temporary_folder(order: Order) -> Iterator[Order]:
    with tempfile.TemporaryDirectory(prefix="darkroom-") as folder:
        yield replace(order, folder=folder)
