"""Imported by the forkserver, once for each generation of code: all that a child would otherwise spend its start on.

It imports Prefect's engine, our flows and what they reach lazily, and makes what is costly and holds no connection:
the TLS context, Prefect's HTTP client. Nothing here may start a thread: a lock that another thread holds at the fork
stays locked in the child for ever. multiprocessing swallows a failed import, so the worker asks for what went wrong.
"""

from __future__ import annotations

import gc
import importlib
import os
import pkgutil
import signal
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefect.context import SyncClientContext

LAZY = (
    "PIL.BmpImagePlugin",
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
    "PIL.WebPImagePlugin",
    "prefect.client.orchestration",
    "prefect.engine",
    "prefect.events.clients",
    "prefect.events.worker",
    "prefect.flow_engine",
    "prefect.logging.handlers",
    "prefect.task_engine",
    "prefect.telemetry.run_telemetry",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "websockets.asyncio.client",
)

PID = os.getpid()
PROBLEM: str | None = None
CLIENT: SyncClientContext


def settings_in(environment: Mapping[str, str]) -> dict[str, str]:
    """Prefect's settings; what begins with two underscores says who runs, not how."""
    return {k: v for k, v in environment.items() if k.startswith("PREFECT_") and not k.startswith("PREFECT__")}


SETTINGS = settings_in(os.environ)


def _import_everything() -> None:
    import flows

    for name in LAZY:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(flows.__path__, "flows."):
        importlib.import_module(module.name)


def _warm_up() -> SyncClientContext:
    from prefect.context import SyncClientContext

    from blocks.tls import tls_context
    from deployments.worker import internals

    tls_context()
    internals.leave_observing_to_the_worker()
    internals.let_heartbeats_end_by_themselves()
    internals.share_tls_context()
    return SyncClientContext()


def _threads() -> int:
    """Those that libraries start outside Python too."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else 1


try:
    _import_everything()
    CLIENT = _warm_up()
    if (_count := _threads()) != 1:
        PROBLEM = f"preloading has started {_count - 1} thread(s), so forking is not safe"
except Exception:
    PROBLEM = traceback.format_exc()

# The worker decides when its children end. They set it back to what they need.
signal.signal(signal.SIGTERM, signal.SIG_IGN)
# What stands now is never garbage; left alone by the collector, its pages stay shared by all children.
gc.collect()
gc.freeze()
