"""Who is measured, each behind the same door: how it is started, what its parts are, and its record of its pictures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import httpx
import psycopg
from acceptance.running import Stack, running_stack
from psycopg.rows import dict_row
from support import free_port, wait_until

from benchmarks.driver import Door
from benchmarks.meters import SUPERVISOR, AccessLog
from benchmarks.provider import NO_LIMIT, Provider
from darkroom.deployments.stack.postgres import cluster_in, initialize

FAL, USER = "fal", "bench"
Rows = psycopg.Connection[dict[str, Any]]

# When the file was asked for is the flow's next line after the webhook; older ledgers do not say.
WAY_OF_JOBS = """
    SELECT job.id, job.status = 'completed' AS completed, request.request_id,
        (to_jsonb(asset) ->> 'collected_at')::timestamptz AS next_line_at, asset.created_at AS stored_at,
        job.finished_at, job.error ->> 'message' AS error
    FROM job LEFT JOIN request ON request.job_id = job.id LEFT JOIN asset ON asset.job_id = job.id
    WHERE job.id = ANY(%s)
"""
WAY_OF_PICTURES = """
    SELECT id, finished_at IS NOT NULL AS completed, request_id, next_line_at, stored_at, finished_at, NULL AS error
    FROM picture WHERE id = ANY(%s)
