"""Every private name of Prefect that the warm worker leans on, and why. Prefect is pinned to 3.9 for them.

Beside these functions `WarmWorker` overrides `_submit_run` and `_worker_metadata` of `BaseWorker`, and calls
`_propose_pending_state`, `_propose_crashed_state`, `_release_limit_slot` and `_mark_flow_run_as_cancelled`; and
`forkserver` leans on multiprocessing's `_forkserver`, `_forkserver_pid` and `_forkserver_alive_fd`.
"""

from __future__ import annotations

import logging
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from importlib.metadata import entry_points
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

from prefect import flow_engine, flows, results
from prefect._flow_run_suspension import mark_flow_run_suspension_requested
from prefect._internal import control_listener
from prefect.client import orchestration
from prefect.client.schemas.objects import FlowRun, Integration, State, WorkerMetadata
from prefect.context import SyncClientContext
from prefect.engine import _drive_run_flow_result as drive
from prefect.flows import Flow
from pydantic import ConfigDict

__all__ = [
    "drive",
    "installed_integrations",
    "keep_lines_to_the_worker",
    "leave_observing_to_the_worker",
    "leave_out_what_is_known",
    "let_heartbeats_begin_late",
    "let_heartbeats_end_by_themselves",
    "share_tls_context",
    "suspended_from_outside",
    "terminate_as_cancelled",
    "use_servers_result_storage",
    "validate_by_one_model",
]


def installed_integrations() -> WorkerMetadata | None:
    """Return what a worker says of itself. By default it imports all there are for that: boto3 alone takes 20 MB."""
    points = entry_points(group="prefect.collections")
    found = [
        Integration(name=point.dist.name, version=point.dist.version)
        for point in points
        if point.dist is not None and point.dist.name.replace("-", "_") == point.name
    ]
    return WorkerMetadata(integrations=found) if found else None


def let_heartbeats_end_by_themselves() -> None:
    """Let the thread that beats end by itself. By default a run that is over waits for it, up to a second."""
    flow_engine._send_heartbeats = partial(flow_engine._send_heartbeats, join_on_exit=False)


def let_heartbeats_begin_late() -> None:
    """Let a run tell that it lives only once it has lived for as long as lies between two beats."""
    # By default its first beat comes as it begins: an event with eight related resources, just behind the one that says
    # that it is running.
    beat: Any = flow_engine.BaseFlowRunEngine._emit_flow_run_heartbeat

    def beat_unless_first(self: Any, *told: Any) -> None:
        if getattr(self, "_has_begun", False):
            beat(self, *told)
        self._has_begun = True

    flow_engine.BaseFlowRunEngine._emit_flow_run_heartbeat = beat_unless_first  # type: ignore[assignment,method-assign]


def terminate_as_cancelled() -> None:
    """Make the next SIGTERM a cancel: the engine then ends in Cancelled and runs its hooks. Without it, in Crashed."""
    control_listener._set_intent("cancel")


def suspended_from_outside(flow_run_id: UUID, state: State[Any]) -> None:
    """Tell the engine that somebody else suspended the run: it stops at the next boundary of a task."""
    mark_flow_run_suspension_requested(flow_run_id, state)


def leave_observing_to_the_worker() -> None:
    """Leave it to the worker to hear of suspensions. By default each run opens a websocket for that: 80 ms."""

    @contextmanager
    def unobserved(flow_run_id: UUID, suspension_request: Any, polling_interval: float = 10) -> Iterator[None]:
        yield

    flow_engine.observe_flow_run_suspension = unobserved  # type: ignore[attr-defined]


def leave_out_what_is_known(flow_run: FlowRun) -> None:
    """Leave out the requests with which each process of a run begins, where they say or ask what is known.

    By default a run that goes on after a suspension says its flow's version and retries once more; and each reads the
    run anew as soon as it is running.
    """
    context = SyncClientContext.get()
    assert context is not None
    client: Any = context.client
    update, read = client.update_flow_run, client.read_flow_run
    # A copy: the engine changes the run's own.
    known = {"flow_version": flow_run.flow_version, "empirical_policy": flow_run.empirical_policy.model_copy()}
    begun = False

    def update_unless_known(flow_run_id: UUID, **fields: Any) -> Any:
        if flow_run_id == flow_run.id and all(name in known and known[name] == fields[name] for name in fields):
            return None
        return update(flow_run_id, **fields)

    def read_unless_known(flow_run_id: UUID) -> FlowRun:
        nonlocal begun
        state = flow_run.state
        if begun or flow_run_id != flow_run.id or state is None or not state.is_running():
            return cast(FlowRun, read(flow_run_id))
        begun = True  # when the engine asks again it is for another attempt
        attempts = flow_run.run_count + (not flow_run.empirical_policy.resuming)
        started = {"run_count": attempts, "start_time": flow_run.start_time or state.timestamp}
        return flow_run.model_copy(update=started)

    client.update_flow_run, client.read_flow_run = update_unless_known, read_unless_known


def keep_lines_to_the_worker() -> None:
    """Keep it to the worker's own output that it takes up a run. By default that is a line, and a request, for each."""

    def is_told(line: logging.LogRecord) -> bool:
        if line.levelno < logging.WARNING:
            line.send_to_api = False
        return True

    logging.getLogger("prefect.flow_runs.worker").addFilter(is_told)


def share_tls_context() -> None:
    """Make one TLS context for all."""
    # By default each client makes one, also for plain HTTP: 20 ms, for four clients of a run.
    orchestration.ssl = SimpleNamespace(  # type: ignore[attr-defined,assignment]
        SSLContext=ssl.SSLContext,
        CERT_NONE=ssl.CERT_NONE,
        create_default_context=cache(ssl.create_default_context),
    )


def use_servers_result_storage(block_id: UUID | None) -> None:
    """Use the storage that the worker has asked for. By default each run asks the server for it, twice."""
    results._read_server_default_result_storage_block_id = lambda: block_id


def validate_by_one_model() -> None:
    """Make the model by which a flow's parameters are checked once. By default each run makes it: 5 ms."""
    prefect_flows: Any = flows
    make = prefect_flows.ValidatedFunction
    made: dict[tuple[Any, str], Any] = {}

    def of(function: Any, config: Any = None) -> Any:
        what = (function, repr(config))
        if what not in made:
            made[what] = make(function, config)
        return made[what]

    prefect_flows.ValidatedFunction = of
    for flow in _imported_flows():
        with suppress(Exception):  # what cannot be checked is for the run to find out
            of(flow.fn, ConfigDict(arbitrary_types_allowed=True))  # as `Flow.validate_parameters` has it


def _imported_flows() -> list[Flow[..., Any]]:
    named = (each for module in list(sys.modules.values()) for each in list(getattr(module, "__dict__", {}).values()))
    return [each for each in named if issubclass(type(each), Flow)]
