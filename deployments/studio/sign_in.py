"""Signing in and out: an API key becomes a session, and the session a cookie that no script reads."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import quote, urlencode, urlsplit

import htpy as h
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from htpy import Node

from darkroom.deployments.studio.api import Api, ApiProblem
from darkroom.deployments.studio.layout import document
from darkroom.deployments.studio.parts import banner, button, field, link
from darkroom.deployments.studio.static_files import PREFIX
from darkroom.deployments.studio.stream import STREAM_COOKIE, STREAM_PATH
from darkroom.deployments.studio.visit import COOKIE, UNAUTHORIZED, FormOf, VisitOf, leading

SECONDS = 12 * 3600  # as long as a session holds
START = f"{PREFIX}/jobs"
WRONG_KEY = {
    "title": "Not signed in",
    "detail": "This key does not open anything, or no longer does.",
    "remedy": "Check that it was copied as a whole, or ask an operator for another one.",
}

router = APIRouter()


@router.get("/sign-in")
async def sign_in_page(request: Request, next: str = START) -> Response:
    return sign_in_document(request, next)


@router.post("/sign-in")
async def sign_in(request: Request, form: FormOf) -> Response:
    """Exchange the key for a session. The key itself is kept nowhere."""
    to, key = own_path(str(form.get("next", ""))), str(form.get("key", "")).strip()
    try:
        made = await Api(http=request.app.state.http, bearer=_ascii(key)).post("/v1/sessions")
    except ApiProblem as problem:
        # The API's own words are of a header, which nobody types here.
        wrong = ApiProblem(UNAUTHORIZED, WRONG_KEY) if problem.status == UNAUTHORIZED else problem
        return sign_in_document(request, to, wrong)
    answer = leading(request, to)
    keep_session(request, answer, made["token"])
    return answer


def keep_session(request: Request, answer: Response, token: str) -> None:
    """Have the browser keep the session, for this site alone and for no script."""
    # Behind a proxy that ends TLS requests come by plain HTTP: then the gateway's address tells.
    secure = request.url.scheme == "https" or request.app.state.https
    answer.set_cookie(COOKIE, token, max_age=SECONDS, path=PREFIX, httponly=True, samesite="strict", secure=secure)


@router.post("/sign-out")
async def sign_out(visit: VisitOf) -> Response:
    """End the session, not only the cookie."""
    with suppress(ApiProblem):  # it has ended meanwhile
        await visit.api.delete("/v1/sessions/current")
    return _signed_out(visit.request, f"{PREFIX}/sign-in")


def _signed_out(request: Request, path: str) -> Response:
    answer = leading(request, path)
    # Whoever comes by a link on another host shows no cookie, and keeps it.
    if COOKIE in request.cookies:
        answer.delete_cookie(COOKIE, path=PREFIX)
        answer.delete_cookie(STREAM_COOKIE, path=STREAM_PATH)
    return answer


def to_sign_in(request: Request) -> Response:
    """Lead to the sign-in page, and from there back to where somebody wanted to be."""
    # What htmx asks for is a part: the page around it is where to come back to.
    try:
        page = urlsplit(request.headers.get("hx-current-url", "")).path
    except ValueError:  # no browser is at such an address
        page = ""
    wanted = page or request.url.path
    path = wanted if request.method == "GET" else START  # a form cannot be led back to
    return _signed_out(request, f"{PREFIX}/sign-in?next={quote(own_path(path))}")


def own_path(path: str) -> str:
    """Return the path where it is a page of the Studio: links lead to no other host."""
    # From the pages of signing in one would come to them again; browsers read a backslash as a slash.
    own = path.startswith(f"{PREFIX}/") and not path.startswith(f"{PREFIX}/sign-") and path.isprintable()
    return path if own and "\\" not in path else START


def _ascii(key: str) -> str:
    return key if key.isascii() and key.isprintable() and key else "none"  # which no key is


def sign_in_document(request: Request, to: str, problem: ApiProblem | None = None) -> Response:
    """Show the sign-in page, with what was wrong. `to`: where it leads on to."""
    by_provider = f"{PREFIX}/sign-in/oidc?{urlencode({'next': own_path(to)})}"
    # As a password, so that the browser's manager offers to keep it and to fill it in.
    key = h.input(type="password", name="key", required=True, autofocus=True, autocomplete="current-password")
    body: Node = h.main("#main", class_="sign-in")[
        h.h1["Darkroom"],
        banner(problem) if problem else None,
        h.form(".card", method="post", action=f"{PREFIX}/sign-in")[
            h.h2["Sign in"],
            h.input(type="hidden", name="next", value=own_path(to)),
            field("API key", key, hint="An operator makes one with: darkroom key add"),
            button("Sign in"),
        ],
        request.app.state.sign_on and h.p[link("Sign in as an operator, without a key", by_provider, kind="quiet")],
        h.p(".quiet-text")["The key is exchanged for a session of twelve hours, which ends sooner with the key."],
    ]
    return HTMLResponse(document("Sign in", body), problem.status if problem else 200)
