"""Parts as forks of the supervisor, on Linux: what most of them import is imported once, and is memory of them all.

Gateway, worker, Prefect's server and simulator each hold the same hundred megabytes of libraries and of our own code if
each has an interpreter of its own. Here the supervisor imports what does not read its environment as it is imported,
and forks; the kernel copies a page only for who writes to it. So nothing of Prefect's is among it: its settings are
read with the first import, and its server's are others than a worker's.

A part that has died is started in an interpreter of its own again: it may be restarted for new code, and by then the
supervisor may have threads. The kernel shows a fork with the environment of who forked, so the supervisor begins anew
with the mark in its own: by that a stack's processes are found (`processes`).
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import runpy
import signal
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from darkroom.deployments.inherited import let_through
from darkroom.deployments.kernel import LINUX, die_with, show_as
from darkroom.deployments.stack.processes import MARK, is_mark_of_ours, new_mark

# What at least two of the parts import, and what is large of it. They import the rest themselves.
SHARED = (
    "PIL.Image",
    "cryptography.fernet",
    "darkroom.batches",
    "darkroom.engine",
    "darkroom.events",
    "darkroom.ledger",
    "darkroom.media",
    "darkroom.models",
    "darkroom.providers.registry",
    "dateutil.parser",
    "fastapi",
    "fsspec",
    "griffe",
    "httpx",
    "jsonschema",
    "pendulum",
    "prometheus_client",
    "psycopg",
    "pydantic_settings",
    "pygments",
    "rich.console",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.ext.asyncio",
    "sqlmodel",
    "uvicorn",
    "websockets.asyncio.client",
    "yaml",
)
_TASKS = Path("/proc/self/task")
_INTERPRETER = [sys.executable, "-P", "-m"]
_FIRST_OTHER_FD = 3


def begin_anew(home: Path) -> str | None:
    """Return the mark of this start, with which this process was begun anew. Elsewhere than on Linux there is none."""
    if not LINUX:
        return None
    mark = os.environ.get(MARK, "")
    if not is_mark_of_ours(mark, home):
        _execute_with(new_mark(home))
    return mark


def _execute_with(mark: str) -> NoReturn:
    # Parts have our interpreter's settings then: of the caller's, those that any part is given.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    python = {name: value for name, value in let_through(os.environ).items() if name.startswith("PYTHON")}
    sys.stdout.flush()
    os.execve(
        sys.executable,
        [sys.executable, "-P", *sys.orig_argv[1:]],
        {**kept, **python, "PYTHONUNBUFFERED": "1", MARK: mark},
    )


def import_shared() -> None:
    for name in SHARED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # left alone by the collector, the pages stay shared


def can_fork(command: Sequence[str]) -> bool:
    """Tell whether it runs a module of Python's, and we have no thread: a lock that one holds would stay locked."""
    return list(command[:3]) == _INTERPRETER and len(list(_TASKS.iterdir())) == 1


class Fork:
    """A child as `subprocess.Popen` has it, as far as the supervisor asks."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return its exit code, negative for a signal; None while it runs."""
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else has waited for it
                self._code = 0
            else:
                self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code


def fork(
    command: Sequence[str],
    *,
    name: str,
    environment: Mapping[str, str],
    log: Path,
    folder: Path,
    death_signal: signal.Signals,
) -> Fork:
    """Do in a fork what `command` would do in an interpreter of its own, in its own session as `spawn` has it."""
    parent = os.getpid()
    if pid := os.fork():
        return Fork(pid)
    status = 1
    try:
        os.setsid()
        _open_only(log)
        die_with(parent, death_signal)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        show_as(name)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        module, *arguments = command[len(_INTERPRETER) :]
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = _exit_code(end)
    except BaseException:
        traceback.print_exc()
    finally:
        _exit(status)


def _open_only(log: Path) -> None:
    """Close what is open here, the lock of the home and the janitor's line among it, but for the log and nothing."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for opened, number in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(opened, number)
    os.closerange(_FIRST_OTHER_FD, os.sysconf("SC_OPEN_MAX"))


def _exit_code(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)
    return 1


def _exit(status: int) -> NoReturn:
    """End as an interpreter does, without going back to what the supervisor was about as it forked."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
    finally:
        os._exit(status)
