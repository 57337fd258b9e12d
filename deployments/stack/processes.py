"""Child processes that end with us, and the grandchildren they leave behind.

On Linux the kernel tells a part when we die, so even SIGKILL leaves no part running; and what a dead part leaves behind
becomes our child, so it can be found and ended. Elsewhere the mark in the environment finds them all. Parts are started
by the main thread only: the kernel's signal comes when the *thread* ends that forked.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psutil

from darkroom.deployments.kernel import LINUX, die_with

if TYPE_CHECKING:  # the janitor, which waits beside every stack, needs no driver of databases
    from darkroom.deployments.stack.postgres import Identity

# In the environment of every part, and so of all that it starts: of which start of which stack it is. The start's own
# process is in it, by its pid, as that may bear the mark before it holds the lock of its home.
MARK = "DARKROOM_STACK"


def spawn(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: Path,
    folder: Path,
    death_signal: signal.Signals,
    identity: Identity,
) -> subprocess.Popen[bytes]:
    """Start it in its own session: Ctrl-C in the terminal is for us, and we end the parts in order."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=partial(die_with, os.getpid(), death_signal) if LINUX else None,
            **identity,
        )


def any_is_dead() -> bool:
    """Tell whether a child may have to be reaped. `left_behind`, which does that, reads the whole process table."""
    if not LINUX:
        return True
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def left_behind(parts: Collection[int]) -> list[psutil.Process]:
    """Find our children that are no parts: processes whose part died before them. Dead ones are reaped on the way."""
    alive = []
    for child in psutil.Process().children():
        if child.pid in parts:
            continue
        with contextlib.suppress(psutil.NoSuchProcess, ChildProcessError):
            if child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)
            else:
                alive.append(child)
    return alive


def new_mark(home: Path) -> str:
    """Make the mark of a start that this process is."""
    return f"{_of_start(home)}{uuid4().hex}"


def is_mark_of_ours(mark: str, home: Path) -> bool:
    """Tell whether the mark is one of this process, and not of a stack that it is part of."""
    return mark.startswith(_of_start(home))


def _of_start(home: Path) -> str:
    return f"{home}#{os.getpid()}."


def marked(wanted: Callable[[str], bool]) -> list[psutil.Process]:
    """Find the processes that starts of a stack whose mark is wanted have started, whoever their parent is now.

    Not those starts themselves: one that does not hold the lock of its home yet is about to find that taken.
    """
    return [each for each in psutil.process_iter() if wanted(mark := _mark(each)) and not _is_start(each, mark)]


def _is_start(process: psutil.Process, mark: str) -> bool:
    return mark.rpartition("#")[2].startswith(f"{process.pid}.")


def _mark(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error, OSError):
        return str(process.environ().get(MARK, ""))
    return ""


def below(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return list(psutil.Process(pid).children(recursive=True))
    return []


def end(processes: Iterable[psutil.Process], *, how: signal.Signals = signal.SIGTERM, grace_seconds: float) -> None:
    """Politely, then for good."""
    asked = [process for process in processes if _send(process, how)]
    _, stubborn = psutil.wait_procs(asked, timeout=grace_seconds)
    for process in stubborn:
        _send(process, signal.SIGKILL)
    psutil.wait_procs(stubborn, timeout=5)


def _send(process: psutil.Process, how: signal.Signals) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(how)
        return True
    return False


def listens(pid: int, port: int) -> bool:
    """Return whether this very process accepts connections on that port of ours."""
    try:
        sockets = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.Error:
        return False
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in sockets)
