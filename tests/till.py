"""What an application has beside Darkroom, on one local port: a payment provider, and a receiver of notifications.

It keeps a book of both, charges once under one key as payment providers do, and can be made to refuse or to stall.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SIGNING_KEY = "whsec_dGlsbC10aWxsLXRpbGwtdGlsbC10aWxs"
KEY = "till:secret"


@dataclass(frozen=True)
class Post:
    path: str
    headers: dict[str, str]  # lower case
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        return dict(json.loads(self.raw))


@dataclass
class Till:
    port: int = 0
    posts: list[Post] = field(default_factory=list)
    charges: dict[str, str] = field(default_factory=dict)  # by idempotency key
    statuses: dict[str, list[int]] = field(default_factory=dict)  # by word in a body: what is answered first
    stalled: dict[str, threading.Event] = field(default_factory=dict)  # by word: done, and the answer waits for it
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def charge_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/charges"

    @property
    def news_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/news"

    def posted(self, path: str, word: str) -> list[Post]:
        """In the order they came; those that were refused too."""
        return [post for post in list(self.posts) if post.path == path and word.encode() in post.raw]

    def news(self, word: str) -> list[str]:
        """Subjects of what was told, each message once."""
        told = {post.body["id"]: post.body["subject"] for post in self.posted("/news", word)}
        return list(told.values())

    def charged(self, word: str) -> list[str]:
        """Ids of the charges that were made, each once however often it was asked for."""
        keys = {post.headers["idempotency-key"] for post in self.posted("/charges", word)}
        return sorted(self.charges[key] for key in keys & set(self.charges))

    def take(self, post: Post) -> tuple[int, dict[str, Any]]:
        with self._lock:
            self.posts.append(post)
            status = self._status(post)
            key = post.headers.get("idempotency-key")
            if status < 300 and key is not None:
                self.charges.setdefault(key, f"ch_{len(self.charges) + 1:04}")
        for word, event in list(self.stalled.items()):
            if word.encode() in post.raw:
                event.wait(120)
        return status, {"id": self.charges.get(key or "")}

    def _status(self, post: Post) -> int:
        for word, left in self.statuses.items():
            if word.encode() in post.raw and left:
                return left.pop(0)
        return 200


@contextmanager
def open_till() -> Iterator[Till]:
    till = Till()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, body = till.take(Post(self.path, headers, raw))
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_: Any) -> None:
            """A visitor whose process was killed."""

    server = Server(("127.0.0.1", 0), Handler)
    till.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield till
    finally:
        for event in till.stalled.values():
            event.set()
        server.shutdown()
        server.server_close()
        thread.join()
