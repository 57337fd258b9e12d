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
import sys
import traceback
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.deployments.kernel import die_with

if TYPE_CHECKING:
    from prefect.context import SyncClientContext

LAZY = (
    "PIL.BmpImagePlugin",
    "PIL.GifImagePlugin",
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
    "PIL.PpmImagePlugin",
    "PIL.WebPImagePlugin",
    "anyio._backends._asyncio",
    "av",
    "encodings.idna",
    "prefect.client.orchestration",
    "prefect.engine",
    "prefect.events.clients",
    "prefect.events.worker",
    "prefect.flow_engine",
    "prefect.logging.handlers",
    "prefect.task_engine",
    "prefect.telemetry.run_telemetry",
    "prefect.utilities.visualization",
    "psycopg",
    "rich._emoji_codes",
    "sqlalchemy.dialects.postgresql.psycopg",
    "websockets.asyncio.client",
)

OURS = ("prefect.", "darkroom.")

PID = os.getpid()
die_with(os.getppid())  # a child that is deep in C does not notice that its line is cut
PROBLEM: str | None = None
CLIENT: SyncClientContext


def settings_in(environment: Mapping[str, str]) -> dict[str, str]:
    """Prefect's settings; what begins with two underscores says who runs, not how."""
    return {k: v for k, v in environment.items() if k.startswith("PREFECT_") and not k.startswith("PREFECT__")}


SETTINGS: dict[str, str] = {}


def _import_everything() -> None:
    import darkroom.flows as flows
    from darkroom.orchestrator.project_file import import_flows

    _import_what_is_there(LAZY)
    for module in pkgutil.walk_packages(flows.__path__, "darkroom.flows."):
        importlib.import_module(module.name)
    for broken in import_flows():  # of the user's project: its runs fail and say so, the others go on
        print(broken, file=sys.stderr)


def _import_what_is_there(names: Iterable[str]) -> None:
    for name in names:
        with suppress(ModuleNotFoundError):  # of an extra that is not installed
            importlib.import_module(name)


def _settings() -> dict[str, str]:
    """Return the settings as a job configuration names them.

    Those of Prefect's profile too, unless the environment says otherwise.
    """
    from prefect.settings import get_current_settings

    return settings_in({**get_current_settings().to_environment_variables(exclude_unset=True), **os.environ})


def _complete_models() -> None:
    """Prefect puts off building a model's validator until its first use: in each child, 15 ms in all."""
    from pydantic import BaseModel

    waiting = [BaseModel]
    while waiting:
        subclasses = waiting.pop().__subclasses__()
        waiting += subclasses
        for model in subclasses:
            if not model.__pydantic_complete__ and model.__module__.startswith(OURS):
                with suppress(Exception):  # what cannot be built is for who uses it to find out
                    model.model_rebuild()


def _warm_up() -> SyncClientContext:
    from prefect.context import SyncClientContext
    from prefect.logging.highlighters import PrefectConsoleHighlighter
    from rich.text import Text

    from darkroom.deployments.worker import internals
    from darkroom.errors import NeedsHuman
    from darkroom.events import compiled
    from darkroom.ledger.database import queries
    from darkroom.providers.registry import accounts
    from darkroom.settings import load_settings
    from darkroom.tls import tls_context

    tls_context()
    with suppress(NeedsHuman):  # each run finds out, and says so
        load_settings()
    queries()
    PrefectConsoleHighlighter().highlight(Text("the first line"))  # compiles two dozen patterns
    with suppress(NeedsHuman):  # a package's provider that cannot be used: its runs fail and say so
        for account in accounts().values():  # their modules: as much as all else that a short run does
            account.refinements()
            # Thirty megabytes of SDKs, and a second of CPU for the run that imports them itself: here where the
            # environment says the account. One that is in Prefect alone would have to be asked for.
            if account.client_modules and all(os.environ.get(name) for name in account.variables):
                _import_what_is_there(account.client_modules)
    compiled("event.data.n > 0")  # a quarter of a second for the grammar, with the first condition
    _complete_models()
    internals.leave_observing_to_the_worker()
    internals.let_heartbeats_begin_late()
    internals.let_heartbeats_end_by_themselves()
    internals.share_tls_context()
    internals.validate_by_one_model()
    return SyncClientContext()


def _threads() -> int:
    """Count threads, those too that libraries start outside Python."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else 1


try:
    _import_everything()
    CLIENT = _warm_up()
    SETTINGS = _settings()
    if (_count := _threads()) != 1:
        PROBLEM = f"preloading has started {_count - 1} thread(s), so forking is not safe"
except Exception:
    PROBLEM = traceback.format_exc()

# The worker decides when its children end. They set it back to what they need.
signal.signal(signal.SIGTERM, signal.SIG_IGN)
# What stands now is never garbage; left alone by the collector, its pages stay shared by all children.
gc.collect()
gc.freeze()
