"""What strangers and broken browsers send to the Studio: a page that says what is wrong, and no failure of our own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest
from fastapi.routing import APIRoute
from ledger_databases import Databases
from running_gateway import gateway_alone
from studio_browser import OWN, Visitor, visiting

from darkroom.deployments.studio.routes import SCREENS
from darkroom.deployments.studio.static_files import PREFIX
from darkroom.ledger import Ledger, Scope

DEEP = "[" * 2000 + "]" * 2000
NUMBERS = ("NaN", "1e999", "-1", "9" * 5000)
NO_ADDRESS = "http://["  # to which `urlsplit` raises
PICTURE = f'{{"id": "ast_1", "url": "{NO_ADDRESS}", "name": "a.png", "kind": "image/png"}}'
ODD = (
    *NUMBERS,
    DEEP,
    NO_ADDRESS,
    PICTURE,
    '{"x": NaN}',
    '{"x": "\\ud800"}',
    '"\\u0000"',
    "\0",
    "é²\r\nX: y",
    "x" * 5000,
)
IDS = ("²", "\0", "a\r\nb", "..", "../admin/users", "a?b#c", "%2e%2e", "[", "'", "x" * 3000)
QUERY = ("cursor", "status", "q", "since", "until", "kind", "model", "file", "phase", "stage", "choice", "id", "post")
_NAME = re.compile(r' name="([^"]+)"')


@pytest.fixture(scope="module")
def visitor(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    with databases.fresh() as url, gateway_alone(url, tmp_path_factory.mktemp("home")) as gateway:
        ledger = Ledger(url)
        key = ledger.users.add("ann", plan="studio", scopes=list(Scope)).key
        ledger.close()
        with visiting(gateway, key) as visitor:
            yield visitor


def addresses(method: str) -> list[str]:
    return [
        f"{PREFIX}{screen.path}{route.path}"
        for screen in SCREENS
        for route in screen.router.routes
        if isinstance(route, APIRoute) and method in route.methods
    ]


def filled(path: str, id: str) -> str:
    return "/".join(quote(id, safe="") if part.startswith("{") else part for part in path.split("/"))


def failures(answers: Iterator[httpx.Response]) -> list[str]:
    return [f"{each.request.method} {each.request.url}"[:200] for each in answers if each.status_code >= 500]


def test_no_address_is_answered_as_our_failure(visitor: Visitor) -> None:
    """Whatever stands where an id or a parameter should."""
    paths = addresses("GET")
    ids = (visitor.get(filled(path, id)) for path in paths for id in IDS if "{" in path)
    query = ("&".join(f"{name}={quote(text)}" for name in QUERY) for text in ("²", "\0", "NaN", "-1", "["))
    asked = (visitor.get(f"{filled(path, 'job_1')}?{each}") for each in query for path in paths)

    assert [*failures(ids), *failures(asked)] == []


def test_no_form_is_answered_as_our_failure(visitor: Visitor) -> None:
    """With numbers that are none, JSON without end, and text that no header takes."""
    token = visitor.token()
    pages = [visitor.get(path).text for path in addresses("GET") if "{" not in path]
    pages.append(visitor.get(f"{PREFIX}/order/form?kind=generate-image").text)
    # Of what a page has only once something is on it.
    names = {"once", "row", "picture", "leave_out", *(name for page in pages for name in _NAME.findall(page))} - {
        "csrf"
    }
    assert len(names) > 40
    sent = (
        visitor.http.post(
            f"{filled(path, 'job_1')}?kind=generate-image&model=fal-ai/flux/dev&field=prompt",
            data={"csrf": token} | dict.fromkeys(names, text),
            headers=OWN,
        )
        for path in addresses("POST")
        for text in ODD
    )

    assert failures(sent) == []


def test_an_address_that_is_none_is_no_page_of_ours(visitor: Visitor) -> None:
    """Neither where it says whence a form comes, nor where it says what page a part is for."""
    form = visitor.http.post("/studio/sign-in", data={"key": "x"}, headers={"Origin": NO_ADDRESS})
    with httpx.Client(base_url=visitor.http.base_url, trust_env=False) as stranger:
        part = stranger.get("/studio/jobs/rows", headers={"HX-Request": "true", "HX-Current-URL": NO_ADDRESS})

    assert form.status_code == 403
    assert (part.status_code, part.headers["HX-Redirect"]) == (204, "/studio/sign-in?next=/studio/jobs/rows")


def test_a_cookie_of_no_letters_is_no_session(visitor: Visitor) -> None:
    """It leads to sign in, as none does."""
    answer = httpx.get(
        f"{visitor.http.base_url}/studio/jobs",
        headers={"Cookie": "darkroom_session=é\xff".encode("latin-1")},
        trust_env=False,
    )

    assert (answer.status_code, answer.headers["Location"][:15]) == (303, "/studio/sign-in")
