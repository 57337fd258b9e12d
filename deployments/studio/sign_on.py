"""Signing in by an identity provider, for operators: there and back, with a cookie of its own on the way."""

from __future__ import annotations

import secrets
from urllib.parse import parse_qsl, urlencode

import htpy as h
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from darkroom.deployments.studio.api import Api, ApiProblem
from darkroom.deployments.studio.layout import document
from darkroom.deployments.studio.sign_in import START, keep_session, own_path, sign_in_document
from darkroom.deployments.studio.static_files import PREFIX

AT = f"{PREFIX}/sign-in/oidc"
COOKIE, SECONDS = "darkroom_sign_on", 600  # in which somebody has signed in at the provider
FORGED = {
    "title": "Not signed in",
    "detail": "This sign-on was not begun in this browser, or too long ago.",
    "remedy": "Begin it again.",
}
REFUSED = {
    "title": "Not signed in",
    "detail": "The identity provider has not signed you in.",
    "remedy": "Begin it again, or sign in with a key.",
}

router = APIRouter(prefix="/sign-in/oidc")


@router.get("")
async def begin(request: Request, next: str = START) -> Response:
    try:
        begun = await _api(request).post("/v1/sessions/oidc/authorization")
    except ApiProblem as problem:
        return sign_in_document(request, next, problem)
    # Kept by the browser and by nobody here: any gateway may be the one that it comes back to.
    kept = {name: begun[name] for name in ("state", "nonce", "code_verifier")} | {"next": own_path(next)}
    answer = RedirectResponse(begun["url"], 303)
    secure = request.url.scheme == "https" or request.app.state.https
    # Lax: the way back begins on the provider's site, from where a browser shows no Strict cookie.
    answer.set_cookie(COOKIE, urlencode(kept), max_age=SECONDS, path=AT, httponly=True, samesite="lax", secure=secure)
    return answer


@router.get("/back")
async def back(request: Request, code: str = "", state: str = "", error: str = "", iss: str | None = None) -> Response:
    """Exchange the code for a session, where the sign-on was begun in this browser."""
    kept = dict(parse_qsl(request.cookies.get(COOKIE, "")))
    to = own_path(kept.get("next", START))
    # Else a link with somebody else's code would sign this browser in as them. As bytes: `compare_digest` takes no text
    # beyond ASCII.
    if not state or not secrets.compare_digest(state.encode(), kept.get("state", "").encode()):
        return _ended(sign_in_document(request, to, ApiProblem(403, FORGED)))
    if error or not code:
        return _ended(sign_in_document(request, to, ApiProblem(401, REFUSED)))
    # `iss`: who says to have answered (RFC 9207), where the provider says it.
    proof = {"code": code, "nonce": kept.get("nonce", ""), "code_verifier": kept.get("code_verifier", ""), "iss": iss}
    try:
        made = await _api(request).post("/v1/sessions/oidc", proof)
    except ApiProblem as problem:
        return _ended(sign_in_document(request, to, problem))
    # A page that leads on by itself: a redirect would still be the provider's site's, and go without the Strict cookie.
    onward = h.main("#main", class_="sign-in")[h.h1["Darkroom"], h.p[h.a(href=to)["You are signed in: go on"]]]
    answer = HTMLResponse(document("Signed in", onward, onward=to))
    keep_session(request, answer, made["token"])
    return _ended(answer)


def _ended(answer: Response) -> Response:
    answer.delete_cookie(COOKIE, path=AT)  # it is good for one way back
    return answer


def _api(request: Request) -> Api:
    # Nobody has signed in yet: the addresses of a sign-on need no key.
    return Api(http=request.app.state.http, bearer="none")
