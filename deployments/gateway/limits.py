"""Bounds on what arrives, before anything is parsed: the size of bodies, their type, and how deep their JSON nests.

A body that is too large is read to its end, within bounds, before it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from darkroom.batches import MOST_BYTES as MOST_OF_A_MANIFEST
from darkroom.deployments.gateway.problems import Problem
from darkroom.media.archives import LARGEST_IMAGE, MIB, MOST_BYTES
from darkroom.nesting import MOST_LEVELS, nests_too_deep

API_CAP = MIB
WEBHOOK_CAP = 8 * MIB  # a webhook carries a whole output, with data URIs at worst
HOOK_CAP = MIB  # of others, which become events of 64 KiB at most
EVENTS_CAP = 8 * MIB  # ten thousand of some 800 bytes
DRAINED = 16 * MIB  # of a body that is refused
LEVELS_OF_EVENTS = 512  # an event that nests too deep for us is kept, refused; what nests deeper is not read
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
WEBHOOKS = "/webhooks/"
HOOKS = "/v1/hooks/"
SIGNED = (WEBHOOKS, HOOKS)  # byte for byte, so they are parsed only once it is known whose they are
UPLOADS = "/v1/uploads"
BATCHES = "/v1/batches"
QUOTES = "/v1/quotes"  # of a batch, too
EVENTS = "/v1/events"
STUDIO = "/studio/"
FORM, FORM_WITH_FILES = "application/x-www-form-urlencoded", "multipart/form-data"
JSON_LINES = frozenset(
    {
        *("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"),
        *("application/json-lines", "application/json-seq"),
    }
)
MANIFESTS = JSON_LINES | {
    *("text/csv", "application/csv", "text/x-csv", "text/comma-separated-values", "text/tab-separated-values"),
    *("text/plain", "application/vnd.ms-excel"),  # what browsers make of .txt, and of .csv beside an Excel
}
NESTING = JSON_LINES | {"application/json"}  # a webhook's is its receiver's to read
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([A-Za-z0-9_.:\-]{1,40})', re.IGNORECASE)
ARCHIVE = "application/zip"
ARCHIVES = frozenset({ARCHIVE, "application/x-zip-compressed"})  # as Windows calls it
ANY_FILE = "application/octet-stream"  # what a client says that does not know: it is told by its bytes
# The last ones are other names, by which old programs send the same.
IMAGES = ("jpeg", "png", "webp", "heic", "heif", "avif", "gif", "tiff", "bmp", "jpg", "pjpeg", "x-png", "x-ms-bmp")
UPLOAD_CAPS: Mapping[str, int] = {
    **{f"image/{name}": LARGEST_IMAGE for name in IMAGES},
    **dict.fromkeys((ARCHIVE, *sorted(ARCHIVES - {ARCHIVE}), ANY_FILE), MOST_BYTES),
    **dict.fromkeys(
        ("application/pdf", "application/gzip", "application/x-subrip", "text/plain", "text/vtt"), MOST_BYTES
    ),
}
FAMILIES = ("audio", "video", "model", "font")  # of types that models take, whichever they are
RANGES = tuple(f"{family}/*" for family in FAMILIES)


class Limits:
    # Pure ASGI, so that a body is counted while it streams, and never held in memory past its cap.
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # the server's start and end, and web sockets: they have no body
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        cap = cap_for(scope["path"], headers)
        refusal = refuse(scope["method"], scope["path"], headers, cap=cap)
        body = _Body(receive, cap=cap, levels=LEVELS_OF_EVENTS if scope["path"] == EVENTS else MOST_LEVELS)
        if refusal is None:
            nests = media_type(headers) in NESTING and not scope["path"].startswith(SIGNED)
            await self._app(scope, body.receive_bounded if nests else body.receive, send)
            return
        # A sender that asked first has sent nothing yet.
        if headers.get("expect", "").lower() != "100-continue":
            await body.drain()
        await refusal.response()(scope, receive, send)


def cap_for(path: str, headers: Headers) -> int:
    if path == UPLOADS:
        return upload_cap(media_type(headers)) or API_CAP
    if path in (BATCHES, QUOTES):
        return MOST_OF_A_MANIFEST
    if path == EVENTS:
        return EVENTS_CAP
    if path.startswith(HOOKS):
        return HOOK_CAP
    if path.startswith(STUDIO) and media_type(headers) == FORM_WITH_FILES:
        return MOST_BYTES
    return WEBHOOK_CAP if path.startswith(WEBHOOKS) else API_CAP


def upload_cap(declared: str) -> int | None:
    """Return the most bytes of a file that is declared as this; None for what cannot be uploaded."""
    family, _, kind = declared.partition("/")
    return MOST_BYTES if family in FAMILIES and kind else UPLOAD_CAPS.get(declared)


def media_type(headers: Headers) -> str:
    """Return the declared type of the body, without its parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def declared_charset(headers: Headers) -> str | None:
    """Return the character set that the body is declared to be in."""
    found = _CHARSET.search(headers.get("content-type", ""))
    return found[1] if found else None


