"""The application: its endpoints, its handlers, and what it opens when it starts.

`create_app` is the seam for tests: they give it the keys and the blocks of their own provider and store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import FastAPI, Header
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline

from darkroom.deployments.gateway.limits import Limits
from darkroom.deployments.gateway.loops.block_cache import BlockCache
from darkroom.deployments.gateway.openapi import DESCRIPTION, TAGS, TITLE, add_pipelines, completed
from darkroom.deployments.gateway.problems import add_handlers
from darkroom.deployments.gateway.rates import RateHeaders
from darkroom.deployments.gateway.routes import (
    admin,
    asset_lists,
    assets,
    batches,
    budget,
    callbacks,
    dead_letters,
    events,
    everybody,
    health,
    hooks,
    jobs,
    keys,
    loras,
    models,
    operations,
    orders,
    pending_runs,
    pipelines,
    quotes,
    sessions,
    stream,
    uploads,
    usage,
    waits,
    webhooks,
)
from darkroom.deployments.gateway.services import open_services
from darkroom.deployments.studio.app import create_studio
from darkroom.errors import NeedsHuman
from darkroom.events import read_hooks, read_triggers
from darkroom.settings import Settings

# Routes of one thing by its id: everybody has their own, and operators anybody's.
OF_ONE = {"jobs": jobs.of_one, "waits": waits.router}
_OF_ONE_NAMES = {getattr(route, "name", "") for part in OF_ONE.values() for route in part.routes}


def create_app(settings: Settings, *, blocks: BlockCache | None = None) -> FastAPI:
    _require_settings(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with open_services(settings, blocks=blocks) as services:
            app.state.services = services
            yield

    # Documentation that loads nothing from elsewhere: a private network has no elsewhere.
    app = FastAPIOffline(
        docs_url="/docs",
        redoc_url=None,
        static_url="/docs/static",
        title=TITLE,
        version=version("darkroom-media"),
        description=DESCRIPTION,
        openapi_tags=TAGS,
        swagger_ui_parameters={"defaultModelsExpandDepth": 0, "tryItOutEnabled": True},
        # Generated clients name their methods after these.
        generate_unique_id_function=_method_name,
        lifespan=lifespan,
        # The address of such a redirect would be made of the header Host, which a stranger writes.
        redirect_slashes=False,
    )
    _add_routes(app)
    add_handlers(app)
    app.mount("/studio", _studio(app, settings))
    # The last one is the outermost: a body is bounded before anything else looks at it.
    app.add_middleware(RateHeaders)
    app.add_middleware(Limits)
    return app


def _method_name(route: APIRoute) -> str:
    """Return what a client's method is called: a route that stands at two addresses has a name at each."""
    if route.deprecated:
        return f"{route.name}_deprecated"
    return f"{route.name}_of_anybody" if "Admin" in route.tags and route.name in _OF_ONE_NAMES else route.name


def _studio(app: FastAPI, settings: Settings) -> FastAPI:
    return create_studio(
        app,
        https=settings.browser_url.startswith("https:"),
        media_elsewhere=settings.asset_links != "gateway",
        sign_on=settings.oidc_issuer is not None,
    )


def _require_settings(settings: Settings) -> None:
    if not settings.ledger_url:
        raise NeedsHuman("DARKROOM_LEDGER_URL is not set: point it at Postgres, or start a stack with `darkroom up`")
    if not settings.signing_key.get_secret_value():
        raise NeedsHuman("DARKROOM_SIGNING_KEY is not set: a long random text, the same for all gateways and workers")
    read_triggers()  # a gateway that cannot would take events and start nothing
    read_hooks()


def _add_routes(app: FastAPI) -> None:
    for part in (
        orders,
        pipelines,
        quotes,
        usage,
        budget,
        batches,
        loras,
        models,
        sessions,
        keys,
        events,
        jobs,
        stream,
        callbacks,
        dead_letters,
        asset_lists,
        assets,
        uploads,
        webhooks,
        hooks,
        admin,
        operations,
        everybody,
        health,
    ):
        app.include_router(part.router)
    app.include_router(models.categories)
    for name, routes in OF_ONE.items():
        app.include_router(routes, prefix=f"/v1/{name}", tags=["Jobs"])
        app.include_router(routes, prefix=f"/v1/admin/{name}", tags=["Admin"])
    app.include_router(pending_runs.router, prefix="/v1/pending-runs")
    app.include_router(pending_runs.router, prefix="/v1/starts", deprecated=True)

    @app.get("/", include_in_schema=False)
    def root(accept: Annotated[str, Header()] = "") -> RedirectResponse:
        return RedirectResponse("/studio" if "text/html" in accept else "/docs")

    @app.get("/studio", include_in_schema=False)
    def studio() -> RedirectResponse:
        return RedirectResponse("/studio/jobs")

    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = completed(generate(), batches.BatchOrder)
            add_pipelines(app.openapi_schema)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
