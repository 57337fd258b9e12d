"""A customer's application: a real HTTP server that answers as it is told, and keeps what it was sent."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook


@dataclass(frozen=True, kw_only=True)
class Call:
    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float = field(default_factory=time.time)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    def verified(self, secret: str) -> dict[str, Any]:
        """Raises what the standard's own client raises for a signature that is not ours."""
        found: dict[str, Any] = Webhook(secret).verify(self.body, dict(self.headers))
        return found


@dataclass(frozen=True, kw_only=True)
class Says:
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"thanks"
    after: threading.Event | None = None  # hangs until then


@dataclass(eq=False)
class Application:
    """`answer`: what it says to its n-th call, from 1. `answers`: what it says to a call, where that is set."""

    url: str
    answer: Callable[[int], Says]
    answers: Callable[[Call], Says] | None = None
    calls: list[Call] = field(default_factory=list)

    @property
    def allowed(self) -> str:
        return self.url.removeprefix("http://")


@contextmanager
def application(answer: Callable[[int], Says] = lambda n: Says()) -> Iterator[Application]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    own = _Handler.applications[server] = Application(f"http://127.0.0.1:{server.server_port}", answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield own
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        del _Handler.applications[server]


class _Handler(BaseHTTPRequestHandler):
    applications: dict[Any, Application] = {}  # noqa: RUF012

    def do_POST(self) -> None:
        own = self.applications[self.server]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call(path=self.path, headers=headers, body=body)
        own.calls.append(call)
        says = own.answers(call) if own.answers is not None else own.answer(len(own.calls))
        if says.after is not None:
            says.after.wait()
        self.send_response(says.status)
        for name, value in says.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(says.body)))
        with suppress(OSError):  # whoever called has had enough
            self.end_headers()
            self.wfile.write(says.body)

    def log_message(self, format: str, *args: object) -> None:
        pass
