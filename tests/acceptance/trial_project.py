"""The project that the tests' stack runs: a copy of this one, with flows, deployments and events of the tests' own.

A test may change its code while the stack runs, and puts it back.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import broken_flows
import held_flows
import slot_flows
import trial_flows
from project_copy import ROOT, compile_all, copy_packages
from support import wait_until

if TYPE_CHECKING:
    from running import Stack

FLOWS = (broken_flows, held_flows, slot_flows, trial_flows)
# Somebody who edits a profile is waited for; a test does not wait for minutes.
PROFILES = "debounce: {key: event.user, period: 5m, longest: 1h, keep: last}"


def trial_project(folder: Path) -> Path:
    """Make the project in `folder`, which is not there yet."""
    copy_packages(folder)
    for flows in FLOWS:
        shutil.copy(Path(str(flows.__file__)), folder / "flows")
    types = folder / "darkroom" / "events" / "types.py"
    types.write_text(types.read_text() + held_flows.EVENTS)
    declared = (ROOT / "prefect.yaml").read_text().rstrip() + "\n"
    assert PROFILES in declared
    own = "".join(flows.deployments() for flows in FLOWS)
    (folder / "prefect.yaml").write_text(declared.replace(PROFILES, PROFILES.replace("5m", "3s")) + own)
    compile_all(folder)
    return folder


def put(file: Path, there: str, instead: str) -> None:
    """Write `instead` where `there` stands, which must be in one place."""
    text = file.read_text()
    assert text.count(there) == 1, f"{file.name} reads otherwise than this test expects"
    file.write_text(text.replace(there, instead))


@contextmanager
def as_it_was(project: Path, *names: str) -> Iterator[None]:
    """Put these files back in the end, whatever a test has made of them."""
    before = {project / name: (project / name).read_text() for name in names}
    try:
        yield
    finally:
        for file, text in before.items():
            file.write_text(text)


def take_up(stack: Stack) -> None:
    """Tell the worker of new code, and wait until it runs with it."""
    log = stack.home / "log" / "worker.log"
    taken_up = log.read_text().count("New code is taken up")
    os.kill(stack.pid("worker"), signal.SIGHUP)
    wait_until(
        lambda: log.read_text().count("New code is taken up") > taken_up, timeout=90, every=0.1, what="the new code"
    )
