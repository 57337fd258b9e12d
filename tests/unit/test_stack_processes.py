"""The children of a supervisor, those that it has not started among them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from darkroom.deployments.kernel import LINUX
from darkroom.deployments.stack.processes import marked

# A part that dies as soon as it has started a process, which is told to end and is then ours to reap.
SUPERVISOR = """
import os, signal, subprocess, sys, time
from darkroom.deployments.kernel import adopt_orphans
from darkroom.deployments.stack.processes import any_is_dead, left_behind

adopt_orphans()
print(any_is_dead())
start = "import subprocess as s; print(s.Popen(['sleep', '600'], stdout=s.DEVNULL, stderr=s.DEVNULL).pid)"
orphan = int(subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=True).stdout)
print(any_is_dead(), [each.pid for each in left_behind(())] == [orphan])
os.kill(orphan, signal.SIGKILL)
while not any_is_dead():
    time.sleep(0.01)
print(left_behind(()), any_is_dead())
"""


def test_what_a_dead_part_has_left_is_found_alive_and_reaped_when_it_is_dead() -> None:
    """The process table, which is large, is read only where somebody is dead."""
    done = subprocess.run([sys.executable, "-c", SUPERVISOR], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["False", "False True", "[] False"]


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
