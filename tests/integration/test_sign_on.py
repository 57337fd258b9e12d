"""Single sign-on: operators come by an identity provider, and whoever it does not vouch for does not."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc.jwk import RSAKey
from oidc_provider import CLIENT, SECRET, Provider, identity_provider
from playwright.sync_api import expect
from pydantic import SecretStr
from running_gateway import NO_PREFECT, RunningGateway, running_gateway
from shared_gateway import ledger_url as ledger_url
from studio_browser import CHROMIUM, Visitor, browsing, visiting
from support import SLOW, free_port

from darkroom.deployments.gateway.problems import from_error
from darkroom.deployments.gateway.sign_on import SignOn, admits
from darkroom.errors import NeedsHuman, Retry
from darkroom.ledger import Ledger
from darkroom.settings import Settings

ANN = {"email": "Ann@example.com", "email_verified": True}
AT = "/studio/sign-in/oidc"


@pytest.fixture(scope="module")
def published() -> Iterator[Provider]:
    with identity_provider() as provider:
        yield provider


@pytest.fixture
def provider(published: Provider) -> Provider:
    published.claims, published.signing_key, published.published = dict(ANN), None, {}
    return published


@pytest.fixture(scope="module")
def gateway(ledger_url: str, published: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    port = free_port()
    settings = Settings(
        ledger_url=ledger_url,
        home=tmp_path_factory.mktemp("home"),
        gateway_url=f"http://127.0.0.1:{port}",
        signing_key=SecretStr("a long random text"),
        oidc_issuer=published.issuer,
        oidc_client_id=CLIENT,
        oidc_client_secret=SecretStr(SECRET),
        oidc_operators="ann@example.com, groups=darkroom-operators",
    )
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PREFECT_API_URL", NO_PREFECT)
        with running_gateway(settings, port=port) as gateway:
            yield gateway


@pytest.fixture
def visitor(gateway: RunningGateway) -> Iterator[Visitor]:
    with visiting(gateway) as visitor:
        yield visitor


def led(visitor: Visitor, gateway: RunningGateway, *, next: str = "/studio/operators") -> str:
    """To the provider and back: the path at which the browser arrives."""
    begun = visitor.get(f"{AT}?next={next}")
    assert begun.status_code == 303, begun.text
    cookie = begun.headers["Set-Cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=lax", f"Path={AT}", "Max-Age=600"))
    back = httpx.get(begun.headers["Location"], trust_env=False).headers["Location"]
    assert back.startswith(f"{gateway.url}{AT}/back?")
    return back.removeprefix(gateway.url)


def test_an_operator_signs_in_and_is_cut_off(
    gateway: RunningGateway, provider: Provider, visitor: Visitor, ledger: Ledger
) -> None:
    """With all scopes, as a user of their own; a second time as the same; until the key that it leans on is revoked."""
    assert f'href="{AT}?next=' in visitor.get("/studio/sign-in").text
    for _ in range(2):
        signed_in = visitor.get(led(visitor, gateway))
        assert signed_in.status_code == 200 and 'content="0;url=/studio/operators"' in signed_in.text
        (session, gone) = sorted(signed_in.headers.get_list("Set-Cookie"))
        assert "SameSite=strict" in session and "HttpOnly" in session and 'darkroom_sign_on=""' in gone
    assert "sso:ann@example.com" in visitor.get("/studio/operators").text
    (key,) = ledger.users.keys([ledger.users.find("sso:ann@example.com").id]).popitem()[1]
    assert (key.name, len(key.scopes)) == ("single sign-on", 4)
    ledger.keys.revoke(key.id)
    assert visitor.get("/studio/operators").status_code == 303


BENT: dict[str, tuple[dict[str, Any], int]] = {
    "another nonce": ({"nonce": "another"}, 401),
    "another audience": ({"aud": "another"}, 401),
    "for several, and another was meant": ({"aud": [CLIENT, "another"], "azp": "another"}, 401),
    "another issuer": ({"iss": "https://evil.example"}, 401),
    "run out": ({"iat": 1, "exp": int(time.time()) - 3600}, 401),
    "without an end": ({"exp": None}, 401),
    "not on the list": ({"email": "eve@example.com"}, 403),
    "not verified": ({"email_verified": False}, 403),
    "another group": ({"email": None, "groups": ["darkroom"]}, 403),
}


@pytest.mark.parametrize(("claims", "status"), BENT.values(), ids=BENT)
def test_whoever_is_not_vouched_for_is_refused(
    gateway: RunningGateway, provider: Provider, visitor: Visitor, claims: dict[str, Any], status: int
) -> None:
    """By what their token says; there is no session, and nothing of the token is shown."""
    provider.claims |= claims
    refused = visitor.get(led(visitor, gateway))
    assert refused.status_code == status and "darkroom_session" not in visitor.http.cookies
    assert "eve@example.com" not in refused.text


def test_a_token_that_another_key_has_signed_is_refused(
    gateway: RunningGateway, provider: Provider, visitor: Visitor
) -> None:
    """One that is not published, under the name of the one that is."""
    provider.signing_key = RSAKey.generate_key(2048, {"kid": provider.key.kid})
    assert visitor.get(led(visitor, gateway)).status_code == 401


def _state(back: str) -> str:
    return back.replace(parse_qs(urlsplit(back).query)["state"][0], "x" * 32)


FORGED: dict[str, tuple[Callable[[str], str], int]] = {
    "another state": (_state, 403),
    "no state": (lambda back: re.sub(r"&state=.*", "", back), 403),
    "another code": (lambda back: back.replace("code=", "code=x"), 401),
    "the provider says no": (lambda back: back.replace("code=", "error=access_denied&x="), 401),
    "another provider": (lambda back: f"{back}&iss=https://evil.example", 401),
}


@pytest.mark.parametrize(("forge", "status"), FORGED.values(), ids=FORGED)
@pytest.mark.usefixtures("provider")
def test_a_forged_way_back_opens_nothing(
    gateway: RunningGateway, visitor: Visitor, forge: Callable[[str], str], status: int
) -> None:
    """Nor does the same one twice, or one that was begun in another browser."""
    back = led(visitor, gateway)
    assert visitor.get(forge(back)).status_code == status
    assert visitor.get(back).status_code == 403  # the cookie is gone
    with visiting(gateway) as other:
        assert other.get(back).status_code == 403
        assert "darkroom_session" not in {*visitor.http.cookies, *other.http.cookies}


@pytest.mark.parametrize("next", ["//evil.example", "https://evil.example", "/studio/sign-in"])
@pytest.mark.usefixtures("provider")
def test_it_leads_on_to_no_other_host(gateway: RunningGateway, visitor: Visitor, next: str) -> None:
    """But to the first page."""
    assert 'content="0;url=/studio/jobs"' in visitor.get(led(visitor, gateway, next=next)).text


def test_an_operator_is_on_the_list_by_mail_or_by_claim() -> None:
    """A claim may be one value or several; an address that nobody has verified is none."""
    assert admits(ANN, "bob@example.com, ann@example.com") and not admits(ANN, "")
    unverified = {"email": "ann@example.com"}
    assert admits(ANN, "email=ann@example.com")
    assert not admits(unverified, "ann@example.com") and not admits(unverified, "email=ann@example.com")
    assert admits({"groups": ["a", "ops"]}, "groups=ops") and admits({"role": "ops"}, "role=ops")
    assert not admits({"groups": "ops-not"}, "groups=ops") and not admits({}, "groups=")


@pytest.mark.parametrize(
    "given",
    [
        {"oidc_issuer": "http://id.example.com"},
        {"oidc_issuer": "https://["},
        {"oidc_client_id": ""},
        {"oidc_operators": " "},
    ],
)
def test_what_is_set_by_halves_is_told_at_the_start(given: dict[str, str]) -> None:
    """By the names of the variables; and an address is https, but for tests."""
    whole = {"oidc_issuer": "https://id.example.com", "oidc_client_id": CLIENT, "oidc_operators": "ann@example.com"}
    SignOn(Settings(**whole))
    with pytest.raises(NeedsHuman, match="DARKROOM_OIDC_"):
        SignOn(Settings(**whole | given))


def signing_on(provider: Provider) -> SignOn:
    """One of its own, that has read nothing of the provider yet."""
    return SignOn(Settings(oidc_issuer=provider.issuer, oidc_client_id=CLIENT, oidc_operators="ann@example.com"))


def test_another_spelling_of_the_issuer_is_told_to_the_operator(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By both spellings, for the log; once the provider has put it right, it is a sign-on again."""
    provider.published = {"issuer": f"{provider.issuer}/"}
    sign_on = signing_on(provider)
    for attempt in (sign_on.begin, lambda: sign_on.finish("code", nonce="n", code_verifier="v")):
        with pytest.raises(NeedsHuman, match="DARKROOM_OIDC_ISSUER") as told:
            attempt()
        assert f"'{provider.issuer}/'" in told.value.message and f"'{provider.issuer}'" in told.value.message
        assert from_error(told.value).status_code == 503
    provider.published = {}
    monkeypatch.setattr("darkroom.deployments.gateway.sign_on.ANEW_SECONDS", 0.0)
    assert sign_on.begin().url.startswith(provider.issuer)


