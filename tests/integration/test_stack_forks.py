"""Parts that are forks of the supervisor are what they would be in an interpreter of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import wait_until

from darkroom.deployments.kernel import LINUX
from darkroom.deployments.stack.processes import MARK

pytestmark = pytest.mark.skipif(not LINUX, reason="elsewhere every part has an interpreter of its own")

# A supervisor that has a file open and is told to stop by SIGTERM, as ours is.
SUPERVISOR = """
import signal, sys, time
from pathlib import Path
from darkroom.deployments.stack.forks import can_fork, fork

signal.signal(signal.SIGTERM, lambda *_: None)
lock, shared = open("lock", "w"), bytearray(b"x") * 40_000_000
command = [sys.executable, "-P", "-m", *sys.argv[1:]]
assert can_fork(command) and not can_fork(["postgres", "-D", "data"])
part = fork(
    command, name="a-part", environment={"PART": "one"}, log=Path("log"), folder=Path("/"), death_signal=signal.SIGKILL
)
print(part.pid, flush=True)
while (code := part.poll()) is None:
    time.sleep(0.01)
print(code)
"""
PART = """
import atexit, json, os, re, signal, sys
from pathlib import Path

atexit.register(lambda: print("the last word", file=sys.stderr))
print(json.dumps({
    "arguments": sys.argv[1:],
    "main": __name__,
    "environment": dict(os.environ),
    "folder": os.getcwd(),
    "session": os.getsid(0) == os.getpid(),
    "name": Path("/proc/self/comm").read_text().strip(),
    "files": sorted(name for name in map(os.readlink, os.scandir("/proc/self/fd")) if name.endswith("lock")),
    "stopped_by": [signal.getsignal(each) in (signal.SIG_DFL, signal.default_int_handler)
                   for each in (signal.SIGTERM, signal.SIGINT)],
    "private_kb": int(re.search(r"Private_Dirty: +(\\d+)", Path("/proc/self/smaps_rollup").read_text())[1]),
}))
"""


def forked(folder: Path, ending: str, *arguments: str) -> tuple[int, list[str]]:
    """Fork the part, which ends as told. Return its exit code and the lines of its log."""
    (folder / "a_part.py").write_text(PART + ending)
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-P", "-c", SUPERVISOR, "a_part", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]), (folder / "log").read_text().splitlines()


def test_a_fork_is_what_a_process_of_its_own_would_be(tmp_path: Path) -> None:
    """Its arguments, environment, folder, session and log are its own, and the supervisor's files are closed.

    The supervisor's memory is no copy of its own.
    """
    code, (told, *rest) = forked(tmp_path, "", "--port", "1")
    told = json.loads(told)
    assert (code, rest) == (0, ["the last word"])
    assert told.pop("private_kb") < 20_000
    assert told == {
        "arguments": ["--port", "1"],
        "main": "__main__",
        "environment": {"PART": "one"},
        "folder": "/",
        "session": True,
        "name": "a-part",
        "files": [],
        "stopped_by": [True, True],
    }


@pytest.mark.parametrize(
    ("ending", "code", "last"),
    [
        ("sys.exit(3)", 3, "the last word"),
        ("sys.exit('error: it is full')", 1, "error: it is full"),
        ("raise ValueError('broken')", 1, "ValueError: broken"),
        ("os.kill(os.getpid(), signal.SIGTERM)", -15, None),
    ],
)
def test_a_fork_ends_as_a_process_of_its_own_would(tmp_path: Path, ending: str, code: int, last: str | None) -> None:
    """With its exit code, or by its signal; its last words are in its log."""
    ended, log = forked(tmp_path, ending)
    assert ended == code
    assert last is None or last in log


def test_a_fork_dies_with_the_supervisor(tmp_path: Path) -> None:
    """Also where that is killed, and can end nobody."""
    (tmp_path / "a_part.py").write_text("import time; time.sleep(600)")
    environment = os.environ | {"PYTHONPATH": str(tmp_path), MARK: "a home#1"}
    command = [sys.executable, "-P", "-c", SUPERVISOR, "a_part"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        part = Path("/proc", supervisor.stdout.readline().strip())
        # By the mark the janitor finds what was left.
        assert f"{MARK}=a home#1" in (part / "environ").read_text().split("\0")
        supervisor.kill()
    wait_until(lambda: not part.exists(), what="its end")
