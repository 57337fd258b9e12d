"""One ASGI application for all of fal's hosts and the operators' side.

Requests that came through the proxy (https) are routed by host, with an outage in front; plain ones are the operators'.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from .answers import FalError, answer_error, ingress_error, no_answer
from .hosts import Role, role_of
from .operator_api import OperatorApi
from .outage import Outage, OutageMode
from .platform_api import PlatformApi
from .provider import Provider
from .queue_api import QueueApi, RunApi
from .storage_api import StorageApi


class FalSimulator:
    def __init__(self, provider: Provider) -> None:
        storage = StorageApi(provider)
        self._outage: Outage = provider.outage
        self._operators = _application(OperatorApi(provider).routes())
        self._by_role: dict[Role, ASGIApp] = {
            Role.QUEUE: _application(QueueApi(provider).routes()),
            Role.RUN: _application(RunApi(provider).routes()),
            Role.REST: _application(storage.control_routes()),
            Role.CDN: _application(storage.file_routes()),
            Role.PLATFORM: _application(PlatformApi(provider).routes()),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        application = self._operators if scope["scheme"] == "http" else self._for_client(scope)
        await application(scope, receive, send)

    def _for_client(self, scope: Scope) -> ASGIApp:
        if self._outage.mode is OutageMode.NGINX:
            return ingress_error()
        if self._outage.mode is OutageMode.REFUSE:
            return _hang_up
        role = role_of(_host(scope))
        return self._by_role[role] if role else PlainTextResponse("No such fal host", status_code=404)


def _application(routes: Sequence[Route]) -> ASGIApp:
    return Starlette(routes=routes, exception_handlers={FalError: answer_error})


async def _hang_up(scope: Scope, receive: Receive, send: Send) -> None:
    await no_answer(Request(scope, receive, send))


def _host(scope: Scope) -> str:
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    return str(host.decode("latin-1")).partition(":")[0].lower()
