"""One attempt of one flow run, in its own process that was forked ready to go.

What `python -m prefect.engine` does, less what the worker has done already: it need not read the run, its deployment or
its code. It begins when the worker has put the run on record as this process's, and dies with the worker.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

from prefect.client.schemas.objects import FlowRun, State, WorkQueue
from prefect.context import SyncClientContext, refresh_global_settings_context
from prefect.engine import handle_engine_signals
from prefect.events.related import RESOURCE_CACHE
from prefect.flow_engine import load_flow, run_flow
from prefect.flows import Flow
from prefect.logging.configuration import setup_logging
from prefect.logging.loggers import flow_run_logger

from darkroom.clock import utc_now
from darkroom.deployments.kernel import die_with, show_as
from darkroom.deployments.worker.internals import (
    drive,
    leave_out_what_is_known,
    suspended_from_outside,
    terminate_as_cancelled,
    use_servers_result_storage,
)
from darkroom.deployments.worker.messages import Message, Order, Suspended
from darkroom.engine.paid_calls import PAID_CALLS
from darkroom.media.store import know_folder


def main(order: Order, line: Connection) -> None:
    from darkroom.deployments.worker import preload  # here, as the worker imports this module too

    die_with(preload.PID)
    show_as(f"flow-{order.flow_run.id.hex}")
    _take_place(order)
    go = threading.Event()
    threading.Thread(target=_obey, args=(order.flow_run, line, go), daemon=True, name="line").start()
    _remember(order)
    with _client(preload, order.environment):
        go.wait()  # until the run is on record as this process's
        if order.hooks_for is None:
            _run(order)
        else:
            _run_hooks(order)


def _take_place(order: Order) -> None:
    """Take the environment, folder and signals that a process of the run's own would have been started with."""
    os.setsid()  # Ctrl-C in a terminal is for the worker
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # which the forkserver ignores
    os.environ.clear()
    os.environ.update(order.environment)
    # What an interpreter reads when it starts.
    time.tzset()
    python_path = order.environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [folder for folder in python_path if folder and folder not in sys.path]
    os.chdir(order.folder)
    if not order.stream_output:
        with Path(os.devnull).open("wb") as nowhere:
            for stream in (sys.stdout, sys.stderr):
                os.dup2(nowhere.fileno(), stream.fileno())


def _obey(flow_run: FlowRun, line: Connection, go: threading.Event) -> None:
    while True:
        try:
            said = line.recv()
        except (EOFError, OSError):
            os.kill(os.getpid(), signal.SIGKILL)  # the worker is gone, and whoever puts the run back may not meet us
        match said:
            case Message.GO:
                go.set()
            case Message.CANCEL:
                terminate_as_cancelled()
                _end(line)
            case Message.STOP:
                _end(line)
            case Suspended(state=state):
                suspended_from_outside(flow_run.id, state)


def _end(line: Connection) -> None:
    """End as SIGTERM has it, once the paid calls under way have come in; tell the worker while there are any."""
    if PAID_CALLS.begin_no_more():
        line.send(Message.PAYING)
        threading.Thread(target=_tell_when_paid, args=(line,), daemon=True, name="paid").start()
    os.kill(os.getpid(), signal.SIGTERM)  # the engine waits for its threads


def _tell_when_paid(line: Connection) -> None:
    PAID_CALLS.wait()
    with suppress(OSError):  # the worker is gone, and so are we
        line.send(Message.PAID)


def _remember(order: Order) -> None:
    """Give Prefect what the worker knows of the run's flow, deployment, pool and queue."""
    # Prefect names these in every event of the run, and would read each of them once.
    run, known = order.flow_run, order.known
    use_servers_result_storage(known.result_storage)
    if known.media_folder is not None:
        know_folder(known.media_folder.slug, known.media_folder.basepath)
    objects: dict[str, tuple[Any, Any]] = {
        "flow": (run.flow_id, known.api_flow),
        "deployment": (run.deployment_id, known.deployment),
        "work-pool": (known.work_pool.name, known.work_pool),
        "work-queue": (run.work_queue_id, _queue(order)),
    }
    for kind, (key, value) in objects.items():
        RESOURCE_CACHE[f"{kind}.{key}"] = ({"kind": kind, "object": value}, utc_now())  # type: ignore[assignment]


def _queue(order: Order) -> WorkQueue | None:
    run = order.flow_run
    if run.work_queue_id is None or run.work_queue_name is None:
        return None
    return WorkQueue(id=run.work_queue_id, name=run.work_queue_name, work_pool_id=order.known.work_pool.id)


@contextmanager
def _client(preload: ModuleType, environment: Mapping[str, str]) -> Iterator[None]:
    """Prefect's client as the preload made it, unless this deployment has settings of its own."""
    if preload.settings_in(environment) == preload.SETTINGS:
        with preload.CLIENT:
            yield
    else:
        refresh_global_settings_context()
        setup_logging()
        with SyncClientContext():
            yield


def _run(order: Order) -> None:
    flow_run = order.flow_run
    leave_out_what_is_known(flow_run)
    with handle_engine_signals(flow_run.id):
        flow = _flow(order)
        logger = cast(logging.Logger, flow_run_logger(flow_run))
        # A flow that has failed has said so in its state and in its log. Asked for its result, Prefect raises that once
        # more, and tells of it as of a fault of its own engine. Of generators it is all that can be asked for.
        wanted: Literal["state", "result"] = "result" if flow.isgenerator else "state"
        came: Any = run_flow(flow, flow_run=flow_run, error_logger=logger, return_type=wanted)
        state = asyncio.run(came) if asyncio.iscoroutine(came) else came
        drive(flow, state)  # which is a generator, if the flow is one
    if isinstance(state, State) and state.is_cancelling():
        sys.exit(1)  # cancelled before it began: the worker says that it is, of a process that did not end well


def _run_hooks(order: Order) -> None:
    state, flow = order.hooks_for, _flow(order)
    assert state is not None
    for hook in (flow.on_crashed_hooks if state.is_crashed() else flow.on_cancellation_hooks) or []:
        try:
            result = hook(flow, order.flow_run, state)
            if asyncio.iscoroutine(result):
                asyncio.run(result)
        except Exception:
            flow_run_logger(order.flow_run).exception("A hook for %s raised", state.name)


def _flow(order: Order) -> Flow[..., Any]:
    if order.flow is None:
        return load_flow(order.flow_run)
    module, _, name = order.flow.partition(":")
    flow: Flow[..., Any] = getattr(importlib.import_module(module), name)
    return flow
