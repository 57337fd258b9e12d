"""What every answer of the Studio says to the browser, and which requests it does not take from one.

A page may load and call nothing but its own host, runs no script that is not a file of ours, and is kept nowhere. What
changes something comes from a page of ours: the browser says so (`Sec-Fetch-Site`, `Origin`), and whoever is signed in
shows the token of the session, too (`visit.py`).
"""

from __future__ import annotations

import hashlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # addresses have ids in them, and the words that were looked for
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def policy(*, media_elsewhere: bool) -> str:
    """Return the CSP. `media_elsewhere`: the store itself sends files, from a host that only its links name."""
    media = "'self' data: https: http:" if media_elsewhere else "'self' data:"
    # What is not named is refused, but for the last three, which do not fall back to `default-src`.
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src {media}; media-src {media}; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )


def csrf_token(bearer: str) -> str:
    """Return what a form of this session carries. Nobody finds the session by it."""
    # Made of the session: no gateway keeps it, and any of them knows it.
    return hashlib.sha256(f"csrf\n{bearer}".encode()).hexdigest()


def from_own_page(headers: Headers) -> bool:
    """Return whether the browser says that a page of this host sent it. What says nothing is no browser."""
    # No page can set the first; browsers send it to safe hosts alone, so over plain HTTP the second tells.
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site == "same-origin"  # `same-site` is any other host of the domain
    # Scheme, host and port are all of an origin (RFC 6454, 6.1): nothing is parsed that a stranger may have written.
    return origin is not None and origin.partition("://")[2] == headers.get("host")


class Guard:
    def __init__(self, app: ASGIApp, *, policy: str) -> None:
        self._app, self._policy = app, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS | {"Content-Security-Policy": self._policy})
                headers.setdefault("Cache-Control", "no-store")  # static files say that they may be kept
            await send(message)

        if scope["method"] not in SAFE and not from_own_page(Headers(scope=scope)):
            refused = PlainTextResponse(
                "This came from another page than the Studio's. Open /studio and try again.", 403
            )
            await refused(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)
