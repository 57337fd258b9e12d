"""What the queue's answers say, read without trust in their shape: from a response to a value or an error.

The one that matters most is the answer to a submit: it made a job, it surely made none, or nobody knows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import httpx

from darkroom.errors import DarkroomError, Park, Retry, SubmitUnknown
from darkroom.providers.fal.failures import classify_failure, is_ingress_page
from darkroom.providers.fal.uploads import as_recorded
from darkroom.providers.http import amount_in
from darkroom.providers.pairing import Sent

# Ids become parts of URLs, so only plain ones count.
REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")

STATES = frozenset({"IN_QUEUE", "IN_PROGRESS", "COMPLETED"})
State = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "NOT_FOUND"]
Cancelled = Literal["requested", "already_completed", "not_found"]


@dataclass(frozen=True, kw_only=True)
class Submitted:
    request_id: str
    gateway_request_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class ProviderStatus:
    """COMPLETED says only that it is over: whether it went well is told by `Fal.result` alone."""

    state: State
    queue_position: int | None = None
    logs: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class ProviderResult:
    output: dict[str, Any]
    billable_units: Decimal | None


@dataclass(frozen=True, kw_only=True)
class Page:
    sent: tuple[Sent, ...]
    next_cursor: str | None


def read_submit(response: httpx.Response) -> Submitted:
    body = _json(response)
    request_id = _field(body, "request_id")
    # A status alone proves nothing: a page of something in between may have a 200 as well.
    if response.is_success and request_id and REQUEST_ID.fullmatch(request_id):
        return Submitted(request_id=request_id, gateway_request_id=_field(body, "gateway_request_id"))
    if _surely_refused(response, body):
        raise answer_failure(response)
    raise SubmitUnknown(f"fal answered the submit with HTTP {response.status_code} and no request id")


def _surely_refused(response: httpx.Response, body: object) -> bool:
    """Return whether the job was surely refused."""
    # A 4xx comes before anything is queued, and an error with fal's request id is the queue's own word.
    if response.is_client_error or (response.is_server_error and "x-fal-request-id" in response.headers):
        return True
    # A 502 or 504 page of the nginx is no refusal: the queue behind it may have taken the job.
    return response.status_code == 503 and is_ingress_page(503, body, response.headers)


def read_page(response: httpx.Response) -> Page | None:
    """Read a page of the list of requests; return None for a key that may not read the list."""
    body = _json(response)
    # The platform's own 404 says that there is nothing; any other, that the key may not ask.
    if response.status_code == 404 and _platform_error(body) == "not_found":
        return Page(sent=(), next_cursor=None)
    if response.status_code in (401, 403, 404):
        return None
    items = body.get("items") if isinstance(body, dict) else None
    if response.status_code != 200 or not isinstance(items, list):
        raise answer_failure(response)
    more = isinstance(body, dict) and body.get("has_more") is not False
    return Page(
        sent=tuple(sent for item in items if (sent := _sent(item))),
        next_cursor=_field(body, "next_cursor") if more else None,
    )


def _sent(item: object) -> Sent | None:
    request_id, given = _field(item, "request_id"), item.get("json_input") if isinstance(item, dict) else None
    try:
        sent_at = datetime.fromisoformat(_field(item, "sent_at") or "")
    except ValueError:
        return None
    # An item is known by its id, time and input: without one of them it cannot be told whose it is.
    if not request_id or not REQUEST_ID.fullmatch(request_id) or not isinstance(given, dict):
        return None
    # fal's times are UTC, said or not.
    at = sent_at if sent_at.tzinfo else sent_at.replace(tzinfo=UTC)
    return Sent(request_id=request_id, sent_at=at, input=as_recorded(given))


def read_status(response: httpx.Response) -> ProviderStatus:
    if _says_not_found(response):
        return ProviderStatus(state="NOT_FOUND")
    body = _json(response)
    if response.status_code not in (200, 202) or not isinstance(body, dict):  # 202 while it is under way
        raise answer_failure(response)
    state, logs, position = body.get("status"), body.get("logs"), body.get("queue_position")
    # A new word of fal's is no reason to give up what may be paid.
    if state not in STATES:
        raise Retry("fal's queue speaks of a state that is not documented", code="unexpected_answer")
    return ProviderStatus(
        state=state,
        queue_position=position if isinstance(position, int) else None,
        logs=tuple(line for line in logs if isinstance(line, dict)) if isinstance(logs, list) else (),
    )


def read_result(response: httpx.Response) -> ProviderResult:
    output = _json(response)
    if response.status_code != 200 or not isinstance(output, dict):
        raise answer_failure(response)
    # The count is on this GET alone: a webhook does not bring it.
    return ProviderResult(output=output, billable_units=amount_in(response.headers.get("x-fal-billable-units")))


def read_cancel(response: httpx.Response) -> Cancelled:
    # 202 where a signal goes to its runner; for one that was still queued fal names an OK, so any 2xx counts.
    if response.is_success:
        return "requested"
    if _says_not_found(response):
        return "not_found"
    if _field(_json(response), "status") == "ALREADY_COMPLETED":
        return "already_completed"
    raise answer_failure(response)


def read_confirmation(response: httpx.Response) -> bool:
    """Return whether the queue says yes or no, which is the queue's alone to say.

    Raise Retry or Park for whatever else is answered: the question is to be asked again.
    """
    if response.status_code in (200, 202) and _field(_json(response), "status") in STATES:  # 202 while it is under way
        return True
    if _says_not_found(response):
        return False
    failure = answer_failure(response)
    raise failure if isinstance(failure, Retry | Park) else Retry(failure.message, code=failure.code)


def answer_failure(response: httpx.Response) -> DarkroomError:
    return classify_failure(http_status=response.status_code, body=_json(response), headers=response.headers)


def _json(response: httpx.Response) -> object:
    try:
        return response.json()
    except ValueError:
        return response.text


def _field(body: object, name: str) -> str | None:
    value = body.get(name) if isinstance(body, dict) else None
    return value if isinstance(value, str) else None


def _platform_error(body: object) -> str | None:
    """Return the type of a failure as the platform host tells it; the queue's host has another form."""
    return _field(body.get("error"), "type") if isinstance(body, dict) else None


def _says_not_found(response: httpx.Response) -> bool:
    """Return whether the answer is the queue's own 404."""
    # A page of something in between proves nothing about the request.
    return response.status_code == 404 and isinstance(_json(response), dict)