def refuse(method: str, path: str, headers: Headers, *, cap: int) -> Problem | None:
    """Return the problem with the body that the head of a request tells about, or None if there is none."""
    length = headers.get("content-length", "0")
    # `isdigit` alone is true of `²`, too, which `int` does not read.
    if length.isascii() and length.isdigit() and int(length) > cap:
        return too_large(cap)
    if method not in WITH_BODY or path.startswith(SIGNED):
        return None
    if path == UPLOADS:
        return None if upload_cap(media_type(headers)) else wrong_upload_type()
    if path == BATCHES and media_type(headers) in MANIFESTS:
        return None
    if path.startswith(STUDIO) and media_type(headers) in (FORM, FORM_WITH_FILES):
        return None
    return None if _fits(headers) else wrong_type()


def _fits(headers: Headers) -> bool:
    """JSON, or no body at all: a cancel needs none."""
    # What comes in chunks has a body of which no length is told.
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return True
    return media_type(headers) == "application/json"


def too_large(cap: int) -> Problem:
    return Problem(
        413,
        f"The body is larger than {cap // MIB} MiB.",
        field="body",
        remedy=f"Send at most {cap // MIB} MiB.",
        headers={"Connection": "close"},  # the rest of the body would be taken for the next request
    )


def too_deep(levels: int) -> Problem:
    return Problem(
        422,
        f"The JSON is nested more than {levels} levels deep.",
        field="body",
        remedy=f"Nest at most {levels} levels.",
        code="too-deep",
    )


def wrong_type() -> Problem:
    return Problem(
        415,
        "The body is not declared as JSON.",
        field="Content-Type",
        remedy="Send JSON, with the header Content-Type: application/json.",
    )


def wrong_upload_type() -> Problem:
    return Problem(
        415,
        "The body is not declared as a file that can be uploaded.",
        field="Content-Type",
        remedy=f"Send the file itself as the body, with its Content-Type: {', '.join([*UPLOAD_CAPS, *RANGES])}.",
    )


class _Body:
    """The stream of a request's body, counted."""

    def __init__(self, receive: Receive, *, cap: int, levels: int) -> None:
        self._receive = receive
        self._levels = levels
        self._cap = cap
        self._size = 0

    async def receive(self) -> Message:
        message = await self._next()
        if self._size > self._cap:
            if message.get("more_body"):
                await self.drain()
            raise too_large(self._cap)
        return message

    async def receive_bounded(self) -> Message:
        """Return the body in one piece, as whoever parses it needs it, or raise the problem with its depth."""
        message = await self.receive()
        pieces = [message.get("body", b"")]
        while message["type"] == "http.request" and message.get("more_body"):
            message = await self.receive()
            pieces.append(message.get("body", b""))
        if message["type"] != "http.request":  # the sender is gone, in the middle of it
            return message
        whole = b"".join(pieces)
        if nests_too_deep(whole, most=self._levels):
            raise too_deep(self._levels)
        return {"type": "http.request", "body": whole, "more_body": False}

    async def drain(self) -> None:
        # A connection that is closed on a sender who still sends loses the answer.
        enough = self._size + DRAINED  # who sends for ever loses the answer, and not our time
        while self._size <= enough:
            message = await self._next()
            if message["type"] != "http.request" or not message.get("more_body"):
                return

    async def _next(self) -> Message:
        message = await self._receive()
        self._size += len(message.get("body", b""))
        return message
