"""Every private name of Prefect that the warm worker leans on, and why. Prefect is pinned to 3.9 for them.

Beside these functions `WarmWorker` overrides `BaseWorker._submit_run`, which is private by name, and calls
`_propose_pending_state`, `_propose_crashed_state`, `_release_limit_slot` and `_mark_flow_run_as_cancelled`; and
`forkserver` leans on multiprocessing's `_forkserver`, `_forkserver_pid` and `_forkserver_alive_fd`.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from prefect import flow_engine, results
from prefect._flow_run_suspension import mark_flow_run_suspension_requested
from prefect._internal import control_listener
from prefect.client import orchestration
from prefect.client.schemas.objects import State
from prefect.engine import _drive_run_flow_result as drive

__all__ = [
    "drive",
    "leave_observing_to_the_worker",
    "let_heartbeats_end_by_themselves",
    "share_tls_context",
    "suspended_from_outside",
    "terminate_as_cancelled",
    "use_servers_result_storage",
]


def let_heartbeats_end_by_themselves() -> None:
    """Let the thread that beats end by itself. By default a run that is over waits for it, up to a second."""
    flow_engine._send_heartbeats = partial(flow_engine._send_heartbeats, join_on_exit=False)


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


def share_tls_context() -> None:
    """Make one TLS context for all.

    By default each client makes one, also for plain HTTP: 20 ms, for four clients of a run.
    """
    orchestration.ssl = SimpleNamespace(  # type: ignore[attr-defined,assignment]
        SSLContext=ssl.SSLContext,
        CERT_NONE=ssl.CERT_NONE,
        create_default_context=cache(ssl.create_default_context),
    )


def use_servers_result_storage(block_id: UUID | None) -> None:
    """Use the storage that the worker has asked for. By default each run asks the server for it, twice."""
    results._read_server_default_result_storage_block_id = lambda: block_id
