"""A running gateway for tests: the application behind a real server, or the process as it comes, and a Prefect that
records what it is asked."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import httpx
import pytest
import uvicorn
from forked import ForkedProcess, start_forked
from pydantic import SecretStr
from support import SLOW, free_port, wait_until

from darkroom.deployments.gateway.app import create_app
from darkroom.deployments.gateway.loops.block_cache import BlockCache, Readiness
from darkroom.deployments.gateway.protocol import BoundedHttp
from darkroom.deployments.home import Home, write_private
from darkroom.errors import Retry
from darkroom.ledger import OPERATOR, Ledger, NewKey
from darkroom.media.store import MediaStore
from darkroom.orchestrator import api
from darkroom.providers.account import ProviderAccount
from darkroom.providers.base import Provider
from darkroom.providers.fal import Fal, FalAccount
from darkroom.providers.fal.platform import FalPlatform
from darkroom.providers.fal.provider import FalProvider
from darkroom.settings import Settings
from darkroom.tls import tls_context

GATEWAY = "darkroom.deployments.gateway.__main__"
NO_PREFECT = "http://127.0.0.1:9/api"


def routes_of(app: Any) -> Iterator[str]:
    """As method and path, with those of included routers as they are reached."""
    for route in app.routes if hasattr(app, "routes") else app:
        if hasattr(route, "effective_candidates"):
            yield from routes_of(route.effective_candidates())
        else:
            yield from (
                f"{method} {route.path}" for method in getattr(route, "methods", None) or () if method != "HEAD"
            )


@dataclass(frozen=True, kw_only=True)
class GivenBlocks:
    """Blocks that need no Prefect."""

    client: Fal | None = None
    media: MediaStore | None = None
    secrets: Mapping[str, str] = field(default_factory=dict)

    def account(self, account_id: str) -> ProviderAccount | None:
        return None

    def provider(self, account_id: str) -> Provider:
        if self.client is None or account_id != "fal":
            raise Retry("the block could not be read yet")
        return FalProvider(self.client)

    def store(self) -> MediaStore:
        if self.media is None:
            raise Retry("the block could not be read yet")
        return self.media

    def secret(self, name: str) -> str:
        if name not in self.secrets:
            raise Retry("the block could not be read yet")
        return self.secrets[name]

    def readiness(self) -> Readiness:
        return Readiness(problems={})


@dataclass(frozen=True, kw_only=True)
class RunningGateway:
    url: str
    http: httpx.Client

    def webhook_url(self, token: str | None) -> str:
        return f"{self.url}/webhooks/fal" + (f"?token={token}" if token else "")

    def as_user(self, key: NewKey | str) -> Customer:
        return Customer(key=key if isinstance(key, str) else key.key, http=self.http)


@dataclass(frozen=True, kw_only=True)
class Customer:
    """The gateway as somebody with that key uses it."""

    key: str
    http: httpx.Client

    def order(self, body: object = None, **headers: str) -> httpx.Response:
        return self.send(json={"prompt": "a fox"} if body is None else body, **headers)

    def send(self, *, json: object = None, content: bytes | None = None, **headers: str) -> httpx.Response:
        """Headers by their names with underscores."""
        return self.post("/v1/images", json=json, content=content, **headers)

    def post(
        self, path: str, *, json: object = None, content: bytes | str | None = None, **headers: str
    ) -> httpx.Response:
        return self.http.post(path, json=json, content=content, headers=self._headers(headers))

    def delete(self, path: str, **headers: str) -> httpx.Response:
        return self.http.delete(path, headers=self._headers(headers))

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.http.get(path, headers=self._headers(headers))

    def _headers(self, more: dict[str, str]) -> dict[str, bytes]:
        given = {"Authorization": f"Bearer {self.key}"} | more
        return {name.replace("_", "-"): value.encode() for name, value in given.items()}


@contextmanager
def running_gateway(
    settings: Settings, *, blocks: BlockCache | None = None, http: type[BoundedHttp] = BoundedHttp, port: int = 0
) -> Iterator[RunningGateway]:
    with _patience(), socket.create_server(("127.0.0.1", port)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = create_app(settings, blocks=blocks)
        config = uvicorn.Config(app, http=http, access_log=False, log_level="warning")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive(), what="the gateway")
            with httpx.Client(base_url=url, trust_env=False, timeout=SLOW * 30, verify=tls_context()) as client:
                yield RunningGateway(url=url, http=client)
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def _patience() -> Iterator[None]:
    """Ask a Prefect that is nowhere once: who orders with it would wait for three more times at the gateway's end."""
    with pytest.MonkeyPatch.context() as patched:
        if os.environ.get("PREFECT_API_URL") == NO_PREFECT:
            patched.setattr(api, "REPEAT_AFTER_SECONDS", ())
        yield