"""
OPEN_JOBS = "SELECT count(*) AS open FROM job WHERE finished_at IS NULL"
OPEN_PICTURES = "SELECT count(*) AS open FROM picture WHERE finished_at IS NULL"
OPEN_RUNS = "SELECT count(*) AS open FROM run WHERE closed_at IS NULL"


@dataclass(frozen=True, kw_only=True)
class Way:
    """What a contestant has on record of a picture."""

    id: str
    completed: bool
    request_id: str | None
    next_line_at: datetime | None
    stored_at: datetime | None
    finished_at: datetime | None
    error: str | None


class Contestant(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def door(self) -> Door: ...

    @property
    def settle_seconds(self) -> float:
        """How long that takes which is under way when all is at rest: a process ends, events are written."""

    def processes(self) -> dict[str, int]:
        """Part → its first process."""

    def limit(self, slots: int | None) -> None:
        """So many pictures in flight from now on; None: no limit."""

    def open(self) -> int:
        """How many pictures are not finished."""

    def at_rest(self) -> bool:
        """Nothing is open, and nothing stays for what may come."""

    def ways(self, ids: Collection[str]) -> list[Way]: ...

    def prefect_requests(self) -> Counter[str] | None:
        """So far, by method and path. None where there is no Prefect."""


class Darkroom:
    """The whole stack, as `darkroom up` starts it."""

    settle_seconds = 1.0

    def __init__(self, name: str, stack: Stack, rows: Rows, *, port: int, key: str) -> None:
        self.name = name
        self.stack = stack
        self.rows = rows
        self.door = Door(port=port, headers={"Authorization": f"Bearer {key}"})
        self._access_log = AccessLog(stack.home / "log" / "prefect.log")

    def processes(self) -> dict[str, int]:
        parts = ("prefect", "postgres", "gateway", "worker")
        pids = {part: int((self.stack.home / "run" / f"{part}.pid").read_text()) for part in parts}
        return {**pids, SUPERVISOR: self.stack.process.pid}

    def limit(self, slots: int | None) -> None:
        self.stack.ledger.users.set_account(FAL, slots=slots or NO_LIMIT)

    def open(self) -> int:
        return _count(self.rows, OPEN_JOBS)

    def at_rest(self) -> bool:
        return not self.open() and not _count(self.rows, OPEN_RUNS)

    def ways(self, ids: Collection[str]) -> list[Way]:
        return [Way(**row) for row in self.rows.execute(WAY_OF_JOBS, [list(ids)])]

    def prefect_requests(self) -> Counter[str]:
        return self._access_log.look()


class Floor:
    """The plain pool of a tutorial (`floor.py`), with a Postgres of its own."""

    name = "floor"
    settle_seconds = 0.0

    def __init__(self, rows: Rows, *, port: int, processes: Mapping[str, int]) -> None:
        self._rows = rows
        self._processes = dict(processes)
        self.door = Door(port=port, headers={})

    def processes(self) -> dict[str, int]:
        return self._processes

    def limit(self, slots: int | None) -> None:
        url = f"http://127.0.0.1:{self.door.port}/limit"
        httpx.put(url, json={"slots": slots or NO_LIMIT}, trust_env=False).raise_for_status()

    def open(self) -> int:
        return _count(self._rows, OPEN_PICTURES)

    def at_rest(self) -> bool:
        return not self.open()

    def ways(self, ids: Collection[str]) -> list[Way]:
        return [Way(**row) for row in self._rows.execute(WAY_OF_PICTURES, [list(ids)])]

    def prefect_requests(self) -> None:
        return None


@contextmanager
def running_darkroom(
    name: str, home: Path, provider: Provider, *, worker: str, patience_seconds: float | None = None
) -> Iterator[Darkroom]:
    """With one user whose plan limits nothing; what a workload limits is the account."""
    ports = {"port": free_port(), "prefect-port": free_port(), "simulator-port": provider.port}
    environment = {
        **provider.environment(),
        "DARKROOM_PUBLIC_URL": f"http://127.0.0.1:{ports['port']}",
        # Prefect's requests are counted from its server's access log: 0.1 ms a line. Prefect sets uvicorn's loggers to
        # this level after uvicorn has set them to its own.
        "PREFECT_SERVER_LOGGING_LEVEL": "INFO",
    }
    if patience_seconds is not None:
        environment["DARKROOM_PATIENCE"] = f"{patience_seconds:g}"
    flags = ("--provider", "live", "--worker-type", worker)
    with running_stack(home, *flags, ports=ports, **environment) as stack:
        key = _user(stack)
        with rows_of(stack.environment["DARKROOM_LEDGER_URL"]) as rows:
            yield Darkroom(name, stack, rows, port=ports["port"], key=key)


def _user(stack: Stack) -> str:
    """The key of a user whom only the account limits."""
    users = stack.ledger.users
    users.set_plan(USER, in_flight=NO_LIMIT, weight=Decimal(1))
    known = any(each.name == USER for each in users.all())
    return users.rotate(USER).key if known else users.add(USER, plan=USER).key


@contextmanager
def running_floor(home: Path, provider: Provider) -> Iterator[Floor]:
    pictures, port = home / "pictures", free_port()
    pictures.mkdir(parents=True)
    environment = {**os.environ, **provider.environment()}
    pool = [sys.executable, "-m", "benchmarks.floor", "--port", str(port), "--folder", str(pictures)]
    with running_cluster(home) as cluster:
        started = running_process([*pool, "--database", cluster.url], signal.SIGTERM, env=environment)
        with started as process, rows_of(cluster.url) as rows:
            wait_until(lambda: answers(port), timeout=30, every=0.1, what="the floor")
            yield Floor(rows, port=port, processes={"postgres": cluster.pid, "pool": process.pid})


@dataclass(frozen=True, kw_only=True)
class RunningCluster:
    pid: int
    url: str  # of an empty database


@contextmanager
def running_cluster(home: Path) -> Iterator[RunningCluster]:
    """A Postgres as the local stack runs it."""
    home.mkdir(parents=True, exist_ok=True)
    cluster = cluster_in(home / "postgres")
    if not cluster.data.exists():
        initialize(cluster.data)
    quiet = {"cwd": cluster.data, "stderr": subprocess.DEVNULL}
    with running_process(cluster.command(), signal.SIGINT, **quiet, **cluster.identity) as postgres:
        wait_until(cluster.answers, timeout=30, every=0.1, what="Postgres")
        yield RunningCluster(pid=postgres.pid, url=cluster.url("darkroom"))


@contextmanager
def running_process(command: list[str], stop: signal.Signals, **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, **how)
    try:
        yield process
    finally:
        process.send_signal(stop)
        process.wait(timeout=20)


def rows_of(url: str) -> Rows:
    return psycopg.connect(url, autocommit=True, row_factory=dict_row)


def _count(rows: Rows, statement: str) -> int:
    found = rows.execute(statement).fetchone()
    assert found is not None
    return int(found["open"])


def answers(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
    except httpx.TransportError:
        return False
    return True
