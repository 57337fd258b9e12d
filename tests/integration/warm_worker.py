"""The worker as operators start it, and runs of the flows in `warm_flows` on it."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psutil
from prefect_server import PrefectServer
from support import SLOW, wait_until

from darkroom.deployments.home import Home
from darkroom.deployments.stack.environment import worker_settings
from darkroom.deployments.stack.options import StackOptions

HERE = Path(__file__).parent
PREFECT = str(Path(sys.executable).with_name("prefect"))
POOL = "darkroom"
TERMINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})


@dataclass(frozen=True, kw_only=True)
class WarmWorkerProcess:
    process: subprocess.Popen[bytes]
    name: str
    queue: str
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def below(self) -> list[psutil.Process]:
        """Forkservers, multiprocessing's tracker, and children."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def forkservers(self) -> list[psutil.Process]:
        return [each for each in psutil.Process(self.pid).children() if _is_forkserver(each)]

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


def _is_forkserver(process: psutil.Process) -> bool:
    try:
        return "multiprocessing.forkserver" in " ".join(process.cmdline())
    except psutil.Error:  # it is ending
        return False


@contextmanager
def running_worker(
    server: PrefectServer, log_folder: Path, *arguments: str, queue: str | None = None, **environment: str
) -> Iterator[WarmWorkerProcess]:
    """`prefect worker start`, on a queue of its own unless one is named."""
    name = f"worker-{uuid4().hex[:8]}"
    queue = queue or name
    server.call("POST", f"/work_pools/{POOL}/queues", json={"name": queue}, conflict=True)
    command = [PREFECT, "worker", "start", "--pool", POOL, "--type", "warm", "--name", name, "--work-queue", queue]
    settings = worker_settings(StackOptions(home=server.home), home=Home(server.home))
    log_file = log_folder / f"{name}.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [*command, *arguments],
            env=server.environment | settings | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    worker = WarmWorkerProcess(process=process, name=name, queue=queue, log_file=log_file)
    try:
        wait_until(lambda: "started!" in worker.log, timeout=30, what=f"the worker: {worker.log}")
        yield worker
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.kill()
    process.wait()
    for each in psutil.wait_procs(below, timeout=SLOW * 5)[1]:
        each.kill()


@contextmanager
def without_events(server: PrefectServer) -> Iterator[str]:
    """An address of Prefect's API through which everything goes but the event stream, as with a poor proxy."""
    target = urlsplit(server.environment["PREFECT_API_URL"])
    address = (str(target.hostname), int(target.port or 80))

    class Door(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            first = self.request.recv(65536)
            if b"/events/out" in first.partition(b"\r\n")[0]:
                return
            with socket.create_connection(address) as beyond:
                beyond.sendall(first)
                back = threading.Thread(target=_pour, args=(beyond, self.request), daemon=True)
                back.start()
                _pour(self.request, beyond)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Door) as door:
        door.daemon_threads = True
        threading.Thread(target=door.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{door.server_address[1]}{target.path}"
        finally:
            door.shutdown()


def _pour(source: socket.socket, into: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            into.sendall(data)
        into.shutdown(socket.SHUT_WR)


class Runs:
    """Deploys flows of `warm_flows` and follows their runs, over Prefect's API."""

    def __init__(self, server: PrefectServer, folder: Path, queue: str) -> None:
        self._server = server
        self._folder = folder
        self._queue = queue
        self._deployments: dict[str, str] = {}

    def start(
        self,
        flow: str = "behave",
        *,
        deployed_with: Mapping[str, Any] | None = None,
        job_variables: Mapping[str, Any] | None = None,
        fetched: bool = False,
        code: Path = HERE / "warm_flows.py",
        **parameters: Any,
    ) -> FlowRunOnWorker:
        """`fetched`: its code is copied to where the run starts; otherwise the run goes to where the code is."""
        deployment = self._deploy(flow, job_variables=dict(deployed_with or {}), fetched=fetched, code=code)
        folder = self._folder / uuid4().hex[:8]
        body = {
            "parameters": {"folder": str(folder), **parameters},
            "job_variables": dict(job_variables or {}),
            "work_queue_name": self._queue,
            "state": {"type": "SCHEDULED"},
        }
        made = self._server.call("POST", f"/deployments/{deployment}/create_flow_run", json=body)
        return FlowRunOnWorker(server=self._server, id=made["id"], folder=folder)

    def start_deployed(self, name: str, *, job_variables: Mapping[str, Any]) -> FlowRunOnWorker:
        """A run of a deployment that is there, without parameters."""
        deployment = self._server.call("GET", f"/deployments/name/{name}")["id"]
        body = {
            "work_queue_name": self._queue,
            "job_variables": dict(job_variables),
            "state": {"type": "SCHEDULED"},
        }
        made = self._server.call("POST", f"/deployments/{deployment}/create_flow_run", json=body)
        return FlowRunOnWorker(server=self._server, id=made["id"], folder=self._folder)

    def _deploy(self, flow: str, *, job_variables: Mapping[str, Any], fetched: bool, code: Path) -> str:
        key = f"{flow} {fetched} {sorted(job_variables.items())}"
        if key not in self._deployments:
            flow_id = self._server.call("POST", "/flows/", json={"name": flow.replace("_", "-")})["id"]
            project = code.parents[1] if code.parent.name == "flows" else code.parent
            body = {
                "name": uuid4().hex[:8],
                "flow_id": flow_id,
                "entrypoint": f"{code.relative_to(project)}:{flow}",
                **(self._copied(code) if fetched else _go_to(project)),
                "work_pool_name": POOL,
                "work_queue_name": self._queue,
                "job_variables": dict(job_variables),
            }
            self._deployments[key] = self._server.call("POST", "/deployments/", json=body)["id"]
        return self._deployments[key]

    def _copied(self, code: Path) -> dict[str, Any]:
        folder = self._folder / "code"
        folder.mkdir(exist_ok=True)
        shutil.copy(code, folder)
        return {"path": str(folder)}


def _go_to(folder: Path) -> dict[str, Any]:
    return {"pull_steps": [{"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}]}


@dataclass(frozen=True, kw_only=True)
class FlowRunOnWorker:
    server: PrefectServer
    id: str
    folder: Path

    def read(self) -> dict[str, Any]:
        return dict(self.server.call("GET", f"/flow_runs/{self.id}"))

    @property
    def state(self) -> dict[str, Any]:
        return dict(self.read()["state"])

    def states(self) -> list[str]:
        """Their names, in order."""
        found = self.server.call("GET", f"/flow_run_states/?flow_run_id={self.id}")
        return [each["name"] for each in sorted(found, key=lambda state: str(state["timestamp"]))]

    def put(self, state: str, *, name: str | None = None, force: bool = False, **details: Any) -> dict[str, Any]:
        """As the UI does it."""
        wanted = {"type": state, "name": name or state.capitalize(), "state_details": details}
        path = f"/flow_runs/{self.id}/set_state"
        return dict(self.server.call("POST", path, json={"state": wanted, "force": force}))

    def cancel(self) -> None:
        self.put("CANCELLING")

    def suspend(self) -> None:
        self.put("PAUSED", name="Suspended", pause_reschedule=True)

    def resume(self) -> None:
        self.server.call("POST", f"/flow_runs/{self.id}/resume", json={})

    def go(self) -> None:
        (self.folder / "go").touch()

    def pids(self) -> list[int]:
        """Of the processes that have begun it."""
        return [int(file.name.partition("-")[2]) for file in self.folder.glob("begun-*[0-9]")]

    def begun(self, *, times: int = 1, timeout: float = 20) -> int:
        """The pid of the latest process, once so many have begun."""
        wait_until(lambda: len(self.pids()) == times, timeout=timeout, what=f"{self.id}, which is {self.state}")
        newest = max(self.folder.glob("begun-*[0-9]"), key=lambda file: file.stat().st_mtime_ns)
        return int(newest.name.partition("-")[2])

    def deaf(self) -> int:
        wait_until((self.folder / "deaf").exists, timeout=20)
        return self.begun()

    def ended(self, wanted: str, *, timeout: float = 20) -> dict[str, Any]:
        """Its final state, which must be that one."""
        wait_until(lambda: self.state["type"] in TERMINAL, timeout=timeout, every=0.05, what=f"{self.id} {self.state}")
        state = self.state
        assert state["name"] == wanted, state
        return state

    def hooks(self) -> list[str]:
        file = self.folder / "hooks"
        return file.read_text().splitlines() if file.exists() else []

    def log_lines(self) -> list[str]:
        wanted = {"logs": {"flow_run_id": {"any_": [self.id]}}, "sort": "TIMESTAMP_ASC"}
        return [line["message"] for line in self.server.call("POST", "/logs/filter", json=wanted)]


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
