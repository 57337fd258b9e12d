"""Replicate's HTTP API as a server on a port of its own, which keeps a book of what it was sent and signs its webhooks.

It answers as Replicate documents it: replicate.com/docs/reference/http, and /docs/topics/webhooks/verify-webhook. A
prediction runs until a test says how it ends. It shares no code with the provider.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

TOKEN = "r8_simulated"
OFFICIAL = frozenset({"black-forest-labs/flux-schnell"})
VERSIONS = {"7762fd07cf82c948538e41f63f77d685e02b063e37e496e96eefd46c929f9bdc": "stability-ai/sdxl"}
ORDER_FIELDS = frozenset({"input", "version", "webhook", "webhook_events_filter", "stream"})
ENDED = frozenset({"succeeded", "failed", "canceled", "aborted"})
SECONDS = 2.5  # of the hardware, that a prediction takes
Document = dict[str, Any]


def new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What the next POST gets instead of a prediction."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class SimulatedReplicate:
    url: str
    secret: str = field(default_factory=new_secret)
    refusal: Refusal | None = None
    loses_answers: bool = False  # takes a POST, and hangs up
    hangs: threading.Event | None = None  # takes a POST, and answers when this is set
    book: dict[str, Document] = field(default_factory=dict)  # every prediction that was created, by id
    posts: list[tuple[str, Document, Mapping[str, str]]] = field(default_factory=list)  # path, body, headers
    webhooks: dict[str, Document] = field(default_factory=dict)  # webhook and its filter, by the prediction's id
    answered: list[int] = field(default_factory=list)  # to webhooks
    lock: threading.Lock = field(default_factory=threading.Lock)

    def the_only_one(self) -> str:
        (prediction_id,) = self.book
        return prediction_id

    def refuse(self, status: int, document: Document | str, **headers: str) -> None:
        body = document if isinstance(document, str) else json.dumps(document | {"status": status})
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.refusal = Refusal(status=status, body=body.encode(), headers=named)

    def end(self, prediction_id: str, status: str = "succeeded", *, webhook: str = "signed", **changes: Any) -> int:
        """End it, and tell so: `signed`, `rotating`, `forged`, `old` or `lost`. Return the answer, 0 for none."""
        with self.lock:
            found = self.book[prediction_id]
            if found["status"] in ENDED:
                return 0
            pictures = [f"https://replicate.delivery/xezq/{prediction_id}/out-{n}.webp" for n in range(outputs(found))]
            ended = {
                "status": status,
                "output": pictures if status == "succeeded" else None,
                "metrics": {} if status == "aborted" else {"predict_time": SECONDS, "total_time": SECONDS + 0.2},
                "completed_at": now(),
            }
            found |= ended | changes
        order = self.webhooks[prediction_id]
        if webhook == "lost" or not order["webhook"] or "completed" not in order["webhook_events_filter"]:
            return 0
        return self.send(found, to=order["webhook"], webhook=webhook)

    def send(self, document: Document, *, to: str, webhook: str = "signed") -> int:
        body = json.dumps(document).encode()
        answer = httpx.post(to, content=body, headers=self._signed(body, webhook), trust_env=False, timeout=60)
        self.answered.append(answer.status_code)
        return answer.status_code

    def _signed(self, body: bytes, webhook: str) -> dict[str, str]:
        message_id = f"msg_{secrets.token_hex(12)}"
        sent_at = str(int(time.time()) - (301 if webhook == "old" else 0))
        signed = f"{message_id}.{sent_at}.".encode() + body
        by = {"forged": [new_secret()], "rotating": [new_secret(), self.secret]}.get(webhook, [self.secret])
        signatures = " ".join(f"v1,{signature(signed, secret)}" for secret in by)
        headers = {"webhook-id": message_id, "webhook-timestamp": sent_at, "webhook-signature": signatures}
        return headers | {"Content-Type": "application/json"}


def signature(signed: bytes, secret: str) -> str:
    key = base64.b64decode(secret.split("_", 1)[1])
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def outputs(prediction: Document) -> int:
    return int(prediction["input"].get("num_outputs", 1))


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


@contextmanager
def simulated_replicate() -> Iterator[SimulatedReplicate]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Api)
    server.daemon_threads = True
    replicate = SimulatedReplicate(url=f"http://127.0.0.1:{server.server_port}/v1")
    server.replicate = replicate  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield replicate
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if not self._is_ours():
            return
        if found := self._named(r"/v1/predictions/([a-z0-9]+)"):
            self._answer(200, found)
        else:
            self._not_found()

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self._is_ours():
            return
        if self.path.endswith("/cancel"):
            self._cancel()
        elif model := re.fullmatch(r"/v1/models/([a-z0-9.-]+/[a-z0-9.-]+)/predictions", self.path):
            self._create(json.loads(sent), model=model[1] if model[1] in OFFICIAL else None)
        elif self.path == "/v1/predictions":
            order = json.loads(sent)
            self._create(order, model=VERSIONS.get(order.get("version")))
        else:
            self._not_found()

    def _create(self, order: Document, *, model: str | None) -> None:
        replicate = self._replicate
        replicate.posts.append((self.path, order, dict(self.headers)))
        if (refusal := replicate.refusal) is not None:
            replicate.refusal = None
            self._send(refusal.status, refusal.body, **refusal.headers)
        elif model is None:
            self._not_found()
        elif wrong := _invalid(order):
            detail = "".join(f"- {each['description']}\n" for each in wrong)
            problem = {"title": "Input validation failed", "detail": detail, "invalid_fields": wrong}
            self._answer(422, problem | {"status": 422})
        else:
            made = self._book(order, model)
            if replicate.hangs is not None:
                replicate.hangs.wait(60)
            if replicate.loses_answers or replicate.hangs is not None:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            else:
                self._answer(201, made)

    def _book(self, order: Document, model: str) -> Document:
        prediction_id = secrets.token_hex(13)
        made = {
            "id": prediction_id,
            "model": model,
            "version": order.get("version", "hidden"),
            "input": order["input"],
            "logs": "",
            "output": None,
            "data_removed": False,
            "error": None,
            "source": "api",
            "status": "starting",
            "created_at": now(),
            "metrics": {},
            "urls": {name: f"{self._replicate.url}/predictions/{prediction_id}{end}" for name, end in _URLS.items()},
        }
        webhook = {"webhook": order.get("webhook"), "webhook_events_filter": order.get("webhook_events_filter", [])}
        with self._replicate.lock:
            self._replicate.book[prediction_id] = made
            self._replicate.webhooks[prediction_id] = webhook
        return dict(made)

    def _cancel(self) -> None:
        """End it, which has cost its seconds, and tell so; one that has ended stays as it is."""
        found = self._named(r"/v1/predictions/([a-z0-9]+)/cancel")
        if found is None:
            self._not_found()
            return
        self._replicate.end(found["id"], "canceled")
        self._answer(200, found)

    def _named(self, pattern: str) -> Document | None:
        named = re.fullmatch(pattern, self.path)
        return self._replicate.book.get(named[1]) if named else None

    def _is_ours(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        detail = "You did not pass a valid authentication token"
        self._answer(401, {"title": "Unauthenticated", "detail": detail, "status": 401})
        return False

    def _not_found(self) -> None:
        self._answer(404, {"title": "Not found", "detail": "The requested resource could not be found.", "status": 404})

    def _answer(self, status: int, document: Document) -> None:
        self._send(status, json.dumps(document).encode(), **{"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    @property
    def _replicate(self) -> SimulatedReplicate:
        return self.server.replicate  # type: ignore[attr-defined, no-any-return]

    def log_message(self, format: str, *args: object) -> None:
        pass


_URLS = {"get": "", "cancel": "/cancel"}


def _invalid(order: Document) -> list[Document]:
    """What Replicate finds wrong with an order: unknown fields, and an input without a prompt."""
    unknown = [
        {
            "type": "additional_property_not_allowed",
            "field": "",
            "description": f"Additional property {name} is not allowed",
        }
        for name in order
        if name not in ORDER_FIELDS
    ]
    if isinstance(order.get("input"), dict) and order["input"].get("prompt"):
        return unknown
    return [*unknown, {"type": "required", "field": "input", "description": "prompt is required"}]
