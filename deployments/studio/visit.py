"""Whoever is signed in, on one page: what handlers take as `VisitOf`, to ask the API and to answer with HTML.

The session's token is the cookie's value and the bearer of every call.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote, unquote

import htpy as h
from fastapi import Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from htpy import Node
from starlette.datastructures import FormData

from darkroom.deployments.studio.api import Api, ApiProblem
from darkroom.deployments.studio.layout import document, frame
from darkroom.deployments.studio.parts import banner, button
from darkroom.deployments.studio.screens import Screen
from darkroom.deployments.studio.security import SAFE, csrf_token
from darkroom.deployments.studio.static_files import PREFIX

COOKIE = "darkroom_session"
SAID = "darkroom_said"  # a toast, for the page after this one
UNAUTHORIZED, FORBIDDEN = 401, 403
_FORGED = {
    "title": "Not sent",
    "detail": "The form is not one of this session.",
    "remedy": "Load the page again, then send it once more.",
}
_NOT_YOURS = {"title": "Not for this key", "detail": "The screen is for keys with another scope."}


class SignedOut(Exception):
    """There is no session in the cookie, or it has ended."""


@dataclass(frozen=True, kw_only=True)
class Visit:
    request: Request
    api: Api
    user_id: str
    user: str
    scopes: frozenset[str]
    screens: Sequence[Screen]

    @property
    def csrf(self) -> str:
        return csrf_token(self.api.bearer)

    @property
    def by_htmx(self) -> bool:
        return "hx-request" in self.request.headers

    def page(self, title: str, *content: Node, status: int = 200) -> Response:
        """Answer with a whole page, under that heading."""
        told = self.request.cookies.get(SAID)
        framed = frame(
            title,
            content,
            screens=[screen for screen in self.screens if screen.scope in self.scopes],
            path=self.request.url.path,
            user=self.user,
            sign_out=self.form(f"{PREFIX}/sign-out", submit="Sign out", kind="quiet"),
            said=unquote(told) if told else None,
        )
        answer = HTMLResponse(document(title, framed, csrf=self.csrf), status)
        if told:
            answer.delete_cookie(SAID, path=PREFIX)  # else the next page would say it again
        return answer

    def part(self, *content: Node, status: int = 200) -> Response:
        """Answer htmx with a piece of a page."""
        return HTMLResponse(str(h.fragment[content]), status)

    def nothing(self) -> Response:
        """Answer htmx that all stays as it is."""
        return Response(status_code=204)

    def go(self, path: str, *, said: str | None = None) -> Response:
        """Lead on to another page, after a form was carried out. `said`: what is shown there for a moment."""
        answer = leading(self.request, path)
        if said:
            # Quoted: it may be in any script, and a header holds Latin-1 alone. For the page that comes now: in a
            # minute it would be news of something else.
            answer.set_cookie(SAID, quote(said), max_age=60, path=PREFIX, httponly=True, samesite="strict")
        return answer

    def form(self, action: str, *fields: Node, submit: str, kind: str = "", **attributes: Any) -> Node:
        """Make a form that is sent as a POST, with the session's token in it and its button at the end."""
        token = h.input(type="hidden", name="csrf", value=self.csrf)
        return h.form(method="post", action=action, **attributes)[token, fields, button(submit, kind=kind)]

    def problem(self, problem: ApiProblem) -> Response:
        """Show what the API refused: above the page where htmx asked, else as a page."""
        if self.by_htmx:
            # By its status htmx puts it there, and not in the place of the part (`layout.HTMX`).
            return self.part(banner(problem), status=problem.status)
        return self.page(problem.title, banner(problem), status=problem.status)


async def visit_of(request: Request) -> Visit:
    """Return who is signed in. Raise SignedOut where nobody is, ApiProblem where a form is not the session's."""
    bearer = request.cookies.get(COOKIE)
    if not bearer:
        raise SignedOut
    api = Api(http=request.app.state.http, bearer=bearer)
    # Asked anew for each page, with what it is good for: nothing here outlives the key.
    whose = await _session(api)
    visit = Visit(
        request=request,
        api=api,
        user_id=whose["user_id"],
        user=whose["user"],
        scopes=frozenset(whose["scopes"]),
        screens=request.app.state.screens,
    )
    # Before its token is looked at: a form without one is refused on a page, too.
    request.state.visit = visit
    if request.method not in SAFE:
        await _require_token(visit)
    return visit


def requires(scope: str) -> Callable[[Visit], Awaitable[None]]:
    """Return what refuses, with the words of a page, whoever lacks the scope of a screen."""

    async def check(visit: VisitOf) -> None:
        if scope not in visit.scopes:
            raise ApiProblem(FORBIDDEN, _NOT_YOURS | {"remedy": f"Sign in with a key that has the scope {scope}."})

    return check


async def _session(api: Api) -> Any:
    try:
        return await api.get("/v1/sessions/current")
    except ApiProblem as problem:
        if problem.status == UNAUTHORIZED:  # it has ended, or its key has
            raise SignedOut from problem
        raise


async def _require_token(visit: Visit) -> None:
    # htmx sends the header (`document` tells it to), a form without scripts its field.
    given = visit.request.headers.get("x-csrf-token") or (await visit.request.form()).get("csrf")
    # As bytes: `compare_digest` takes no text beyond ASCII.
    if not (isinstance(given, str) and secrets.compare_digest(given.encode(), visit.csrf.encode())):
        raise ApiProblem(FORBIDDEN, _FORGED)


def leading(request: Request, path: str) -> Response:
    """Lead a browser to another page of the Studio; one whose htmx has asked, too."""
    if "hx-request" in request.headers:
        # A 303 htmx would follow by itself, and put the whole page into the part.
        return Response(status_code=204, headers={"HX-Redirect": path})
    # 303 has the browser come by GET, so that loading the page again sends no form a second time.
    return RedirectResponse(path, 303)


async def form_of(request: Request) -> AsyncIterator[FormData]:
    """Give what was filled in, and close the files that came with it."""
    async with request.form() as form:
        yield form


VisitOf = Annotated[Visit, Depends(visit_of)]
FormOf = Annotated[FormData, Depends(form_of)]  # what was filled in: text by name, files as UploadFile
