"""Flows that behave well and badly on purpose, and write down in a folder what became of them.

A worker runs them as it runs anybody's: from this file, named by a deployment. They wait
for a file `go` in their folder.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from prefect import Flow, flow, get_run_logger, suspend_flow_run, task
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext

from darkroom.engine.paid_calls import PAID_CALLS

FOREVER = 600


def witness(name: str) -> Callable[[Flow[..., Any], FlowRun, State[Any]], None]:
    """A hook that notes in the run's folder that it ran."""

    def note(_: Flow[..., Any], run: FlowRun, state: State[Any]) -> None:
        with (Path(run.parameters["folder"]) / "hooks").open("a") as hooks:
            hooks.write(f"{name} {state.name}\n")

    note.__name__ = f"note_{name}"
    return note


def break_down(_: Flow[..., Any], run: FlowRun, state: State[Any]) -> None:
    raise RuntimeError("a hook that raises keeps no other from running")


@flow(
    on_crashed=[break_down, witness("crashed")], on_cancellation=[witness("cancelled")], on_failure=[witness("failed")]
)
def behave(folder: str, how: str = "look") -> None:
    here = Path(folder)
    here.mkdir(exist_ok=True, parents=True)
    seen = {
        "cwd": str(Path.cwd()),
        "environment": dict(os.environ),
        "time zone": time.strftime("%z"),
        "path": sys.path,
    }
    _write(here / f"begun-{os.getpid()}", json.dumps(seen))
    MANNERS[how](here)
    _write(here / "ended", "")


@flow
def two_tasks(folder: str) -> None:
    """Between them it can be suspended."""
    here = Path(folder)
    here.mkdir(exist_ok=True, parents=True)
    _write(here / f"begun-{os.getpid()}", "")
    first(folder)
    second(folder)
    _write(here / "ended", "")


@flow
def leave(folder: str) -> None:
    """Suspends, and notes each of its processes, with what Prefect says of the run there."""
    here = Path(folder)
    here.mkdir(exist_ok=True, parents=True)
    context = FlowRunContext.get()
    assert context is not None
    run = context.flow_run
    assert run is not None
    assert run.state is not None
    _write(here / f"begun-{os.getpid()}", json.dumps([run.state.name, run.run_count, run.start_time is not None]))
    if not (here / "left").exists():
        _write(here / "left", "")
        suspend_flow_run(timeout=FOREVER)
    _write(here / "ended", "")


@flow
def linger(folder: str) -> None:
    """Its process stays until it may go, whatever becomes of the run; the second one notes whether it is alone."""
    here = Path(folder)
    here.mkdir(exist_ok=True, parents=True)
    former = [int(file.name.partition("-")[2]) for file in here.glob("begun-*")]
    if former:
        _write(here / "alone", json.dumps(not any(Path(f"/proc/{pid}").exists() for pid in former)))
    _write(here / f"begun-{os.getpid()}", "")
    if not former:
        _write(here / "lingers", "")
        _wait(here)
        os._exit(0)


@task
def first(folder: str) -> None:
    _wait(Path(folder))


@task
def second(folder: str) -> None:
    _write(Path(folder) / "second", "")


def _look(here: Path) -> None:
    print(f"printed by {here.name}")
    logger = get_run_logger()
    logger.info("a first line")
    logger.info("a last line")


def _wait(here: Path) -> None:
    deadline = time.monotonic() + FOREVER
    while not (here / "go").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _kill(here: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _exit(here: Path) -> None:
    os._exit(3)


def _fail(here: Path) -> None:
    raise ValueError("as it should")


def _ignore_sigterm(here: Path) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _write(here / "deaf", "")
    _wait(here)


def _pay(here: Path) -> None:
    """As our runner does: the thread that hears of the end waits for the one that pays."""
    with ThreadPoolExecutor(1) as threads:
        threads.submit(_get_an_answer, here)
        _wait(here)


def _get_an_answer(here: Path) -> None:
    with PAID_CALLS.one():
        _write(here / "deaf", "")
        _wait(here)
        _write(here / "answered", "")


def _sleep_in_c(here: Path) -> None:
    """No other thread of this process gets to run any more, and no Python signal handler."""
    _write(here / "deaf", "")
    while True:
        ctypes.PyDLL(None).sleep(FOREVER)


def _write(file: Path, text: str) -> None:
    """All or nothing: whoever finds the file finds it whole."""
    draft = file.with_suffix(".draft")
    draft.write_text(text)
    draft.rename(file)


MANNERS: dict[str, Callable[[Path], None]] = {
    "look": _look,
    "wait": _wait,
    "kill itself": _kill,
    "exit": _exit,
    "fail": _fail,
    "ignore SIGTERM": _ignore_sigterm,
    "pay": _pay,
    "sleep in C": _sleep_in_c,
}