@contextmanager
def gateway_alone(
    ledger_url: str, home: Path, *, media: MediaStore | None = None, prefect_url: str = NO_PREFECT
) -> Iterator[RunningGateway]:
    """A gateway that has its ledger and perhaps a store, and no provider."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PREFECT_API_URL", prefect_url)
        settings = Settings(ledger_url=ledger_url, home=home, signing_key=SecretStr("a long random text"))
        with running_gateway(settings, blocks=None if media is None else GivenBlocks(media=media)) as gateway:
            yield gateway


def let_the_operator_in(gateway: RunningGateway, ledger: Ledger, home: Path, environment: pytest.MonkeyPatch) -> None:
    """Make commands in this process the operator's: their key is in the home, and the caller has none of their own."""
    environment.delenv("DARKROOM_API_KEY", raising=False)
    for name, value in {"GATEWAY_URL": gateway.url, "HOME": str(home)}.items():
        environment.setenv(f"DARKROOM_{name}", value)
    write_private(Home(home).operator_key, ledger.users.rotate(OPERATOR).key + "\n")


@contextmanager
def gateway_with_cards(ledger_url: str, home: Path) -> Iterator[RunningGateway]:
    """A gateway that asks the simulated fal for cards."""

    @contextmanager
    def platform(cls: type[FalAccount]) -> Iterator[FalPlatform]:
        with closing(FalPlatform("sim:key")) as platform:
            yield platform

    settings = Settings(home=home, ledger_url=ledger_url, signing_key=SecretStr("k"), store=str(home))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(FalAccount, "platform", classmethod(platform))
        patched.setenv("PREFECT_API_URL", NO_PREFECT)
        with running_gateway(settings, blocks=GivenBlocks()) as gateway:
            yield gateway


@dataclass(frozen=True, kw_only=True)
class GatewayProcess(RunningGateway):
    process: subprocess.Popen[bytes] | ForkedProcess

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def gateway_process(
    environment: Mapping[str, str], log: Path, *, port: int | None = None, anew: bool = False
) -> Iterator[GatewayProcess]:
    """Ended with the block, unless a test has killed it before. `anew`: in an interpreter of its own, as it comes."""
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    with log.open("a") as output, _started(environment, output, port=port, anew=anew) as process:
        try:
            with httpx.Client(base_url=url, trust_env=False, timeout=SLOW * 30, verify=tls_context()) as http:
                wait_until(lambda: _lives(http, process), timeout=60, every=0.05, what=f"the gateway, see {log}")
                yield GatewayProcess(url=url, http=http, process=process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def _started(
    environment: Mapping[str, str], output: IO[Any], *, port: int, anew: bool
) -> subprocess.Popen[bytes] | ForkedProcess:
    if not anew:
        return start_forked(GATEWAY, "--port", str(port), environment=environment, output=output, errors=output)
    command = [sys.executable, "-m", GATEWAY.removesuffix(".__main__"), "--port", str(port)]
    return subprocess.Popen(command, env=environment, stdout=output, stderr=output)


def _lives(http: httpx.Client, process: subprocess.Popen[bytes] | ForkedProcess) -> bool:
    assert process.poll() is None, "the gateway ended"
    try:
        return http.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


@dataclass
class RecordingPrefect:
    """Accepts what Darkroom asks of Prefect's API, and remembers it."""

    url: str
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    flow_run_id: str = field(default_factory=lambda: str(uuid4()))

    def bodies(self, path: str) -> list[Any]:
        """What was sent to paths that match."""
        return [body for _, called, body in list(self.calls) if re.search(path, called)]


@contextmanager
def recording_prefect() -> Iterator[RecordingPrefect]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Prefect)
    server.daemon_threads = True
    prefect = _Prefect.recorders[server] = RecordingPrefect(url=f"http://127.0.0.1:{server.server_port}/api")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield prefect
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        del _Prefect.recorders[server]


class _Prefect(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    recorders: dict[Any, RecordingPrefect] = {}  # noqa: RUF012

    def _answer(self) -> None:
        prefect = self.recorders[self.server]
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        prefect.calls.append((self.command, self.path, json.loads(sent) if sent else None))
        answer = json.dumps({"id": prefect.flow_run_id}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PATCH = _answer

    def log_message(self, format: str, *args: object) -> None:
        pass
