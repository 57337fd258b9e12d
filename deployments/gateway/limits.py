"""Bounds on what arrives, before anything is parsed: the size of bodies, and their type.

Pure ASGI, so a body is counted while it streams and never held in memory past its cap. A body that is too large is read
to its end, within bounds, before it is refused: a connection closed on a sender that still sends loses the answer.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.gateway.problems import Problem

MIB = 1024 * 1024
API_CAP = MIB
WEBHOOK_CAP = 8 * MIB  # a webhook carries a whole output, with data URIs at worst
DRAINED = 16 * MIB
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
WEBHOOKS = "/webhooks/"


class Limits:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        cap = cap_for(scope["path"])
        refusal = refuse(scope["method"], scope["path"], headers, cap=cap)
        body = _Body(receive, cap=cap)
        if refusal is None:
            await self._app(scope, body.receive, send)
            return
        # A sender that asked first has sent nothing yet.
        if headers.get("expect", "").lower() != "100-continue":
            await body.drain()
        await refusal.response()(scope, receive, send)


def cap_for(path: str) -> int:
    return WEBHOOK_CAP if path.startswith(WEBHOOKS) else API_CAP


def refuse(method: str, path: str, headers: Headers, *, cap: int) -> Problem | None:
    """What the head of a request tells about its body."""
    length = headers.get("content-length", "0")
    if length.isdigit() and int(length) > cap:
        return too_large(cap)
    if method in WITH_BODY and not path.startswith(WEBHOOKS) and not _fits(headers):
        return wrong_type()
    return None


def _fits(headers: Headers) -> bool:
    """JSON, or no body at all: a cancel needs none."""
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return True
    return headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"


def too_large(cap: int) -> Problem:
    return Problem(
        413,
        f"The body is larger than {cap // MIB} MiB.",
        field="body",
        remedy=f"Send at most {cap // MIB} MiB.",
        headers={"Connection": "close"},
    )


def wrong_type() -> Problem:
    return Problem(
        415,
        "The body is not declared as JSON.",
        field="Content-Type",
        remedy="Send JSON, with the header Content-Type: application/json.",
    )


class _Body:
    """The stream of a request's body, counted."""

    def __init__(self, receive: Receive, *, cap: int) -> None:
        self._receive = receive
        self._cap = cap
        self._size = 0

    async def receive(self) -> Message:
        message = await self._next()
        if self._size > self._cap:
            if message.get("more_body"):
                await self.drain()
            raise too_large(self._cap)
        return message

    async def drain(self) -> None:
        while self._size <= DRAINED:
            message = await self._next()
            if message["type"] != "http.request" or not message.get("more_body"):
                return

    async def _next(self) -> Message:
        message = await self._receive()
        self._size += len(message.get("body", b""))
        return message
