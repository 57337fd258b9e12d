"""A whole stack, as a user starts it: `darkroom up` in a home of its own, on free ports, and what a test asks of it."""

from __future__ import annotations

import hashlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psutil
import psycopg
from support import SLOW, free_port, wait_until

from darkroom.ledger import Ledger, Request, RequestStatus
from darkroom.settings import timing_of
from darkroom.timing import Timing

DARKROOM = str(Path(sys.executable).with_name("darkroom"))
PREFECT = str(Path(sys.executable).with_name("prefect"))
ROOT = Path(__file__).parents[2]
RECONCILE = "/deployments/name/reconcile/every-minute"
ENDED = ("completed", "failed", "cancelled")


@dataclass
class Stack:
    home: Path
    process: subprocess.Popen[str]
    environment: dict[str, str]  # what `darkroom env` exports, on top of the test's own
    simulator: httpx.Client
    gateway: httpx.Client
    prefect: httpx.Client
    ledger: Ledger
    project: Path
    keys: dict[str, str] = field(default_factory=dict)

    def command(
        self, *arguments: str, check: bool = True, cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            arguments,
            env=self.environment | environment,
            cwd=cwd,
            text=True,
            capture_output=True,
            timeout=SLOW * 60,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    @property
    def timing(self) -> Timing:
        """The limits that its parts keep."""
        return timing_of(self.environment)

    def pid(self, part: str) -> int:
        """The part's process, as it is on file."""
        return int((self.home / "run" / f"{part}.pid").read_text())

    def bearer(self, user: str) -> dict[str, str]:
        """Of a user that is made on first use."""
        if user not in self.keys:
            self.keys[user] = self.ledger.users.add(user, plan="studio").key
        return {"Authorization": f"Bearer {self.keys[user]}"}

    def order(self, prompt: str, *, user: str = "ann", **body: Any) -> str:
        answer = self.gateway.post("/v1/images", json={"prompt": prompt, **body}, headers=self.bearer(user))
        assert answer.status_code == 202, answer.text
        return str(answer.json()["job_id"])

    def job(self, job_id: str, *, user: str = "ann") -> dict[str, Any]:
        answer = self.gateway.get(f"/v1/jobs/{job_id}", headers=self.bearer(user))
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def ended(self, job_id: str, *, user: str = "ann", timeout: float = 60) -> dict[str, Any]:
        """Ask the ledger until then, so that the gateway is not busy with answers."""
        wait_until(lambda: self.has_ended(job_id), timeout=timeout, every=0.1, what=f"the end of {job_id}")
        return self.job(job_id, user=user)

    def has_ended(self, job_id: str) -> bool:
        job = self.ledger.jobs.get(job_id)
        return job is not None and job.status.terminal

    def misbehave(self, prompt: str, **faults: Any) -> None:
        """From now on for every request with that prompt."""
        self.simulator.post("/_sim/rules", json={"match": prompt, **faults}).raise_for_status()

    def at_provider(self, prompt: str) -> list[dict[str, Any]]:
        """The provider's own book of the requests with that prompt."""
        answer = self.simulator.get("/_sim/requests", params={"match": prompt}).json()
        return list(answer["requests"] if isinstance(answer, dict) else answer)

    def release(self, prompt: str) -> None:
        for request in self.at_provider(prompt):
            self.simulator.post(f"/_sim/requests/{request['request_id']}/release").raise_for_status()

    def rows(self, job_id: str) -> list[Request]:
        return self.ledger.requests.of_job(job_id)

    def carried(self, job_id: str) -> bool:
        """Whether the job's only call is in flight, and a process of its run has it: a gateway may have sent it."""
        return [row.status for row in self.rows(job_id)] == [RequestStatus.IN_FLIGHT] and all(
            row.adopted_at is not None or not row.sent_ahead for row in self.rows(job_id)
        )

    @contextmanager
    def runs_that_submit(self) -> Iterator[None]:
        """No call is sent by the gateway inside: what is held at a submit is a run."""
        settings = self.home / "stack.env"
        before = settings.read_text()
        settings.write_text(f"{before.rstrip()}\nDARKROOM_SUBMIT_AT_GRANT=false\n")
        self.restart_gateway()
        try:
            yield
        finally:
            settings.write_text(before)
            self.restart_gateway()

    def restart_gateway(self) -> None:
        before = self.pid("gateway")
        os.kill(before, signal.SIGTERM)
        wait_until(lambda: self.pid("gateway") != before, timeout=60, every=0.1, what="another gateway")
        wait_until(self._is_ready, timeout=60, every=0.1, what="the gateway's restart")

    def _is_ready(self) -> bool:
        try:
            return self.gateway.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def verdicts(self, ref: str) -> list[str]:
        """What became of the webhooks of a request, in the order they came."""
        return [delivery.verdict for delivery in self.ledger.requests.deliveries(ref)]

    def webhook_answers(self, prompt: str) -> list[int]:
        """What the gateway answered to the provider's webhooks."""
        return [attempt["status_code"] for request in self.at_provider(prompt) for attempt in request["webhooks"]]

    def flow_run_id(self, job_id: str) -> UUID:
        def look() -> UUID | None:
            job = self.ledger.jobs.get(job_id)
            run = self.ledger.runs.get(job.run_id) if job and job.run_id else None
            return run.flow_run_id if run else None

        found = wait_until(look, timeout=30, every=0.1, what="a flow run")
        assert found is not None
        return found

    def flow_run(self, flow_run_id: UUID) -> dict[str, Any]:
        return dict(self.prefect.get(f"/flow_runs/{flow_run_id}").raise_for_status().json())

    def in_state(self, flow_run_id: UUID, *names: str, timeout: float = 60) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            run = self.flow_run(flow_run_id)
            return run if run["state_name"] in names else None

        found = wait_until(look, timeout=timeout, every=0.2, what=f"the state {names}")
        assert found is not None
        return found

    def history(self, flow_run_id: UUID) -> list[str]:
        states = self.prefect.get("/flow_run_states/", params={"flow_run_id": str(flow_run_id)}).json()
        return [state["name"] for state in sorted(states, key=lambda state: state["timestamp"])]

    def events(self, **wanted: Any) -> list[dict[str, Any]]:
        """Prefect's event feed; it is written up to 5 s late."""
        answer = self.prefect.post("/events/filter", json={"filter": wanted, "limit": 50}).raise_for_status()
        return list(answer.json()["events"])

    def flow_processes(self, flow_run_id: UUID) -> list[psutil.Process]:
        """The process that Prefect has on record for it, if that still runs it: its name says which run it is."""
        pid = self.flow_run(flow_run_id)["infrastructure_pid"]
        if pid is None or not psutil.pid_exists(int(pid)):
            return []
        try:
            process = psutil.Process(int(pid))
            return [process] if f"flow-{flow_run_id.hex}".startswith(process.name()) else []
        except psutil.NoSuchProcess:
            return []

    def kill_run(self, flow_run_id: UUID) -> None:
        """Kills the process that carries a run that waits.

        One that has just suspended is resumed first, as a person may do: there would be no process to kill.
        """

        crashes = self.history(flow_run_id).count("Crashed")

        def is_killed() -> bool:
            for process in self.flow_processes(flow_run_id):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            if self.flow_run(flow_run_id)["state_name"] == "Suspended":
                self.prefect.post(f"/flow_runs/{flow_run_id}/resume", json={}).raise_for_status()
            return self.history(flow_run_id).count("Crashed") > crashes

        wait_until(is_killed, timeout=60, every=0.2, what="a process to kill")

    @contextmanager
    def without_cron(self) -> Iterator[str]:
        """No turn of reconcile comes by itself: what its cron has planned is taken back. Gives its deployment's id."""
        deployment = str(self.prefect.get(RECONCILE).raise_for_status().json()["id"])
        self.prefect.patch(f"/deployments/{deployment}", json={"paused": True}).raise_for_status()
        try:
            yield deployment
        finally:
            self.prefect.patch(f"/deployments/{deployment}", json={"paused": False}).raise_for_status()

    def between_turns(self) -> None:
        """Wait until no turn of reconcile is under way: the next one waits a whole minute for one that is killed.

        That it does not wait for ever is held where nobody looks before a kill, in `tests/chaos/`.
        """
        wanted = {
            "deployments": {"id": {"any_": [self.prefect.get(RECONCILE).raise_for_status().json()["id"]]}},
            "flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}},
        }

        def are_none() -> bool:
            return self.prefect.post("/flow_runs/count", json=wanted).raise_for_status().json() == 0

        wait_until(are_none, timeout=90, every=0.1, what="the end of every turn")

    def reconcile(self) -> None:
        """One turn of the cron deployment, now."""
        name = self.prefect.get(RECONCILE).raise_for_status().json()["id"]
        run = self.prefect.post(f"/deployments/{name}/create_flow_run", json={}).raise_for_status().json()
        self.in_state(UUID(run["id"]), "Completed")


def leaves_nothing(stack: Stack, *, since: datetime | None = None) -> None:
    """No slot is held, no request is open, no run waits, and every file is what its row says.

    `since`: of the jobs that began then or later, and of their files; else of all.
    """
    stack.simulator.delete("/_sim/rules")
    wait_until(lambda: not stack.ledger.requests.holding_slots(), timeout=30, every=0.1, what="every slot to be free")
    wait_until(lambda: not stack.ledger.runs.not_closed(), timeout=30, every=0.1, what="every run to be closed")
    with psycopg.connect(stack.environment["DARKROOM_LEDGER_URL"]) as connection:
        began = since or datetime.min.replace(tzinfo=UTC)
        asked = connection.execute(FILES_AND_ROWS, {"since": began}).fetchall()
    for key, sha256 in ((key, sha256) for kind, key, sha256 in asked if kind == "file"):
        assert hashlib.sha256((stack.home / "media" / key).read_bytes()).hexdigest() == sha256, key
    assert not [row for row in asked if row[0] == "queued"]


FILES_AND_ROWS = """
    SELECT 'file', asset.key, asset.sha256 FROM asset JOIN job ON job.id = asset.job_id
    WHERE job.created_at >= %(since)s
    UNION ALL
    SELECT 'queued', request.ref, '' FROM request JOIN job ON job.id = request.job_id
    WHERE job.created_at >= %(since)s AND request.status = 'queued'
"""


def free_ports() -> dict[str, int]:
    return {name: free_port() for name in ("port", "prefect-port", "simulator-port")}


def hostile(modules: Path) -> dict[str, str]:
    """What is in other people's shells."""
    for name in ("deployments", "flows"):
        (modules / name).mkdir(parents=True)
        (modules / name / "__init__.py").write_text('raise RuntimeError("somebody else\'s")\n')
    nowhere = "http://127.0.0.1:9"
    return {
        "PREFECT_PROFILE": "cloud",
        "PREFECT_PROFILES_PATH": "/nowhere/profiles.toml",
        "PREFECT_API_KEY": "pnu_theirs",
        "PREFECT_API_AUTH_STRING": "theirs:theirs",
        "PREFECT_UI_SERVE_BASE": "/theirs",
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_API_BASE_PATH": "/prefect",
        "PREFECT_DEFAULT_RESULT_STORAGE_BLOCK": "s3-bucket/theirs",
        **dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"), nowhere),
        "ALL_PROXY": "socks5://127.0.0.1:9",
        "all_proxy": "socks://127.0.0.1:9/",
        "NO_PROXY": "[::1]:80;fe80::/10 *.corp.example",
        **dict.fromkeys(("PGHOST", "PGSERVICE", "PGUSER", "POSTGRES_DB", "POSTGRES_PASSWORD"), "theirs"),
        "PGPORT": "6543",
        "PYTHONPATH": str(modules),
    }


@contextmanager
def running_stack(
    home: Path, *arguments: str, ports: Mapping[str, int] | None = None, project: Path = ROOT, **environment: str
) -> Iterator[Stack]:
    """Starts it, waits until it says that it is ready, and ends it; asserts that it leaves no process behind.

    `project`: whose code the environment makes it run.
    """
    ports = ports or free_ports()
    flags = [part for name, port in ports.items() for part in (f"--{name}", str(port))]
    log = home.with_suffix(".log")
    with log.open("w") as output:
        process = subprocess.Popen(
            [DARKROOM, "up", "--home", str(home), *flags, *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            env=_base() | environment,
        )
        try:
            wait_until(lambda: _is_ready(process, log), timeout=100, every=0.1, what=f"the stack, see {log}")
            yield from _opened(home, process, ports, environment, project)
        finally:
            children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.send_signal(signal.SIGINT)
            process.wait(timeout=SLOW * 40)
            left = [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
            assert not left, f"left behind: {left}"


def _opened(
    home: Path,
    process: subprocess.Popen[str],
    ports: Mapping[str, int],
    environment: Mapping[str, str],
    project: Path,
) -> Iterator[Stack]:
    exported = _exports(home)
    user, _, password = exported["PREFECT_API_AUTH_STRING"].partition(":")
    ledger = Ledger(exported["DARKROOM_LEDGER_URL"])
    with (
        httpx.Client(base_url=f"http://127.0.0.1:{ports['simulator-port']}", timeout=SLOW * 20) as simulator,
        httpx.Client(base_url=f"http://127.0.0.1:{ports['port']}", timeout=SLOW * 20) as gateway,
        httpx.Client(base_url=exported["PREFECT_API_URL"], auth=(user, password), timeout=SLOW * 20) as prefect,
    ):
        yield Stack(
            home=home,
            process=process,
            environment=_base() | dict(environment) | exported,
            simulator=simulator,
            gateway=gateway,
            prefect=prefect,
            ledger=ledger,
            project=project,
        )
    ledger.close()


def _base() -> dict[str, str]:
    """The test's own environment, without what would point a stack at another one."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("DARKROOM_", "PREFECT_", "FAL_"))}


def _is_ready(process: subprocess.Popen[str], log: Path) -> bool:
    said = log.read_text()
    assert process.poll() is None, f"the stack has ended:\n{said}"
    return "darkroom is ready" in said


def _exports(home: Path) -> dict[str, str]:
    shell = subprocess.run(
        [DARKROOM, "env"], env=_base() | {"DARKROOM_HOME": str(home)}, text=True, capture_output=True, check=True
    )
    words = [shlex.split(line) for line in shell.stdout.splitlines() if line.startswith("export ")]
    return dict(word.split("=", 1) for _, word in words)
