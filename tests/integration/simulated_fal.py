"""A running simulator for tests: the process, its operators' side, and a real receiver for its webhooks."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fal_client
import httpx
from forked import ForkedProcess, start_forked
from support import SLOW, wait_until

from darkroom.deployments.simulator.environment import client_environment

SIMULATOR = "darkroom.deployments.simulator.__main__"


class SimulatedFal:
    def __init__(self, process: ForkedProcess, *, port: int, home: Path) -> None:
        self.process = process
        self.port = port
        self.home = home
        self.operator = httpx.Client(base_url=f"http://127.0.0.1:{port}/_sim", trust_env=False)

    def environment(self) -> dict[str, str]:
        return client_environment(port=self.port, home=self.home, base=os.environ)

    def rule(self, **fields: Any) -> int:
        return int(self._posted("/rules", fields).json()["id"])

    def release(self, request_id: str, **changes: Any) -> None:
        self._posted(f"/requests/{request_id}/release", changes)

    def outage(self, seconds: float, *, mode: str = "nginx") -> None:
        self._posted("/outage", {"seconds": seconds, "mode": mode})

    def call_rule(self, **fields: Any) -> None:
        """For the other providers."""
        self._posted("/calls/rules", fields)

    def calls(self, **query: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.operator.get("/calls", params=query).json()
        return rows

    def release_call(self, call_id: str) -> None:
        self._posted(f"/calls/{call_id}/release", {})

    def mux_webhooks_to(self, url: str | None) -> None:
        self.operator.put("/mux/webhook", json={"url": url}).raise_for_status()

    def send_webhook(self, **order: Any) -> int | None:
        status_code: int | None = self._posted("/webhook", order).json()["status_code"]
        return status_code

    def rotate(self) -> None:
        self._posted("/rotate", {})

    def add_model(self, **card: Any) -> None:
        self._posted("/models", card)

    def change_model(self, endpoint: str, **fields: Any) -> None:
        answer = self.operator.patch("/models", params={"endpoint_id": endpoint}, json=fields)
        answer.raise_for_status()

    def rename_model(self, old: str, new: str) -> None:
        self._posted("/models/rename", {"from": old, "to": new})

    def platform(self, **settings: Any) -> None:
        self.operator.put("/platform", json=settings).raise_for_status()

    def balance(self, usd: str, user_id: str = "sim-user") -> None:
        self.operator.put("/balance", json={"usd": usd, "user_id": user_id}).raise_for_status()

    def release_bills(self, request_id: str | None = None) -> int:
        return int(self._posted("/billing/release", {"request_id": request_id}).json()["released"])

    def correct_bill(self, request_id: str, usd: str) -> None:
        self._posted("/billing/correct", {"request_id": request_id, "usd": usd})

    def invoice(self) -> dict[str, Any]:
        """What was charged since it started, in nano-dollars."""
        invoice: dict[str, Any] = self.operator.get("/invoice").json()
        return invoice

    def requests(self, match: str = "") -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.operator.get("/requests", params={"match": match}).json()
        return rows

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = self.operator.get("/stats").json()
        return stats

    def reset(self) -> None:
        """No rule, no outage, no model of a test's own, and both slots free for the next test."""
        self.operator.delete("/rules").raise_for_status()
        self.outage(0)
        self.mux_webhooks_to(None)
        wait_until(self._is_idle)
        self.operator.delete("/platform").raise_for_status()

    def _is_idle(self) -> bool:
        stats = self.stats()
        if stats["in_queue"] == stats["in_progress"] == 0:
            return True
        for row in self.requests():
            if row["status"] != "COMPLETED":
                self.release(row["request_id"])
        return False

    def stop(self) -> int:
        self.operator.close()
        self.process.terminate()
        with self.process:
            return self.process.wait(10)

    def _posted(self, path: str, body: Any) -> httpx.Response:
        return self.operator.post(path, json=body, timeout=SLOW * 30).raise_for_status()


def start_simulator(home: Path, *options: str) -> SimulatedFal:
    reading, writing = os.pipe()
    with os.fdopen(reading) as said, os.fdopen(writing, "w") as output:
        arguments = ("--home", str(home), "--port", "0", *options)
        # It imports PyAV with its first film, speech or upload to Mux.
        process = start_forked(SIMULATOR, *arguments, environment=os.environ, output=output, beside=("av",))
        output.close()
        ready = re.search(r":(\d+)$", said.readline())
    if ready is None:
        with process:
            process.kill()
        raise RuntimeError("the simulator did not start")
    return SimulatedFal(process, port=int(ready[1]), home=home)


class _TidyClient(fal_client.SyncClient):
    """fal's client has no way to be closed and opens one more for each upload; here a forgotten one is an error."""

    def _get_cdn_client(self) -> httpx.Client:
        client = super()._get_cdn_client()
        self._opened.append(client)
        return client

    @cached_property
    def _opened(self) -> list[httpx.Client]:
        return [self._client]


@contextmanager
def fal_client_with(key: str) -> Iterator[fal_client.SyncClient]:
    client = _TidyClient(key=key)
    yield client
    for opened in client._opened:
        opened.close()


@dataclass(frozen=True, kw_only=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)


class Receiver:
    """Takes webhooks; answers with `answers` in turn, then 200."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/webhooks/fal?token=abc"
        self.received: list[Received] = []
        self.answers: list[int] = []

    def wait_for(self, number: int) -> list[Received]:
        wait_until(lambda: len(self.received) >= number)
        return self.received


@contextmanager
def receiving() -> Iterator[Receiver]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    receiver = _Handler.receivers[server] = Receiver(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        del _Handler.receivers[server]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    receivers: dict[Any, Receiver] = {}  # noqa: RUF012

    def do_POST(self) -> None:
        receiver = self.receivers[self.server]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        receiver.received.append(Received(path=self.path, headers=headers, body=body))
        self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass
