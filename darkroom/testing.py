"""For the tests of a project: a stack as a pytest fixture, on a simulated provider that misbehaves as it is told.

    pytest_plugins = ["darkroom.testing"]  # in conftest.py

The fixture `stack` is `darkroom up` in a temporary home, with the project that the tests are run in, once for a
session. Its limits are scaled (`DARKROOM_TIME_SCALE`, a fifth unless it is set). Nothing is paid.
"""

from __future__ import annotations

import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from darkroom.engine.dry_run import forecast
from darkroom.engine.dry_run.job import Ask
from darkroom.engine.dry_run.resources import open_only_to_read
from darkroom.ledger import Ledger
from darkroom.postgres_address import open_address
from darkroom.settings import load_settings

__all__ = ["Ask", "Stack", "running_stack", "stack"]

ENDED = ("completed", "failed", "cancelled")
READY = "darkroom is ready"
OURS = ("DARKROOM_", "PREFECT_", "FAL_")


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A running stack. `environment`: of commands against it (`prefect`, `darkroom`)."""

    home: Path
    environment: Mapping[str, str]
    gateway: httpx.Client
    simulator: httpx.Client
    ledger: Ledger
    keys: dict[str, str] = field(default_factory=dict)

    def key(self, user: str = "ann") -> str:
        """Return the API key of a user, who is made on first use."""
        if user not in self.keys:
            self.keys[user] = self.ledger.users.add(user, plan="studio").key
        return self.keys[user]

    def call(self, method: str, path: str, *, user: str = "ann", json: Any = None) -> Any:
        """Return the JSON that the gateway answers with. Raises `httpx.HTTPStatusError` for what it refuses."""
        answer = self.gateway.request(method, path, json=json, headers={"Authorization": f"Bearer {self.key(user)}"})
        return answer.raise_for_status().json()

    def order(self, kind: str, *, user: str = "ann", **fields: Any) -> str:
        """Order a pipeline over HTTP. Returns the job's id."""
        return str(self.call("POST", f"/v1/orders/{kind}", user=user, json=fields)["job_id"])

    def send(self, event: str, *, user: str = "ann", **data: Any) -> dict[str, Any]:
        """Send an event. Returns its document."""
        return dict(self.call("POST", "/v1/events", user=user, json={"name": event, "data": data}))

    def job(self, job_id: str, *, user: str = "ann") -> dict[str, Any]:
        """Return the job's document, as `GET /v1/jobs/{id}` has it."""
        return dict(self.call("GET", f"/v1/jobs/{job_id}", user=user))

    def ended(self, job_id: str, *, user: str = "ann", timeout: float = 120) -> dict[str, Any]:
        """Wait for the job's end, and return its document. `timeout`: seconds."""
        limit = time.monotonic() + timeout
        while (job := self.job(job_id, user=user))["status"] not in ENDED:
            assert time.monotonic() < limit, f"{job_id} is still {job['status']} after {timeout} s: {job}"
            time.sleep(0.1)
        return job

    def misbehave(self, prompt: str, **faults: Any) -> None:
        """Have the provider misbehave with every request that has this prompt, e.g. `webhook="lost"`, `latency=8`."""
        self.simulator.post("/_sim/rules", json={"match": prompt, **faults}).raise_for_status()

    def at_provider(self, prompt: str) -> list[dict[str, Any]]:
        """Return the provider's own book of the requests with this prompt: what was really asked, and so paid."""
        return list(self.simulator.get("/_sim/requests", params={"match": prompt}).raise_for_status().json())

    def would_ask(self, kind: str, *, user: str = "ann", **fields: Any) -> Sequence[Ask]:
        """Return the paid calls that this order would make first, with their prices. Nothing is sent or written."""
        self.key(user)
        with _within(self.environment), open_only_to_read(load_settings()) as resources:
            owner = resources.ledger.users.find(user)
            return forecast(resources, kind, fields, user_id=owner.id).asks

    def pass_time(self, by: timedelta) -> None:
        """Move what waits for a time nearer by that much: sleeps, time-outs of waits, retries, debounced runs."""
        where: Any = open_address(self.environment["DARKROOM_LEDGER_URL"]).parameters
        with psycopg.connect(**where) as connection:
            for table, column, which in _TIMES:
                connection.execute(f"UPDATE {table} SET {column} = {column} - %s WHERE {which}", [by])


_TIMES = (
    ("wait", "until", "status = 'open'"),
    ("start", "due_at", "settled_at IS NULL"),
    ("request", "not_before", "status = 'queued'"),
)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Start a stack with the project in whose folder the tests are run."""
    # Not below pytest's own folder: each session closes that to other users, and as root Postgres runs as one.
    with tempfile.TemporaryDirectory(prefix="darkroom-") as folder, running_stack(Path(folder) / "home") as running:
        yield running


@contextmanager
def running_stack(home: Path, **environment: str) -> Iterator[Stack]:
    """Start `darkroom up` in this home, on free ports, wait until it is ready, and end it."""
    ports = _free_ports("port", "prefect-port", "simulator-port")
    base = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    scale = os.environ.get("DARKROOM_TIME_SCALE", "0.2")
    kept = {name: os.environ[name] for name in ("DARKROOM_PROJECT", "DARKROOM_CACHE") if name in os.environ}
    base |= {"DARKROOM_TIME_SCALE": scale} | kept | environment
    command = str(Path(sys.executable).with_name("darkroom"))
    log = home.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    flags = [part for name, port in ports.items() for part in (f"--{name}", str(port))]
    with log.open("w") as output:
        process = subprocess.Popen(
            [command, "up", "--home", str(home), *flags], stdout=output, stderr=subprocess.STDOUT, env=base
        )
        try:
            _until_ready(process, log)
            said = subprocess.run(
                [command, "env", "--home", str(home)], env=base, text=True, capture_output=True, check=True
            ).stdout
            exports = [shlex.split(line)[1] for line in said.splitlines() if line.startswith("export ")]
            exported = dict(each.split("=", 1) for each in exports)
            ledger = Ledger(exported["DARKROOM_LEDGER_URL"])
            with (
                _client(ports["port"]) as gateway,
                _client(ports["simulator-port"]) as simulator,
            ):
                yield Stack(home=home, environment=base | exported, gateway=gateway, simulator=simulator, ledger=ledger)
            ledger.close()
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=120)


def _client(port: int) -> httpx.Client:
    """Open a client of a part on this machine, whatever proxy the tests' own environment names."""
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)


def _until_ready(process: subprocess.Popen[bytes], log: Path, timeout: float = 660) -> None:
    limit = time.monotonic() + timeout
    while READY not in (said := log.read_text()):
        assert process.poll() is None, f"the stack has ended:\n{said}"
        assert time.monotonic() < limit, f"the stack is not ready after {timeout} s:\n{said}"
        time.sleep(0.1)


@contextmanager
def _within(environment: Mapping[str, str]) -> Iterator[None]:
    """Have this process's environment point at that stack."""
    before = dict(os.environ)
    os.environ.update({name: value for name, value in environment.items() if name.startswith(OURS)})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


# Below what the kernel gives to whoever asks for any port: one of the stack's own parts might have taken it before.
_PORTS = range(12_000, 32_000)


def _free_ports(*names: str) -> dict[str, int]:
    """Find a free port for each name."""
    found: dict[str, int] = {}
    while len(found) < len(names):
        port = random.SystemRandom().choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in found.values():
                found[names[len(found)]] = port
    return found
