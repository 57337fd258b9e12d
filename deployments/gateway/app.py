"""The application: its endpoints, its handlers, and what it opens when it starts.

`create_app` is the seam for tests: they give it the keys and the blocks of their own provider and store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Header
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline

from darkroom.deployments.gateway.batch_orders import BatchOrder
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
from darkroom.deployments.gateway.routing import method_name, take, whole_router
from darkroom.deployments.gateway.services import open_services
from darkroom.deployments.studio.app import create_studio
from darkroom.errors import NeedsHuman
from darkroom.events import read_hooks, read_triggers
from darkroom.settings import Settings

# A request is compared with one route after the other: those that come for every picture are first.
PARTS = (
    webhooks,
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
    hooks,
    admin,
    operations,
    everybody,
    health,
)
# Routes of one thing by its id: everybody has their own, and operators anybody's.
OF_ONE = {"jobs": jobs.of_one, "waits": waits.router}


def _of_anybody(route: APIRoute) -> str:
    # Ids of operations are the methods of generated clients: the same route has another one at its second address.
    return f"{method_name(route)}_of_anybody"


def _at_two_addresses() -> APIRouter:
    router = whole_router()
    for name, routes in OF_ONE.items():
        router.include_router(routes, prefix=f"/v1/{name}", tags=["Jobs"])
        router.include_router(
            routes, prefix=f"/v1/admin/{name}", tags=["Admin"], generate_unique_id_function=_of_anybody
        )
    router.include_router(pending_runs.router, prefix="/v1/pending-runs")
    # The name of 0.1.
    router.include_router(pending_runs.router, prefix="/v1/starts", deprecated=True)
    return router


_AT_TWO_ADDRESSES = _at_two_addresses()  # once for the process: FastAPI would build them anew for each application


def create_app(settings: Settings, *, blocks: BlockCache | None = None) -> FastAPI:
    _require_settings(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # Here and not before: the news feed takes the event loop that runs now.
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
    take(app.router, *(part.router for part in PARTS), models.categories, _AT_TWO_ADDRESSES)

    @app.get("/", include_in_schema=False)
    def root(accept: Annotated[str, Header()] = "") -> RedirectResponse:
        # Browsers name HTML in what they accept; what calls an API does not.
        return RedirectResponse("/studio" if "text/html" in accept else "/docs")

    # The mount has what is below /studio/ alone.
    @app.get("/studio", include_in_schema=False)
    def studio() -> RedirectResponse:
        return RedirectResponse("/studio/jobs")

    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:  # once, at the first question: it imports Prefect and the project's code
            app.openapi_schema = completed(generate(), BatchOrder)
            add_pipelines(app.openapi_schema)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
