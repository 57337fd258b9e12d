"""The children of a supervisor, those that it has not started among them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from darkroom.deployments.kernel import LINUX
from darkroom.deployments.stack.processes import MARK, is_mark_of_ours, listens, marked, new_mark

# A part that dies as soon as it has started a process, which is told to end and is then ours to reap.
SUPERVISOR = """
import os, signal, subprocess, sys, time
from darkroom.deployments.kernel import adopt_orphans
from darkroom.deployments.stack.processes import any_is_dead, left_behind

adopt_orphans()
print(any_is_dead())
start = "import subprocess as s; print(s.Popen(['sleep', '600'], stdout=s.DEVNULL, stderr=s.DEVNULL).pid)"
orphan = int(subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=True).stdout)
print(any_is_dead(), [each.pid for each in left_behind(())] == [orphan], left_behind({orphan}))
os.kill(orphan, signal.SIGKILL)
while not any_is_dead():
    time.sleep(0.01)
left_behind({orphan})
print(any_is_dead())
print(left_behind(()), any_is_dead())
"""


def test_what_a_dead_part_has_left_is_found_alive_and_reaped_when_it_is_dead() -> None:
    """The process table, which is large, is read only where somebody is dead. A part is its keeper's to reap."""
    done = subprocess.run([sys.executable, "-c", SUPERVISOR], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["False", "False True []", "True", "[] False"]


# A stack that starts, and has begun a part.
START = """
import subprocess, sys
from pathlib import Path
from darkroom.deployments.stack.forks import begin_anew

begin_anew(Path(sys.argv[1]))
with subprocess.Popen(["sleep", "600"]) as part:
    print(part.pid, flush=True)
    sys.stdin.read()
    part.kill()
"""


@pytest.mark.skipif(not LINUX, reason="elsewhere a stack that starts bears no mark")
def test_what_a_start_of_a_stack_has_started_is_found_and_not_the_start_itself(tmp_path: Path) -> None:
    """It may have come second to a running stack, whose lock it finds taken: then it shall say so."""
    command = [sys.executable, "-c", START, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as start:
        assert start.stdin is not None and start.stdout is not None
        part = int(start.stdout.readline())
        found = [each.pid for each in marked(lambda mark: mark.startswith(f"{tmp_path}#"))]
        start.stdin.close()
    assert found == [part]


@dataclass(frozen=True)
class Listed:
    """A process as the table of processes shows it."""

    pid: int
    mark: str

    def environ(self) -> dict[str, str]:
        return {MARK: self.mark}


def test_a_process_is_no_start_for_a_pid_that_begins_like_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pids are told apart as a whole: of start 123 process 12 is one that it has started, and is ended with it."""
    listed = [Listed(pid, "/home/of/a/stack#123.abc") for pid in (12, 123, 1234)]
    monkeypatch.setattr(psutil, "process_iter", lambda: listed)
    assert [each.pid for each in marked(lambda mark: True)] == [12, 1234]


def test_a_mark_is_of_the_process_that_made_it_and_of_its_home(tmp_path: Path) -> None:
    """A stack that another one's process starts, or the same process in another home, begins anew under its own."""
    assert is_mark_of_ours(new_mark(tmp_path), tmp_path)
    assert not is_mark_of_ours(new_mark(tmp_path), tmp_path / "other")
    for pid in (os.getppid(), f"{os.getpid()}0"):
        assert not is_mark_of_ours(f"{tmp_path}#{pid}.{uuid4().hex}", tmp_path)


def test_a_part_answers_only_where_it_listens_itself() -> None:
    """What answers on its port may be another process, which has taken the port or was left behind."""
    with (
        socket.create_server(("127.0.0.1", 0)) as ours,
        subprocess.Popen(["sleep", "600"], start_new_session=True) as another,
    ):
        port = ours.getsockname()[1]
        assert listens(os.getpid(), port)
        assert not listens(another.pid, port)
        another.kill()


@pytest.mark.skipif(not LINUX, reason="elsewhere nobody asks the kernel")
def test_a_part_ends_where_its_stack_died_before_the_kernel_was_asked() -> None:
    """The kernel tells of a death that is yet to come, and of none before."""
    gone = os.getpid()  # the parent of whoever starts it, and not its own
    code = f"from darkroom.deployments.kernel import die_with; die_with({gone}); print('goes on')"
    start = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {code!r}]).returncode)"
    done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")


@contextmanager
def of_stack(mark: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that a start of a stack has left behind."""
    with subprocess.Popen(["sleep", "600"], env={**os.environ, MARK: mark}) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_janitor_ends_what_its_own_stack_has_left_and_nothing_else() -> None:
    """As soon as that stack is gone, which closes its input."""
    mark = f"/home/of/a/stack#123.{uuid4().hex}"
    command = [sys.executable, "-P", "-m", "darkroom.deployments.stack.janitor", mark]
    with of_stack(mark) as ours, of_stack(f"{mark}0") as another:
        with subprocess.Popen(command, stdin=subprocess.PIPE) as janitor:
            assert janitor.stdin is not None
            assert ours.poll() is None
            janitor.stdin.close()
            assert ours.wait(timeout=60) == -signal.SIGTERM
        assert another.poll() is None
