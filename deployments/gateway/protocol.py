"""Bounds on the head of a request, where the server reads it: how large, how many headers, and how long it may take.

uvicorn bounds none of these with httptools. Its protocol is told here what to do beside what it does: a head past its
bounds is answered with 431, one that takes too long with 408, and what is no HTTP with 400, each by a problem document,
and the connection ends. While an earlier request of the connection is being answered, that waits for its end.
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

    seconds_for_head = SECONDS_FOR_HEAD  # here, as tests have it shorter

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._began = False
        self._bytes = 0
        self._refused: Problem | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()  # else it keeps what is left of the connection for as long as it runs
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused is not None:  # the answer is on its way: what still comes is let pass
            return
        # Counted once it is parsed: it may have been the end of the head, and bodies have bounds of their own.
        super().data_received(data)
        if self._in_head and self._began:
            self._bytes += len(data)
            if self._bytes > MOST_BYTES:
                self._refuse(too_large())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = self._began = True
        self._bytes = 0
        # Of the first request it runs since the connection: one that never says anything is closed, too.
        # Behind an answer nobody waits for it yet, and uvicorn may not even read.
        if self._timer is None and not self._is_answering:
            self._start_timer()

    def on_headers_complete(self) -> None:
        self._stop_timer()
        # Here as well: a head that comes in one piece is over before its bytes are counted above.
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MOST_BYTES or len(self.headers) > MOST_HEADERS:
            self.app = too_large().response()  # its head is whole, so uvicorn can send the answer itself
        super().on_headers_complete()  # an address that cannot be read is refused in it, still as a head
        self._in_head = self._began = False

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True  # of the next request on this connection, once it begins

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_answering:  # the next one, which was sent meanwhile
            return
        if self._refused is not None:
            self._answer_refused(self._refused)
        elif self._in_head and self._began and self._timer is None and not self.transport.is_closing():
            self._unset_keepalive_if_required()  # for a connection on which nothing is asked
            self._start_timer()

    @property
    def _is_answering(self) -> bool:
        """Whether an answer is due before that to what is being read: in whole requests' order, so the last one's."""
        return self.cycle is not None and not self.cycle.response_complete

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
        elif not self.transport.is_closing():  # nothing was asked, so nothing is answered
            self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        """Answer what has no whole head yet, and end the connection. What comes after it is let pass."""
        if self._refused is not None:  # what is no HTTP may be long, too
            return
        self._refused = problem
        self._stop_timer()
        if not self._is_answering:
            self._answer_refused(problem)
        elif not self._in_head:  # of a body that is broken no end comes, so that its answer may not, either
            self._break_off(problem)

    def _break_off(self, problem: Problem) -> None:
        """End what is being answered: by the problem, where nothing of an answer is sent."""
        is_sent = self.cycle.response_started or bool(self.pipeline)  # then it would stand in the midst of another
        self.cycle.disconnected = True  # to the endpoint its client is gone
        self.cycle.message_event.set()
        if is_sent:
            self.transport.close()
        else:
            self._answer_refused(problem)

    def _answer_refused(self, problem: Problem) -> None:
        if self.transport.is_closing():
            return
        body = problem.document().model_dump_json(exclude_none=True).encode()
        # By hand: uvicorn answers requests, and this is none yet.
        head = f"HTTP/1.1 {problem.status_code} {problem.code}\r\nContent-Type: {MEDIA_TYPE}\r\n"
        length = f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self.transport.write((head + length).encode() + body)
        # Closed at once on a sender that still sends, the connection is reset, and the answer is lost with it.
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
