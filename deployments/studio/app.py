"""The Studio as its own application, which the gateway mounts at `/studio`."""

from __future__ import annotations

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from darkroom.deployments.studio import sign_in, static_files, stream
from darkroom.deployments.studio import sign_on as sign_on_pages
from darkroom.deployments.studio.api import ApiProblem, client_of
from darkroom.deployments.studio.routes import SCREENS
from darkroom.deployments.studio.security import Guard, policy
from darkroom.deployments.studio.visit import SignedOut, Visit, requires, visit_of

# In place of Starlette's own two words, which say nothing about what to do.
_WORDS = {
    404: ("Not found", "There is no such page.", "Choose one from the navigation."),
    405: ("Not possible", "This page cannot be sent anything.", "Go back and try again."),
}


def _pages() -> APIRouter:
    router = APIRouter()
    # Of no scope: whoever is not signed in needs the first two, and the stream asks itself who it is.
    for part in (sign_in, static_files, stream):
        router.routes.extend(part.router.routes)
    for screen in SCREENS:
        # The scope is asked for here and not in each handler: so a page that is added to a screen is closed, too.
        router.include_router(screen.router, prefix=screen.path, dependencies=[Depends(requires(screen.scope))])
    return router


# Once for the process: FastAPI would build included routers anew for each application, at its first request.
_PAGES = _pages()


def create_studio(
    gateway: ASGIApp, *, https: bool = False, media_elsewhere: bool = False, sign_on: bool = False
) -> FastAPI:
    """Make the Studio of that API. `https`: browsers come by it. `media_elsewhere`: files are sent by the store.

    `sign_on`: operators may sign in by an identity provider.
    """
    # Pages are no API to be described; the address of a redirect to a slash would be made of the header Host.
    studio = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    studio.state.http = client_of(gateway)
    studio.state.screens = SCREENS
    studio.state.https, studio.state.sign_on = https, sign_on
    studio.router.routes.extend(_PAGES.routes)
    if sign_on:
        studio.router.routes.extend(sign_on_pages.router.routes)

    @studio.get("/")
    async def home() -> Response:
        return RedirectResponse(sign_in.START, 303)

    _add_handlers(studio)
    # Around all of it: static files and refusals have the headers, too.
    studio.add_middleware(Guard, policy=policy(media_elsewhere=media_elsewhere))
    return studio


def _add_handlers(studio: FastAPI) -> None:
    @studio.exception_handler(SignedOut)
    async def _signed_out(request: Request, error: SignedOut) -> Response:
        return sign_in.to_sign_in(request)

    @studio.exception_handler(ApiProblem)
    async def _problem(request: Request, error: ApiProblem) -> Response:
        visit: Visit | None = getattr(request.state, "visit", None)
        if visit is None:  # before it was known who asks
            return Response(f"{error.title}. {error.detail}", error.status, media_type="text/plain")
        return visit.problem(error)

    @studio.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        # Of a path or a query alone: what is in a form is read as it came, and is the API's to refuse.
        document = {"title": "Not understood", "detail": "The address has something in it that is not right."}
        return await _shown(request, ApiProblem(422, document))

    @studio.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        title, detail, remedy = _WORDS.get(error.status_code, ("Not possible", str(error.detail), ""))
        document = {"title": title, "detail": detail, "remedy": remedy}
        return await _shown(request, ApiProblem(error.status_code, document))

    async def _shown(request: Request, problem: ApiProblem) -> Response:
        try:
            # Where no route was found, nothing has asked yet who it is.
            visit = await visit_of(request)
        except SignedOut:
            return sign_in.to_sign_in(request)
        except ApiProblem as refused:  # nobody can say who asks
            return Response(refused.detail, refused.status, media_type="text/plain")
        return visit.problem(problem)
