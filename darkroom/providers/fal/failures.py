"""The one place where fal's failures become Darkroom's: pure functions from what was received to an error.

fal speaks three dialects: the queue's own JSON (`detail` is a text, with `error_type`), a model's rejection (`detail`
is a list of items with `type`, `loc`, `msg`), and the page of the nginx in front. Messages are built from `loc` and
`msg` alone: the items' `input` and `ctx` echo the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from darkroom.errors import DarkroomError, OutOfMoney, Park, Permanent, RateLimited, Retry
from darkroom.providers.http import retry_after

MESSAGE_LIMIT = 500
CODE = re.compile(r"[a-z0-9_.-]{1,64}")
INGRESS_STATUSES = frozenset({502, 503, 504})

# How a generation can end for a reason that may be gone next time. fal does not bill these.
RETRYABLE_TYPES = frozenset(
    {
        # what the platform reports
        "request_timeout",
        "startup_timeout",
        "runner_scheduling_failure",
        "runner_connection_timeout",
        "runner_disconnected",
        "runner_connection_refused",
        "runner_connection_error",
        "runner_incomplete_response",
        "runner_server_error",
        "internal_error",
        # what models report
        "internal_server_error",
        "generation_timeout",
        "downstream_service_error",
        "downstream_service_unavailable",
    }
)
CANCELLED_TYPES = frozenset({"client_cancelled", "client_disconnected"})
TRANSIENT_STATUSES = frozenset({408, 409, 425, 429})


def classify_failure(
    *,
    http_status: int | None,
    body: object,
    error_type: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> DarkroomError:
    """Return the error for an answer that is none.

    `body` is the parsed JSON, or the text where it was not JSON.
    """
    found = {name.lower(): value for name, value in (headers or {}).items()}
    if http_status == 429:
        return RateLimited(_say(body, http_status), retry_after=retry_after(found))
    if is_ingress_page(http_status, body, found):
        return Park(f"fal's entrance answered HTTP {http_status}: the service behind it is out")
    if refused := _refused_call(http_status, body):
        return refused
    return _outcome(http_status, body, error_type or found.get("x-fal-error-type"))


def classify_webhook_error(body: Mapping[str, object]) -> DarkroomError:
    """Return the error for a webhook with `status: ERROR`."""
    # Its HTTP status is what the model's runner answered, so 401 or 429 there says nothing about our key or our rate.
    payload = body.get("payload")
    error = body.get("error")
    # It stands in words alone: "Invalid status code: 422".
    status = re.search(r"status code: (\d{3})", error) if isinstance(error, str) else None
    error_type = body.get("error_type")
    return _outcome(
        int(status[1]) if status else None,
        payload if isinstance(payload, Mapping) else {"detail": error},
        error_type if isinstance(error_type, str) else None,
    )


def may_pass(code: str) -> bool:
    """Return whether a generation that ended by that type may end otherwise next time, as far as is known today."""
    return code in RETRYABLE_TYPES


def is_ingress_page(http_status: int | None, body: object, headers: Mapping[str, str]) -> bool:
    """Return whether this is the page of the nginx in front of fal's queue."""
    return (
        http_status in INGRESS_STATUSES
        # The queue's own answers carry it.
        and "x-fal-request-id" not in {name.lower() for name in headers}
        and isinstance(body, str)
        and "nginx" in body.lower()
    )


def _refused_call(http_status: int | None, body: object) -> DarkroomError | None:
    words = _say(body, http_status)
    if http_status == 401:
        return Permanent(f"{words} (check the key in the block fal-account/default)", code="unauthorized")
    if http_status == 404:
        # A page of something in between proves nothing about what was asked for.
        known = isinstance(body, Mapping)
        return Permanent(words, code="not_found") if known else Retry(words, code="unexpected_answer")
    if http_status not in (402, 403):
        return None
    # At a submit it is a 403: "User is locked. Reason: Exhausted balance. …". Nothing was queued.
    if http_status == 402 or "exhausted balance" in words.lower():
        return OutOfMoney(f"{words} (top up at fal.ai/dashboard/billing)")
    return Permanent(words, code="account_locked" if "locked" in words.lower() else "forbidden")


def _outcome(http_status: int | None, body: object, error_type: str | None) -> DarkroomError:
    words = _say(body, http_status)
    types = [kind for kind in ([error_type] if error_type else _types(body)) if CODE.fullmatch(kind)]
    # One reason that lasts, among several, makes every further try useless.
    lasting = [kind for kind in types if kind not in RETRYABLE_TYPES]
    if not types:
        return _by_status(http_status, words)
    if not lasting:
        return Retry(words, code=types[0])
    if (http_status or 0) >= 500 and not CANCELLED_TYPES.intersection(lasting):
        # A type nobody has listed yet: the status tells whose fault it is.
        return Retry(words, code=lasting[0])
    return Permanent(words, code=lasting[0])


def _by_status(http_status: int | None, words: str) -> DarkroomError:
    # A result that is asked for too early: a 400, by other reports a 500.
    if http_status in (202, 400, 500) and "still in progress" in words.lower():
        return Retry(words, code="in_progress")
    if http_status == 499:
        return Permanent(words, code="client_cancelled")
    if http_status is None or http_status >= 500 or http_status in TRANSIENT_STATUSES:
        return Retry(words)
    if http_status >= 400:
        return Permanent(words, code="rejected")
    return Retry(words, code="unexpected_answer")


def _items(body: object) -> list[Mapping[str, object]]:
    detail = body.get("detail") if isinstance(body, Mapping) else None
    return [item for item in detail if isinstance(item, Mapping)] if isinstance(detail, list) else []


def _types(body: object) -> Iterator[str]:
    platform_type = body.get("error_type") if isinstance(body, Mapping) else None
    if isinstance(platform_type, str):
        yield platform_type
        return
    for item in _items(body):
        if isinstance(kind := item.get("type"), str):
            yield kind


def _say(body: object, http_status: int | None) -> str:
    """Return the provider's words, or the bare status where it has none that may be repeated."""
    detail = body.get("detail") if isinstance(body, Mapping) else None
    words = detail if isinstance(detail, str) else "; ".join(_item_words(item) for item in _items(body))
    return words[:MESSAGE_LIMIT] or (f"fal answered HTTP {http_status}" if http_status else "fal gave no reason")


def _item_words(item: Mapping[str, object]) -> str:
    location = item.get("loc")
    parts = [str(part) for part in location if part != "body"] if isinstance(location, list | tuple) else []
    # Nothing else of it: the item's `input` and `ctx` echo the prompt.
    words = item.get("msg")
    return f"{'.'.join(parts)}: {words}" if parts else str(words)
