"""From what fal answers to what Darkroom does next, case by case."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from provider_rows import row_for

from darkroom.engine.failures import rebuilt
from darkroom.errors import DarkroomError, OutOfMoney, Park, Permanent, RateLimited, Retry
from darkroom.ledger import RequestStatus
from darkroom.providers.fal import classify_failure, classify_webhook_error
from darkroom.providers.outcomes import is_outcome

NGINX = "<html><head><title>503</title></head><body><center>nginx</center></body></html>"
OWN = {"x-fal-request-id": "r-1"}
PROMPT = "a fox nobody may read about"


def items(*types: str) -> dict[str, Any]:
    return {
        "detail": [
            {"loc": ["body", "prompt"], "msg": f"words of {kind}", "type": kind, "input": PROMPT, "ctx": {"p": PROMPT}}
            for kind in types
        ]
    }


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind", "code"),
    [
        (429, {"detail": "slow down"}, OWN, RateLimited, "rate_limited"),
        (503, NGINX, {}, Park, "provider_down"),
        (502, NGINX.upper(), {}, Park, "provider_down"),
        (503, NGINX, OWN, Retry, "transient"),
        (503, "<html>somebody else's page</html>", {}, Retry, "transient"),
        (401, {"detail": "No user found"}, {}, Permanent, "unauthorized"),
        (402, {"detail": "Pay"}, {}, OutOfMoney, "balance_exhausted"),
        (403, {"detail": "User is locked. Reason: Exhausted balance. Top up."}, {}, OutOfMoney, "balance_exhausted"),
        (403, {"detail": "User is locked."}, {}, Permanent, "account_locked"),
        (403, {"detail": "Not yours"}, {}, Permanent, "forbidden"),
        (404, {"status": "NOT_FOUND"}, {}, Permanent, "not_found"),
        (404, "<html>not here</html>", {}, Retry, "unexpected_answer"),
        (400, {"detail": "Request is still in progress"}, OWN, Retry, "in_progress"),
        (500, {"detail": "Request is still in progress"}, OWN, Retry, "in_progress"),
        (400, {"detail": "no", "error_type": "bad_request"}, OWN, Permanent, "bad_request"),
        (408, {"detail": "late"}, {}, Retry, "transient"),
        (409, {"detail": "again"}, {}, Retry, "transient"),
        (499, {"detail": "gone", "error_type": "client_cancelled"}, OWN, Permanent, "client_cancelled"),
        (499, {"detail": "gone"}, OWN, Permanent, "client_cancelled"),
        (504, {"detail": "late", "error_type": "request_timeout"}, OWN, Retry, "request_timeout"),
        (504, {"detail": "late"}, OWN | {"X-Fal-Error-Type": "startup_timeout"}, Retry, "startup_timeout"),
        (504, {"detail": "Timed out while fetching the result"}, OWN, Retry, "transient"),
        (500, items("internal_server_error"), OWN, Retry, "internal_server_error"),
        (504, items("generation_timeout"), OWN, Retry, "generation_timeout"),
        (422, items("downstream_service_error"), OWN, Retry, "downstream_service_error"),
        (422, items("content_policy_violation"), OWN, Permanent, "content_policy_violation"),
        (422, items("internal_server_error", "image_too_small"), OWN, Permanent, "image_too_small"),
        (422, items("nobody_listed_this"), OWN, Permanent, "nobody_listed_this"),
        (500, items("nobody_listed_this"), OWN, Retry, "nobody_listed_this"),
        (422, items("<script>not a code"), OWN, Permanent, "rejected"),
        (422, {"detail": "no list"}, OWN, Permanent, "rejected"),
        (418, "", {}, Permanent, "rejected"),
        (200, "<html>a captive portal</html>", {}, Retry, "unexpected_answer"),
        (None, None, None, Retry, "transient"),
    ],
)
def test_every_answer_has_one_meaning(
    status: int | None, body: object, headers: dict[str, str] | None, kind: type[DarkroomError], code: str
) -> None:
    """Status, body and headers decide class and code; nothing else does."""
    error = classify_failure(http_status=status, body=body, headers=headers)
    assert (type(error), error.code) == (kind, code)
    assert error.message


def test_the_provider_is_quoted_but_not_the_prompt() -> None:
    """Messages carry `loc` and `msg`, never the echoed `input` and `ctx`."""
    error = classify_failure(http_status=422, body=items("content_policy_violation", "missing"))
    assert error.message == "prompt: words of content_policy_violation; prompt: words of missing"


def test_messages_are_short_whatever_the_provider_says() -> None:
    """A long answer is cut to 500 characters."""
    assert len(classify_failure(http_status=422, body={"detail": "x" * 10_000}).message) == 500


def test_a_web_page_is_never_quoted() -> None:
    """What is not fal's JSON is reported by its status alone."""
    assert classify_failure(http_status=500, body="<html>hello</html>").message == "fal answered HTTP 500"


