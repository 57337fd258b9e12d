"""Where children come from: one `multiprocessing` forkserver with one generation of code.

A forkserver imports once and forks for each run, from a process that has no threads. multiprocessing keeps one of them
per process and hands it to every `Process`; to take up new code a second one is made and put in its place. The old one
is let go: it ends by itself with the last of its children.

The first one may be a fork of the worker itself: a third of the memory of both is then theirs in common. Each has no
resource tracker, an interpreter that waits for what leaks of shared memory: a run that shares some starts its own.

It dies with the worker, whatever kills that, and its children die with it. The kernel ties it to the thread that
started it, so each has its own thread, which starts the children too and lives until it has ended.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from multiprocessing import forkserver, get_context, resource_tracker, util
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from darkroom.deployments.preloaded import tell_problem

PRELOAD = "darkroom.deployments.worker.preload"
# The default is for whoever else uses multiprocessing in this process.
_in_charge: ContextVar[forkserver.ForkServer] = ContextVar("in_charge", default=forkserver._forkserver)
_main_lock = threading.Lock()
_tracker_lock = threading.RLock()


def _connect_to_new_process(fds: Sequence[int]) -> tuple[int, int]:
    connected: tuple[int, int] = _in_charge.get().connect_to_new_process(fds)
    return connected


forkserver.connect_to_new_process = _connect_to_new_process


class CannotPreload(RuntimeError):
    """The code of this generation cannot be imported, or starts threads. Mend it, then send the worker SIGHUP."""


class _ForkServer(forkserver.ForkServer):
    """Imports what the worker would import, not what lies in the folder where the worker was started."""

    def fork(self) -> None:
        """Make it of this process, instead of a new interpreter: what is imported here the two share."""
        gc.collect()
        gc.freeze()  # left alone by the collector, the pages stay shared
        in_new_interpreter = util.spawnv_passfds
        util.spawnv_passfds = _fork_passing  # type: ignore[assignment]
        try:
            with _without_tracker():
                super().ensure_running()
        finally:
            util.spawnv_passfds = in_new_interpreter

    def ensure_running(self) -> None:
        pid: int | None = self._forkserver_pid  # type: ignore[attr-defined]
        if pid is None or os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            with _safe_path(), _without_tracker():
                super().ensure_running()

    def connect_to_new_process(self, fds: Sequence[int]) -> tuple[int, int]:
        with _without_tracker():
            connected: tuple[int, int] = super().connect_to_new_process(fds)
        return connected


def _fork_passing(_path: bytes, arguments: Sequence[Any], fds: Sequence[int]) -> int:
    """Do in a fork what a new interpreter would be told with `-c`, with the same files open."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        for last, following in pairwise([2, *sorted(fds), util.MAXFD]):
            os.closerange(last + 1, following)
        sys.argv = ["-c"]
        sys.modules["__main__"] = ModuleType("__main__")
        exec(arguments[-1], {})
    except SystemExit:
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


@contextmanager
def _without_tracker() -> Iterator[None]:
    """Start none for the forkserver, and give its children a file that takes whatever they would tell one."""
    with _tracker_lock, Path(os.devnull).open("wb", buffering=0) as nowhere:
        before: Any = forkserver.resource_tracker  # type: ignore[attr-defined]
        forkserver.resource_tracker = SimpleNamespace(  # type: ignore[attr-defined]
            ensure_running=lambda: None, getfd=nowhere.fileno, _resource_tracker=SimpleNamespace(_fd=None)
        )
        try:
            yield
        finally:
            forkserver.resource_tracker = before  # type: ignore[attr-defined]


@contextmanager
def _safe_path() -> Iterator[None]:
    """Keep the current folder off the path."""
    # By default `python -c` looks there first, and `flows` is a name that many projects have.
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


class ForkServer:
    def __init__(self, preload: str = PRELOAD, *, forked: bool = False) -> None:
        """Start it, and wait until it has imported `preload`. `forked`: from here, where no thread was started yet."""
        self._server = _ForkServer()
        self._server.set_forkserver_preload([preload])
        if forked:
            self._server.fork()
        self._hand = ThreadPoolExecutor(1, thread_name_prefix="forkserver")
        try:
            self._hand.submit(self._check, preload).result()
        except BaseException:
            self.retire()
            raise

    def retire(self) -> None:
        """Lets it end with the last of its children, also those just begun. Each of them holds the same pipe open."""
        self._hand.submit(self._see_off)
        self._hand.shutdown(wait=False)

    def _see_off(self) -> None:
        server: Any = self._server
        if server._forkserver_alive_fd is not None:
            os.close(server._forkserver_alive_fd)
            os.waitpid(server._forkserver_pid, 0)

    def start(self, target: Callable[..., None], *arguments: Any) -> tuple[ForkServerProcess, Connection]:
        """Forks a child that calls `target(*arguments, its end of the line)`. Returns it and our end."""
        return self.begin(target, *arguments).result()

    def begin(self, target: Callable[..., None], *arguments: Any) -> Future[tuple[ForkServerProcess, Connection]]:
        """Have a child started, as `start` does: one that is begun is started, though the fork server be retired."""
        return self._hand.submit(self._start_without_main, target, *arguments)

    def _start_without_main(self, target: Callable[..., None], *arguments: Any) -> tuple[ForkServerProcess, Connection]:
        with _without_main():
            return self._start(target, *arguments)

    def _start(self, target: Callable[..., None], *arguments: Any) -> tuple[ForkServerProcess, Connection]:
        ours, theirs = get_context("forkserver").Pipe()
        process = get_context("forkserver").Process(target=_run, args=(target, *arguments, theirs))
        token = _in_charge.set(self._server)
        try:
            process.start()
        finally:
            _in_charge.reset(token)
            theirs.close()
        return process, ours

    def _check(self, preload: str) -> None:
        """Wait for the preload. Raise CannotPreload for its failure, which multiprocessing would keep to itself."""
        try:
            # With our `__main__`: others may start children meanwhile.
            process, line = self._start(tell_problem, preload)
            with line:
                problem = line.recv()
            process.join()
        except (EOFError, OSError):
            problem = "the forkserver has died; the worker's output has the traceback"
        if problem:
            raise CannotPreload(problem)


def _run(target: Callable[..., None], *arguments: Any) -> None:
    resource_tracker._resource_tracker._fd = None  # type: ignore[attr-defined]  # nobody reads there
    target(*arguments)


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide our `__main__`, the `prefect` command, from new children."""
    # Multiprocessing would import it in every child, for 100 to 220 ms.
    with _main_lock:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main
