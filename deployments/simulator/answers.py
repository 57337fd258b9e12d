"""Answers that several of fal's hosts share: its refusals, its ingress' error page, and no answer at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from .book import ACCOUNTS, SCOPES, Account, Scope, new_request_id

_CLOSE_SECONDS = 10  # what is written is sent before a close, and a client that does not read keeps it from ending
# fal's client takes a 502 to 504 for the ingress' by the word nginx, and repeats the call.
_NGINX_PAGE = (
    "<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>\r\n<body>\r\n"
    "<center><h1>503 Service Temporarily Unavailable</h1></center>\r\n<hr><center>nginx</center>\r\n"
    "</body>\r\n</html>\r\n"
)


class Json(JSONResponse):
    """JSON with all but ASCII escaped."""

    def render(self, content: Any) -> bytes:
        # What a client sent may hold half a surrogate pair, which UTF-8 cannot carry.
        return json.dumps(content).encode()


class FalError(Exception):
    """Ends a request with fal's own JSON; the HTTP side turns it into the answer."""

    def __init__(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        super().__init__(str(body))
        self.status = status
        self.body = body
        self.headers = headers or {}


async def answer_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, FalError)
    # By this header clients tell fal's own words from those of something in front of it.
    headers = {"x-fal-request-id": new_request_id(), **error.headers}
    return Json(error.body, status_code=error.status, headers=headers)


def account_of(request: Request) -> Account:
    """Return whose key it is. Raise FalError for a key that is unknown, or for bills only."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if not key:
        raise FalError(401, {"detail": "Authentication is required to access this application."})
    # `Bearer` is for logins at fal, of which the simulator has none.
    if scheme != "Key" or key not in ACCOUNTS:
        raise FalError(401, {"detail": "No user found for Key ID and Secret"})
    if SCOPES[key] is Scope.BILLING:
        raise FalError(403, {"detail": "This key has no permission for this operation."})
    return ACCOUNTS[key]


async def json_object(request: Request) -> dict[str, Any]:
    """Return the request's body. Raise FalError for one that is no JSON object."""
    try:
        body = await request.json()
    except ValueError:
        body = None
    # Assumed: no page of fal's says what a body that is no JSON gets.
    if not isinstance(body, dict):
        raise FalError(400, {"detail": "The request body must be a JSON object", "error_type": "bad_request"})
    return body


def key_of(request: Request) -> str:
    return request.headers.get("authorization", "").partition(" ")[2]


def user_is_locked() -> FalError:
    detail = "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing."
    return FalError(403, {"detail": detail})


def ingress_error() -> Response:
    """Answer with nginx' page and no x-fal-request-id: fal itself never saw the request."""
    return HTMLResponse(_NGINX_PAGE, status_code=503)


async def no_answer(request: Request) -> Response:
    """Close the connection under the client. The response returned is never sent."""
    request.state.transport.abort()  # `close` would send first what is written
    await _gone(request)  # until uvicorn has heard of it, it would still write an answer
    return Response()


async def break_off(request: Request) -> None:
    """Send what has been written, then close in the middle of the answer."""
    request.state.transport.close()
    await _gone(request)


async def _gone(request: Request) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await _disconnect(request)


async def _disconnect(request: Request) -> None:
    # What is left of the request's body comes first.
    while (await request.receive())["type"] != "http.disconnect":
        pass
