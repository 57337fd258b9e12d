"""Processes of Darkroom's own programs that start in a tenth of the CPU: forks of one that has imported them already.

Each is a process as `python -m MODULE` makes it, with its own pid, environment, output and end; only its imports were
made before, in a process without threads that forks and does nothing else. What is tested of a start itself (which
modules it imports, what its interpreter is told) needs the real one.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, NoReturn

GREATEST_ORDER = 1 << 20  # bytes, environment and all
_AT_FIRST = dict(os.environ)  # before any test has changed it


class ForkedProcess:
    """What tests use of a `subprocess.Popen`, for a process whose parent is another."""

    def __init__(self, pid: int, line: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._line = line

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._line], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            with self._line:
                self.returncode = int(self._line.recv(100) or -signal.SIGKILL)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> ForkedProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()


def start_forked(
    module: str,
    *arguments: str,
    environment: Mapping[str, str],
    output: IO[Any],
    errors: IO[Any] | None = None,
    beside: Sequence[str] = (),
) -> ForkedProcess:
    """Start what `python -m MODULE ARGUMENTS` starts: its `main`.

    `errors`: this process' own, unless given. `beside`: what else it imports, when it comes to need it.
    """
    order = json.dumps({"arguments": arguments, "environment": dict(environment), "folder": str(Path.cwd())})
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        files = [output.fileno(), 2 if errors is None else errors.fileno(), theirs.fileno()]
        socket.send_fds(_parent_of(module, tuple(beside)), [order.encode()], files)
    return ForkedProcess(int(ours.recv(100)), ours)


@cache
def _parent_of(module: str, beside: tuple[str, ...]) -> socket.socket:
    """Return the line to the process that has imported them. It ends with this one, as its line does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-P", __file__, str(theirs.fileno()), module, *beside]
    with theirs:
        process = subprocess.Popen(command, env=_AT_FIRST, pass_fds=[theirs.fileno()])
    atexit.register(_let_go, process, ours)
    return ours


def _let_go(process: subprocess.Popen[bytes], line: socket.socket) -> None:
    line.close()
    process.wait(10)


def _fork_for_ever(orders: socket.socket, module: str) -> None:
    """Fork for each order, and tell who gave it the pid, and in the end the status. Children die with their orderer."""
    children: dict[int, tuple[int, socket.socket]] = {}
    while True:
        for ready in select.select([orders, *children], [], [])[0]:
            if ready is not orders:
                pid, line = children.pop(ready)
                os.close(ready)
                with line, suppress(BrokenPipeError):
                    line.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
                continue
            order, files, _, _ = socket.recv_fds(orders, GREATEST_ORDER, 3)
            if not order:
                for pid, _ in children.values():
                    os.kill(pid, signal.SIGKILL)
                return
            line = socket.socket(fileno=files.pop())
            pid = os.fork()
            if pid == 0:
                line.close()
                orders.close()
                _be(module, files, **json.loads(order))
            for file in files:
                os.close(file)
            line.send(str(pid).encode())
            children[os.pidfd_open(pid)] = pid, line


def _be(module: str, files: Sequence[int], arguments: list[str], environment: dict[str, str], folder: str) -> NoReturn:
    """Be the process that was ordered, to its end."""
    status = 1
    try:
        for number, file in enumerate(files, start=1):
            os.dup2(file, number)
        os.closerange(3, 1000)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        if "prefect" in sys.modules:
            importlib.import_module("prefect.context").refresh_global_settings_context()
        sys.argv = [module, *arguments]
        importlib.import_module(module).main()
        status = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    line = socket.socket(fileno=int(sys.argv[1]))
    for name in sys.argv[2:]:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # left alone by the collector, the pages stay shared
    _fork_for_ever(line, sys.argv[2])
