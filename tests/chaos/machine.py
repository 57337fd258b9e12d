"""The machine that a stack runs on, and how one kills what is on it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self, TypeVar
from uuid import UUID

import psutil
import psycopg
from acceptance.running import Stack, running_stack

from chaos.scenario import Victim
from darkroom.deployments.stack.processes import marked

T = TypeVar("T")

LOOK_EVERY_SECONDS = 0.2  # each look goes through every process of this machine
SECONDS_TO_DIE = 10.0
SECONDS_TO_FIND = 150.0  # a victim: it may just have been killed, and a run may wait for reconcile to bring it back


@dataclass(frozen=True, kw_only=True)
class Killed:
    at: datetime
    victim: Victim
    processes: int


class Machine:
    """Starts the stack on entering. `stack` is another one after the machine has failed: ask for it anew."""

    def __init__(self, home: Path, *, ports: Mapping[str, int], environment: Mapping[str, str], seed: int) -> None:
        self.home = home
        self.kills: list[Killed] = []
        self._ports = ports
        self._environment = environment
        self._draw = Random(seed)
        self._running = ExitStack()
        self.stack: Stack

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._running.close()

    def kill(self, victim: Victim) -> None:
        """As soon as there is one. None in all that time is on record as a kill of no process."""
        if victim is Victim.MACHINE:
            self._fail()
        else:
            self._kill(victim, self._wait_for(victim))

    def carriers(self) -> list[psutil.Process]:
        """The processes that carry jobs: not those of reconcile. By name, which the kernel cuts after ten digits."""
        carried = {f"flow-{flow_run_id.hex[:10]}" for flow_run_id in self._flow_run_ids()}
        return [each for each in self._flows() if _name(each) in carried]

    def _start(self) -> None:
        log = self.home.with_suffix(".log")
        if log.exists():
            log.rename(self.home.with_suffix(f".log.{len(self.kills)}"))
        stack = running_stack(self.home, "--provider", "live", ports=self._ports, **self._environment)
        self.stack = self._running.enter_context(stack)

    def _fail(self) -> None:
        """Everything is gone at once, and nobody is left to start it again."""
        supervisor, parts = psutil.Process(self.stack.process.pid), self._below_supervisor()
        self._kill(Victim.MACHINE, [supervisor, *parts])
        self.stack.process.wait(SECONDS_TO_DIE)
        psutil.wait_procs(parts, SECONDS_TO_DIE)
        self._running.close()
        self._start()

    def _kill(self, victim: Victim, processes: Iterable[psutil.Process]) -> None:
        self.kills.append(Killed(at=datetime.now(UTC), victim=victim, processes=sum(map(_sigkill, processes))))

    def _wait_for(self, victim: Victim) -> list[psutil.Process]:
        deadline = time.monotonic() + SECONDS_TO_FIND
        while not (found := self._find(victim)) and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_SECONDS)
        return found

    def _find(self, victim: Victim) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess, FileNotFoundError, ValueError, psycopg.OperationalError):
            return self._victims(victim)
        return []

    def _victims(self, victim: Victim) -> list[psutil.Process]:
        match victim:
            case Victim.ALL:
                return [
                    each for each in self._below_supervisor() if not _is(each, "darkroom.deployments.stack.janitor")
                ]
            case Victim.FLOW:
                found = self.carriers()
                return [self._draw.choice(found)] if found else []
            case Victim.FORKSERVER:
                return self._part(Victim.WORKER).children()
            case _:
                return [self._part(victim)]

    def _part(self, part: Victim) -> psutil.Process:
        process = psutil.Process(int((self.home / "run" / f"{part}.pid").read_text()))
        if process.status() == psutil.STATUS_ZOMBIE:
            raise psutil.NoSuchProcess(process.pid)
        return process

    def _flow_run_ids(self) -> list[UUID]:
        with psycopg.connect(self.stack.environment["DARKROOM_LEDGER_URL"]) as connection:
            return [row[0] for row in connection.execute("SELECT flow_run_id FROM run WHERE flow_run_id IS NOT NULL")]

    def _below_supervisor(self) -> list[psutil.Process]:
        return psutil.Process(self.stack.process.pid).children(recursive=True)

    def _flows(self) -> list[psutil.Process]:
        of_ours = marked(lambda mark: mark.startswith(f"{self.home}#"))
        return [each for each in of_ours if _name(each).startswith("flow-")]


def _is(process: psutil.Process, module: str) -> bool:
    return _quietly(lambda: any(module in part for part in process.cmdline()), otherwise=False)


def _name(process: psutil.Process) -> str:
    return _quietly(process.name, otherwise="")


def _quietly(look: Callable[[], T], *, otherwise: T) -> T:
    try:
        return look()
    except psutil.Error:
        return otherwise


def _sigkill(process: psutil.Process) -> bool:
    try:
        os.kill(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
