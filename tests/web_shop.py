"""A web server as users' URLs lead to it: it serves what a test lays out, as badly as the test wants, and keeps a book.

Standard library only, one thread for each connection, on a port of its own.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

from PIL import Image

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Shop:
    port: int
    scheme: str = "http"
    answers: dict[str, Answer] = field(default_factory=dict)
    visits: list[dict[str, str]] = field(default_factory=list)  # path and headers, lower case
    most_at_once: Counter[str] = field(default_factory=Counter)  # by the first part of the path
    inside: Counter[str] = field(default_factory=Counter)  # being served now
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def lay_out(self, path: str, answer: Answer, *, host: str = "127.0.0.1") -> str:
        """Serves it from now on, and gives its URL."""
        self.answers[path] = answer
        return self.url(path, host=host)

    def url(self, path: str, *, host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    def visited(self, path: str) -> int:
        return sum(visit["path"] == path for visit in self.visits)

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        who = handler.path.split("/")[1]
        with self._lock:
            self.visits.append(
                {name.lower(): value for name, value in handler.headers.items()} | {"path": handler.path}
            )
            self.inside[who] += 1
            self.most_at_once[who] = max(self.most_at_once[who], self.inside[who])
        try:
            self.answers.get(handler.path, status(404))(handler)
        except OSError:  # the visitor has had enough
            pass
        finally:
            with self._lock:
                self.inside[who] -= 1


@contextmanager
def open_shop(tls: ssl.SSLContext | None = None) -> Iterator[Shop]:
    shop = Shop(port=0, scheme="https" if tls else "http")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shop.serve(self)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None: ...

    server = _Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    shop.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield shop
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """A visitor that leaves, or does not trust the certificate, is none of the server's failures."""


def content(body: bytes, content_type: str = "image/jpeg", **headers: str) -> Answer:
    """`Content_Length` and the like replace what is true."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        told = {"Content-Type": content_type, "Content-Length": str(len(body))}
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in told.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def status(code: int, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def redirect(to: str, code: int = 302) -> Answer:
    return status(code, Location=to)


def in_turn(*answers: Answer) -> Answer:
    """The first visit gets the first, and so on; the last stays."""
    left = list(answers)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(handler)

    return answer


def after(seconds: float, then: Answer) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        then(handler)

    return answer


def held(until: threading.Event, then: Answer) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        assert until.wait(60)
        then(handler)

    return answer


def dripping(pieces: Iterable[bytes], *, pause: float) -> Answer:
    """Bytes as they are, head and all, one piece after the other."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        for piece in pieces:
            handler.wfile.write(piece)
            handler.wfile.flush()
            time.sleep(pause)

    return answer


def picture(
    name: str = "JPEG", *, size: tuple[int, int] = (320, 240), mode: str = "RGB", colour: Any = "teal", **options: Any
) -> bytes:
    out = BytesIO()
    Image.new(mode, size, colour).save(out, name, **options)
    return out.getvalue()
