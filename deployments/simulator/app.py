"""One ASGI application for the hosts of fal and of the other providers, and for the operators' side."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from .answers import FalError, answer_error, ingress_error, no_answer
from .hosts import Role, is_fal_host, role_of
from .operator_api import OperatorApi
from .outage import Outage, OutageMode
from .platform.operator import PlatformOperatorApi
from .platform_api import PlatformApi
from .provider import Provider
from .queue_api import QueueApi, RunApi
from .storage_api import StorageApi


class FalSimulator:
    def __init__(self, provider: Provider) -> None:
        storage, platform = StorageApi(provider), PlatformApi(provider)
        self._provider = provider
        self._outage: Outage = provider.outage
        operators = [
            *provider.others.operator_api().routes(),
            *PlatformOperatorApi(provider).routes(),
            *OperatorApi(provider).routes(),
        ]
        self._operators = _application(operators)
        self._by_role: dict[Role, ASGIApp] = {
            Role.QUEUE: _application(QueueApi(provider).routes()),
            Role.RUN: _application(RunApi(provider).routes()),
            Role.REST: _application(storage.control_routes()),
            Role.CDN: _application(storage.file_routes()),
            Role.PLATFORM: _application(platform.routes()),
            Role.SITE: _application(platform.site_routes()),
            **provider.others.applications(),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # What came through the proxy's tunnel is https, and is routed by its host; operators come by plain http.
        application = self._operators if scope["scheme"] == "http" else self._for_client(scope)
        await application(scope, receive, send)

    def _for_client(self, scope: Scope) -> ASGIApp:
        # Before anything is refused: a dry run is to send nothing at all, which this number shows.
        self._provider.client_requests += 1
        host = _host(scope)
        if is_fal_host(host) and self._outage.mode is OutageMode.NGINX:
            return ingress_error()
        if is_fal_host(host) and self._outage.mode is OutageMode.REFUSE:
            return _hang_up  # the connection is from before the outage: new ones the front door refuses
        role = role_of(host)
        return self._by_role[role] if role else PlainTextResponse("No such host", status_code=404)


def _application(routes: Sequence[Route]) -> ASGIApp:
    return Starlette(routes=routes, exception_handlers={FalError: answer_error})


async def _hang_up(scope: Scope, receive: Receive, send: Send) -> None:
    await no_answer(Request(scope, receive, send))


def _host(scope: Scope) -> str:
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    return str(host.decode("latin-1")).partition(":")[0].lower()