@pytest.mark.parametrize("path", ["/v1/sessions/oidc/authorization", "/v1/sessions/oidc"])
def test_too_many_at_once_are_answered_as_documented(
    gateway: RunningGateway, provider: Provider, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """By 503 and when to come again: whoever is refused has not sent too many."""
    monkeypatch.setattr("darkroom.deployments.gateway.sign_on.MOST_AT_ONCE", 0)
    with pytest.raises(Retry, match="too many") as refused:
        signing_on(provider).begin()
    answer = from_error(refused.value)
    assert (answer.status_code, answer.headers) == (503, {"Retry-After": "5"})
    documented = gateway.http.get("/openapi.json").json()["paths"][path]["post"]["responses"]
    assert "503" in documented and "429" not in documented


@pytest.mark.parametrize("nonsense", [[], {"authorization_endpoint": None}, {"authorization_endpoint": 5}])
def test_a_provider_that_publishes_nonsense_does_not_answer_as_one(provider: Provider, nonsense: Any) -> None:
    """As one that is out: begin again later."""
    provider.published = nonsense
    with pytest.raises(Retry, match="does not answer as one"):
        signing_on(provider).begin()


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium")
@pytest.mark.usefixtures("provider")
def test_a_browser_comes_back_from_another_site_signed_in(gateway: RunningGateway) -> None:
    """Whose redirects carry no cookie that is of the Studio's site alone."""
    with browsing(gateway) as browser:
        browser.page.goto(f"{gateway.url}/studio/operators")
        browser.page.get_by_role("link", name="Sign in as an operator").click()
        expect(browser.page.get_by_role("heading", name="Operators")).to_be_visible(timeout=SLOW * 15_000)
        assert browser.complaints == []