@pytest.mark.parametrize(
    "body",
    [
        {"detail": [None, 7, {"loc": "prompt", "msg": None, "type": None}]},
        {"detail": {"a": 1}},
        {"detail": None, "error_type": 7},
        [],
        7,
    ],
)
def test_a_body_of_any_shape_is_survived(body: object) -> None:
    """The classification itself never fails."""
    assert isinstance(classify_failure(http_status=422, body=body), Permanent)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"retry-after": "999999999999999999"}, 600),
        (
            {"Retry-After": "Fri, 20 Nov 2026 12:00:30 GMT", "Date": "Fri, 20 Nov 2026 12:00:00 GMT"},
            30,
        ),
        ({"Retry-After": "Fri, 20 Nov 2026 11:00:00 GMT", "Date": "Fri, 20 Nov 2026 12:00:00 GMT"}, 0),
        ({"Retry-After": "Fri, 20 Nov 2026 12:00:30 GMT"}, None),
        ({"Retry-After": "soon", "Date": "today"}, None),
        ({"Retry-After": "-5"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_both_spellings(headers: dict[str, str], seconds: int | None) -> None:
    """Seconds, or a date against the answer's own; bounded, and never negative."""
    error = classify_failure(http_status=429, body=None, headers=headers)
    assert error.retry_after == (None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (
            {"error": "Invalid status code: 422", "payload": items("content_policy_violation")},
            Permanent,
            "content_policy_violation",
        ),
        ({"error": "Invalid status code: 504", "payload": items("generation_timeout")}, Retry, "generation_timeout"),
        ({"error": "Invalid status code: 500", "payload": None}, Retry, "transient"),
        ({"error": "Timed out", "error_type": "request_timeout", "payload": None}, Retry, "request_timeout"),
        ({"error": "x", "payload": {"detail": "x", "error_type": "startup_timeout"}}, Retry, "startup_timeout"),
        ({"error": "Client cancelled", "error_type": "client_cancelled"}, Permanent, "client_cancelled"),
        # a runner's own 401 and 429: not our key, not our rate
        ({"error": "Invalid status code: 401", "payload": {"detail": "upstream"}}, Permanent, "rejected"),
        ({"error": "Invalid status code: 429", "payload": {"detail": "busy"}}, Retry, "transient"),
        ({"error": "Invalid status code: 404", "payload": {"detail": "gone"}}, Permanent, "rejected"),
        ({"error": None, "payload": None}, Retry, "transient"),
        ({}, Retry, "transient"),
    ],
)
def test_an_error_webhook_has_the_same_meanings(body: dict[str, Any], kind: type[DarkroomError], code: str) -> None:
    """The runner's status comes in words, the rest as in a result; it never blames the account."""
    error = classify_webhook_error(body)
    assert (type(error), error.code) == (kind, code)


def test_a_webhook_without_details_quotes_its_error() -> None:
    """Where there is no payload the `error` text is all there is."""
    assert classify_webhook_error({"error": "Runner vanished", "payload": None}).message == "Runner vanished"


@pytest.mark.parametrize(
    ("status", "body", "ended"),
    [
        (422, items("content_policy_violation"), True),
        (422, {"detail": "no"}, True),
        (504, items("generation_timeout"), True),
        (504, {"detail": "late", "error_type": "request_timeout"}, True),
        (504, {"detail": "Timed out while fetching the result"}, False),
        (400, {"detail": "Request is still in progress"}, False),
        (401, {"detail": "key?"}, False),
        (403, {"detail": "Exhausted balance"}, False),
        (404, {"status": "NOT_FOUND"}, False),
        (429, {}, False),
        (503, NGINX, False),
        (200, "<html>", False),
    ],
)
def test_a_failed_call_is_told_from_a_failed_generation(status: int, body: object, ended: bool) -> None:
    """Only how a generation ended may end a paid request; a refused key or a lost GET may not."""
    assert is_outcome(classify_failure(http_status=status, body=body)) is ended


@pytest.mark.parametrize(("account", "kind"), [("fal", Retry), ("elevenlabs", Permanent)])
def test_a_recorded_failure_is_judged_by_what_is_known_today(account: str, kind: type[DarkroomError]) -> None:
    """A type that fal was not known to have when it was put on record, and that may pass, is tried again."""
    row = row_for("fal-ai/flux/dev", prompt=PROMPT).model_copy(
        update={
            "account_id": account,
            "status": RequestStatus.FAILED,
            "error": {"class": "permanent", "code": "generation_timeout", "message": "too late"},
        }
    )
    error = rebuilt(row)
    assert (type(error), error.code, row.error["class"]) == (kind, "generation_timeout", "permanent")
