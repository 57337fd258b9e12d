"""What Mux says of a film, decided without a network; and which way its client goes through one."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import urllib3
from provider_rows import NOW, row_for

from darkroom.errors import BadInput, DarkroomError, Park, Permanent, RateLimited, Retry
from darkroom.ledger import Request, Transition
from darkroom.providers.models import find_model
from darkroom.providers.mux.api import _connections
from darkroom.providers.mux.failures import classify_refusal
from darkroom.providers.mux.outcomes import asset_outcome, is_abandoned, upload_outcome

UPLOAD = "mux/upload"
READY = {
    "id": "a-1",
    "status": "ready",
    "upload_id": "u-1",
    "playback_ids": [{"id": "signed", "policy": "signed"}, {"id": "p-1", "policy": "public"}],
    "duration": 23.5,
    "aspect_ratio": "16:9",
}


@pytest.fixture
def row() -> Request:
    return row_for(UPLOAD, video="asset:ast_1", title="Tea or coffee")


def said(kind: str, *messages: str) -> str:
    return json.dumps({"error": {"type": kind, "messages": list(messages)}})


def test_a_film_that_is_ready_has_an_address_and_a_price(row: Request) -> None:
    """By the length that Mux found, $0.003 a minute."""
    outcome = asset_outcome(row, READY)
    assert outcome is not None
    assert outcome.transition is Transition.SUCCEED
    assert outcome.output == {
        "asset_id": "a-1",
        "upload_id": "u-1",
        "playback_id": "p-1",
        "stream_url": "https://stream.mux.com/p-1.m3u8",
        "seconds": 23.5,
        "aspect_ratio": "16:9",
    }
    assert outcome.cost_usd == Decimal("0.001175")


def test_a_film_that_is_prepared_is_waited_for(row: Request) -> None:
    """Neither good nor bad yet; and so is what Mux may call it one day."""
    assert asset_outcome(row, {**READY, "status": "preparing"}) is None
    assert asset_outcome(row, {**READY, "status": "contemplating"}) is None
    assert upload_outcome(row, {"status": "waiting"}) is None


@pytest.mark.parametrize(
    ("upload", "kind", "code"),
    [
        ({"status": "cancelled"}, "retry", "upload_abandoned"),
        ({"status": "timed_out"}, "retry", "upload_timed_out"),
        ({"status": "errored", "error": {"type": "internal", "message": "our fault"}}, "retry", "internal"),
        ({"status": "errored", "error": {"type": "invalid_input", "message": "no"}}, "permanent", "invalid_input"),
        ({"status": "errored"}, "retry", "errored"),
    ],
)
def test_an_upload_that_came_to_nothing_cost_nothing(
    row: Request, upload: dict[str, Any], kind: str, code: str
) -> None:
    """All but a film that Mux cannot read may be tried again."""
    outcome = upload_outcome(row, upload)
    assert outcome is not None
    assert outcome.transition is Transition.FAIL
    assert outcome.error is not None
    assert (outcome.error["class"], outcome.error["code"], outcome.error["ref"]) == (kind, code, "req_1")
    assert outcome.cost_usd is None


@pytest.mark.parametrize(("kind", "expected"), [("invalid_input", "permanent"), ("processing", "retry")])
def test_an_asset_that_failed_says_why(row: Request, kind: str, expected: str) -> None:
    """In Mux' words."""
    outcome = asset_outcome(
        row, {"status": "errored", "errors": {"type": kind, "messages": ["no duration", "no track"]}}
    )
    assert outcome is not None
    assert outcome.error is not None
    assert outcome.error["class"] == expected
    assert outcome.error["message"].endswith("no duration; no track")


def test_a_cancel_that_was_asked_for_is_none_of_mux_failures(row: Request) -> None:
    """The upload was cancelled there because the job was."""
    row.cancel_requested_at = NOW
    outcome = upload_outcome(row, {"status": "cancelled"})
    assert outcome is not None
    assert outcome.transition is Transition.CANCEL


@pytest.mark.parametrize(
    ("status", "minutes", "abandoned"),
    [("waiting", 2.9, False), ("waiting", 3.1, True), ("asset_created", 60, False), ("cancelled", 60, False)],
)
def test_an_upload_is_abandoned_when_nobody_can_be_bringing_its_film(
    row: Request, status: str, minutes: float, abandoned: bool
) -> None:
    """Whoever brings one gives up sooner."""
    assert is_abandoned(row, {"status": status}, now=NOW + timedelta(minutes=minutes)) is abandoned


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (429, said("rate"), RateLimited, "rate_limited"),
        (503, None, Park, "provider_down"),
        (502, "<html>", Park, "provider_down"),
        (500, said("internal"), Retry, "transient"),
        (401, said("unauthorized"), Permanent, "unauthorized"),
        (403, said("invalid_parameters", "not waiting"), Permanent, "forbidden"),
        (404, said("not_found"), Permanent, "not_found"),
        (400, said("invalid_parameters"), Permanent, "rejected"),
        (404, "<html>", Retry, "unexpected_answer"),
        (0, None, Retry, "unexpected_answer"),
    ],
)
def test_every_refusal_has_one_meaning(status: int, body: str | None, kind: type[DarkroomError], code: str) -> None:
    """No call to the API is paid, so whatever is not said for good may be tried again."""
    error = classify_refusal(status, body, {"Retry-After": "3"})
    assert (type(error), error.code) == (kind, code)
    assert (error.retry_after == timedelta(seconds=3)) is (kind is RateLimited)


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, "http://proxy.example:3128"),
        ({"HTTPS_PROXY": "proxy.example:3128"}, "http://proxy.example:3128"),
        ({"ALL_PROXY": "http://proxy.example:3128"}, "http://proxy.example:3128"),
        ({"HTTP_PROXY": "http://proxy.example:3128"}, None),
        ({"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "localhost,.mux.com"}, None),
        ({"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "*"}, None),
    ],
)
def test_the_client_takes_the_way_that_all_others_take(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], proxy: str | None
) -> None:
    """Its library knows nothing of these variables."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    made = _connections("https://api.mux.com")
    found = made.proxy.url if isinstance(made, urllib3.ProxyManager) and made.proxy else None
    assert (found.rstrip("/") if found else None) == proxy


def test_a_proxy_that_wants_a_password_is_given_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands in its address, unquoted."""
    monkeypatch.setenv("https_proxy", "http://me:p%40ss@proxy.example:3128")
    monkeypatch.setenv("no_proxy", "")
    made = _connections("https://api.mux.com")
    assert isinstance(made, urllib3.ProxyManager)
    assert made.proxy_headers == {"proxy-authorization": "Basic bWU6cEBzcw=="}


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"video": "https://elsewhere.example/film.mp4"}, "video"),
        ({"video": "asset:ast_1", "test": True}, "test"),
        ({"video": "asset:ast_1", "seconds": 1e30}, "seconds"),
    ],
)
def test_a_bad_input_names_its_field(arguments: dict[str, Any], field: str) -> None:
    """Only files of the media store are uploaded."""
    with pytest.raises(BadInput) as caught:
        find_model(UPLOAD).validate(arguments)
    assert caught.value.field == field


def test_the_estimate_knows_the_length_or_takes_ten_minutes() -> None:
    """The most it should cost; Mux is not told the length."""
    model = find_model(UPLOAD)
    assert model.estimate({"video": "asset:ast_1", "seconds": 60.0}) == Decimal("0.003000")
    assert model.estimate({"video": "asset:ast_1"}) == Decimal("0.030000")
    assert model.files({"playback_id": "p-1"}) == []
