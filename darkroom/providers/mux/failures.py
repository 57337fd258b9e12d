"""What Mux's refusals mean. Pure. None of the calls to its API costs anything: a film does, once it is uploaded."""

from __future__ import annotations

import json
from collections.abc import Mapping

from darkroom.errors import DarkroomError, Park, Permanent, RateLimited, Retry
from darkroom.providers.http import retry_after

BLOCK = "mux-account/default"
MESSAGE_LIMIT = 300
TRANSIENT_STATUSES = frozenset({408, 409, 425})


def classify_refusal(http_status: int, body: str | None, headers: Mapping[str, str]) -> DarkroomError:
    """Return the error for a refusal.

    `body`: the answer's, as it came. Nothing that was sent is repeated in it but for a title.
    """
    error = _error(body)
    words = _say(error, http_status)
    if http_status == 429:
        return RateLimited(words, retry_after=retry_after(headers))
    if http_status in (502, 503, 504):
        return Park(words)
    if http_status >= 500 or http_status in TRANSIENT_STATUSES:
        return Retry(words)
    if http_status == 401:
        return Permanent(f"{words} (check the token in the block {BLOCK})", code="unauthorized")
    if not error:
        # A page of something in between proves nothing about what was asked for.
        return Retry(words, code="unexpected_answer")
    return Permanent(words, code={403: "forbidden", 404: "not_found"}.get(http_status, "rejected"))


def _error(body: str | None) -> Mapping[str, object]:
    try:
        found = json.loads(body or "")
    except ValueError:
        return {}
    error = found.get("error") if isinstance(found, dict) else None
    return error if isinstance(error, dict) else {}


def _say(error: Mapping[str, object], http_status: int) -> str:
    messages = error.get("messages")
    said = "; ".join(str(each) for each in messages) if isinstance(messages, list) else ""
    return f"Mux: {said[:MESSAGE_LIMIT]}" if said else f"Mux answered HTTP {http_status}"
