"""Forkservers and the generations of code they hold, with a module that the test rewrites."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest
from forkserver_targets import tell, tell_parent, tell_when_asked
from support import wait_until
from warm_worker import is_gone

from darkroom.deployments.worker.forkserver import CannotPreload, ForkServer


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Writes the module `generation`, which forkservers that start from now on import."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))  # pytest's own, which each child would import

    def write(code: str) -> None:
        (tmp_path / "generation.py").write_text(code)

    return write


@contextmanager
def forkserver() -> Iterator[ForkServer]:
    forkserver = ForkServer("generation")
    try:
        yield forkserver
    finally:
        forkserver.retire()


def told(forkserver: ForkServer, target: Callable[..., None]) -> Any:
    process, line = forkserver.start(target)
    with line:
        answer = line.recv()
    process.join()
    process.close()
    return answer


def test_a_child_under_way_finishes_on_its_code_and_the_next_has_the_new(write: Callable[[str], None]) -> None:
    """Also after its forkserver was let go; that one ends with its last child."""
    write("PROBLEM, NUMBER = None, 1")
    old = ForkServer("generation")
    parent = psutil.Process(told(old, tell_parent))
    process, line = old.start(tell_when_asked)
    write("PROBLEM, NUMBER = None, 2")
    assert told(old, tell) == 1
    old.retire()
    with forkserver() as new, line:
        assert told(new, tell) == 2
        assert parent.is_running()
        line.send("now")
        assert line.recv() == 1
        process.join()
        process.close()
        wait_until(lambda: not parent.is_running(), what="the old forkserver to end")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("PROBLEM = 'starts a thread'", "starts a thread"),
        ("import no_such_module", "was not imported"),
        ("this is no Python", "has died"),
        ("raise ValueError('broken')", "has died"),
    ],
)
def test_code_that_cannot_be_preloaded_is_refused(write: Callable[[str], None], code: str, reason: str) -> None:
    """With what went wrong, as far as it is known."""
    write(code)
    with pytest.raises(CannotPreload, match=reason):
        ForkServer("generation")


def test_a_forkserver_that_has_died_is_replaced(write: Callable[[str], None]) -> None:
    """By one that lives as long as the fork server."""
    write("PROBLEM, NUMBER = None, 1")
    with forkserver() as it:
        first = told(it, tell_parent)
        psutil.Process(first).kill()
        wait_until(lambda: is_gone(first))
        assert told(it, tell_parent) != first
        assert told(it, tell) == 1
