"""Forkservers and the generations of code they hold, with a module that the test rewrites."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import anyio.to_thread
import psutil
import pytest
from forkserver_targets import note, tell, tell_clients, tell_imports, tell_parent, tell_shared, tell_when_asked
from support import wait_until
from warm_worker import is_gone

from darkroom.deployments import worker
from darkroom.deployments.worker import child, warm
from darkroom.deployments.worker.forkserver import CannotPreload, ForkServer
from darkroom.deployments.worker.warm import WarmWorker

# Each child imports the module of the function that it runs, and with its package all of Prefect, unless its forkserver
# has them: here a generation has the module alone.
LEAN = f"""
import sys
from types import ModuleType
package = sys.modules["{worker.__name__}"] = ModuleType("{worker.__name__}")
package.__path__ = {list(worker.__path__)}
import darkroom.deployments.worker.forkserver
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Writes the module `generation`, which forkservers that start from now on import."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)  # from Python 3.13 on a forkserver has its parent's path
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))  # pytest's own, which each child would import

    def write(code: str) -> None:
        (tmp_path / "generation.py").write_text(LEAN + code)

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


def test_a_run_that_is_taken_while_new_code_is_taken_up_has_its_process(
    write: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """However busy the worker's threads are: its forkserver is retired while it waits to be forked."""
    write("PROBLEM, NUMBER = None, 1")
    monkeypatch.setattr(child, "main", note)
    order: Any = SimpleNamespace(flow_run=SimpleNamespace(state=None), folder=str(tmp_path))

    async def take() -> None:
        worker = WarmWorker(work_pool_name="darkroom", forkserver=await asyncio.to_thread(ForkServer, "generation"))
        old = worker._forkserver
        assert old is not None
        threads, go_on = anyio.to_thread.current_default_thread_limiter(), threading.Event()
        threads.total_tokens = 1
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(anyio.to_thread.run_sync(go_on.wait))
            await asyncio.sleep(0)
            forked = tasks.create_task(worker._fork(order))
            await asyncio.sleep(0)
            old.retire()
            go_on.set()
        await (await forked).ended()

    asyncio.run(take())
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("error", [CannotPreload("no"), OSError("no process left")])
def test_whatever_keeps_new_code_from_being_taken_up_is_told_and_the_old_goes_on(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> ForkServer:
        raise error

    old: Any = object()
    worker = WarmWorker(work_pool_name="darkroom", forkserver=old)
    monkeypatch.setattr(warm, "ForkServer", fail)
    with capturing(caplog, worker._logger):
        asyncio.run(worker._take_up_new_code())
    assert worker._forkserver is old
    assert "The new code is not taken up" in caplog.text


@contextmanager
def capturing(caplog: pytest.LogCaptureFixture, logger: logging.LoggerAdapter[Any] | logging.Logger) -> Iterator[None]:
    """Prefect's own loggers hand nothing up."""
    below = logger.logger if isinstance(logger, logging.LoggerAdapter) else logger
    below.addHandler(caplog.handler)
    try:
        yield
    finally:
        below.removeHandler(caplog.handler)


@pytest.mark.parametrize(
    ("code", "reason", "printed"),
    [
        ("PROBLEM = 'starts a thread'", "starts a thread", ""),
        ("import no_such_module", "was not imported", ""),
        ("this is no Python", "has died", "SyntaxError"),
        ("raise ValueError('broken')", "has died", "ValueError: broken"),
    ],
)
def test_code_that_cannot_be_preloaded_is_refused(
    write: Callable[[str], None], capfd: pytest.CaptureFixture[str], code: str, reason: str, printed: str
) -> None:
    """With what went wrong, as far as it is known; the worker's output has the rest."""
    write(code)
    with pytest.raises(CannotPreload, match=reason):
        ForkServer("generation")
    assert printed in capfd.readouterr().err


def test_a_forkserver_that_has_died_is_replaced(write: Callable[[str], None]) -> None:
    """By one that lives as long as the fork server."""
    write("PROBLEM, NUMBER = None, 1")
    with forkserver() as it:
        first = told(it, tell_parent)
        psutil.Process(first).kill()
        wait_until(lambda: is_gone(first))
        assert told(it, tell_parent) != first
        assert told(it, tell) == 1
        assert told(it, tell_shared) == 1


OF_ITSELF = """
import sys
import generation
from forkserver_targets import tell, tell_parent, tell_shared
from darkroom.deployments.worker.forkserver import ForkServer

if __name__ == "__main__":
    server = ForkServer("generation", forked=True)
    for target in (tell, tell_parent, tell_shared):
        process, line = server.start(target)
        print(line.recv(), flush=True)
        process.join()
    sys.stdin.read()
    server.retire()
"""


def test_a_fork_of_the_worker_shares_with_it_what_both_have_imported(
    write: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And ends with it, as one in a new interpreter does. Beside it there is no process, until a run shares memory."""
    write("PROBLEM, NUMBER = None, 1\nLARGE = b'x' * 100_000_000")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path(__file__).parent}")
    program = tmp_path / "of_itself.py"
    program.write_text(OF_ITSELF)
    command = [sys.executable, str(program)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "1\n"
        forked = int(process.stdout.readline())
        assert process.stdout.readline() == "1\n"
        mapped = psutil.Process(forked).memory_full_info()
        assert [child.pid for child in psutil.Process(process.pid).children()] == [forked]
        process.stdin.close()
    assert mapped.uss < 50e6 < 100e6 < mapped.rss
    wait_until(lambda: is_gone(forked))


def test_a_child_imports_nothing_that_each_run_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The forkserver has all of it: a child would spend more on it than on its run.

    A provider's SDK is large: it is there where the environment says the account.
    """
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")  # without one Prefect starts a server
    for name in ("ELEVENLABS_API_KEY", "MUX_TOKEN_ID", "MUX_TOKEN_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GEMINI_API_KEY", "a key")
    forkserver = ForkServer()
    try:
        assert told(forkserver, tell_imports) == []
        assert told(forkserver, tell_clients) == ["google.genai"]
    finally:
        forkserver.retire()
