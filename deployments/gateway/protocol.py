"""Bounds on the head of a request, where the server reads it: how large, how many headers, and how long it may take.

uvicorn bounds none of these with httptools. Its protocol is told here what to do beside what it does: a head past its
bounds is answered with 431, one that takes too long with 408, and what is no HTTP with 400, each by a problem document,
and the connection ends. The answer is written first and what still comes is let pass for a moment: a connection closed
on a sender that still sends loses the answer.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from darkroom.deployments.gateway.problems import MEDIA_TYPE, Problem

MOST_BYTES = 64 * 1024
MOST_HEADERS = 200
SECONDS_FOR_HEAD = 20.0
SECONDS_TO_READ_ANSWER = 2.0


class BoundedHttp(HttpToolsProtocol):
    """For `uvicorn.run(http=…)`."""

    seconds_for_head = SECONDS_FOR_HEAD

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._began = False
        self._bytes = 0
        self._refused = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        if self._in_head and self._began:
            self._bytes += len(data)
            if self._bytes > MOST_BYTES:
                self._refuse(too_large())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = self._began = True
        self._bytes = 0
        if self._timer is None:
            self._start_timer()

    def on_headers_complete(self) -> None:
        self._in_head = self._began = False
        self._stop_timer()
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MOST_BYTES or len(self.headers) > MOST_HEADERS:
            self.app = too_large().response()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP as everything else that is refused."""
        self._refuse(no_http())

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self.seconds_for_head, self._took_too_long)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _took_too_long(self) -> None:
        self._timer = None
        if self._began:
            self._refuse(too_slow())
        elif not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        """Answer what has no whole head yet, and end the connection."""
        self._refused = True
        self._stop_timer()
        if self.transport.is_closing():
            return
        body = problem.document().model_dump_json(exclude_none=True).encode()
        head = f"HTTP/1.1 {problem.status_code} {problem.code}\r\nContent-Type: {MEDIA_TYPE}\r\n"
        length = f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self.transport.write((head + length).encode() + body)
        self.loop.call_later(SECONDS_TO_READ_ANSWER, self.transport.close)


def too_large() -> Problem:
    return Problem(
        431,
        f"The address and headers are more than {MOST_BYTES // 1024} KiB, or more than {MOST_HEADERS} headers.",
        remedy="Send what is long in the body.",
        code="head-too-large",
        headers={"Connection": "close"},
    )


def no_http() -> Problem:
    return Problem(
        400,
        "This is no HTTP request.",
        remedy="Send HTTP/1.1, with a method that it has.",
        headers={"Connection": "close"},
    )


def too_slow() -> Problem:
    return Problem(
        408,
        f"The head of the request took more than {SECONDS_FOR_HEAD:.0f} s.",
        remedy="Send it again, in one piece.",
        code="head-too-slow",
        headers={"Connection": "close"},
    )
