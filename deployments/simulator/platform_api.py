"""api.fal.ai put together, with the limit of calls in front of all of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .answers import key_of
from .platform.billing_api import BillingApi
from .platform.files_api import FilesApi
from .platform.models_api import ModelsApi
from .platform.requests_api import RequestsApi
from .provider import Provider

Answer = Callable[[Request], Awaitable[Response]]


class PlatformApi:
    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._models = ModelsApi(provider)

    def routes(self) -> list[Route]:
        parts = (self._models, BillingApi(self._provider), RequestsApi(self._provider), FilesApi(self._provider))
        return [self._limited(route) for part in parts for route in part.routes()]

    def site_routes(self) -> list[Route]:
        """Return those of fal.ai itself, which anybody may read."""
        return self._models.site_routes()

    def _limited(self, route: Route) -> Route:
        answer: Answer = route.endpoint

        async def limited(request: Request) -> Response:
            self._provider.rate_limit.take(key_of(request))
            return await answer(request)

        return Route(route.path, limited, methods=list(route.methods or ()))
