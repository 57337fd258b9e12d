"""What ElevenLabs' refusals mean: a pure function from what was received to an error.

What it refuses with its own JSON (`detail`: a status and a message, or a list for a malformed request) is not billed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from darkroom.errors import DarkroomError, OutOfMoney, Permanent, RateLimited, Retry, SubmitUnknown
from darkroom.providers.http import retry_after

BLOCK = "elevenlabs-account/default"
MESSAGE_LIMIT = 300
CODE = re.compile(r"[a-z0-9_]{1,64}")
TRANSIENT_STATUSES = frozenset({408, 409, 425})
# The account's own troubles: the same request passes once somebody has seen to them.
OUT_OF_CREDITS = frozenset({"quota_exceeded", "insufficient_credits", "payment_required"})


def classify_refusal(http_status: int, body: object, headers: Mapping[str, str]) -> DarkroomError:
    """Return the error for a refusal. `body` is the parsed JSON, or the text where it was none."""
    detail = body.get("detail") if isinstance(body, Mapping) else None
    if not isinstance(detail, Mapping | list | str):
        return _not_theirs(http_status, headers)
    status, words = _status(detail), _say(detail, http_status)
    # Too many at once for the plan, or their system is busy: both pass.
    if http_status == 429:
        return RateLimited(words, retry_after=retry_after(headers))
    # Before the statuses: 401 is a bad key and an empty purse alike.
    if status in OUT_OF_CREDITS or http_status == 402:
        return OutOfMoney(f"{words} (buy credits at elevenlabs.io, or raise the key's limit)", code="account_locked")
    if http_status in (401, 403):
        return Permanent(f"{words} (check the key in the block {BLOCK})", code="unauthorized")
    if http_status >= 500 or http_status in TRANSIENT_STATUSES:
        return Retry(words)
    return Permanent(words, code=status or "rejected")


def _not_theirs(http_status: int, headers: Mapping[str, str]) -> DarkroomError:
    said = f"something between us and ElevenLabs answered HTTP {http_status}"
    if http_status == 429:
        return RateLimited(said, retry_after=retry_after(headers))
    # A server's error of something in between may stand before a call that was taken.
    return SubmitUnknown(said) if http_status >= 500 else Retry(said, code="unexpected_answer")


def _status(detail: object) -> str | None:
    status = detail.get("status") if isinstance(detail, Mapping) else None
    return status if isinstance(status, str) and CODE.fullmatch(status) else None


def _say(detail: object, http_status: int) -> str:
    """Return the words of a refusal that may be repeated."""
    if isinstance(detail, Mapping):
        words = detail.get("message")
    elif isinstance(detail, list):
        # A malformed request's items echo what was sent (`input`): their place and message alone are repeated.
        words = "; ".join(_item_words(item) for item in detail if isinstance(item, Mapping))
    else:
        words = detail
    return f"ElevenLabs: {words[:MESSAGE_LIMIT]}" if isinstance(words, str) else f"ElevenLabs answered {http_status}"


def _item_words(item: Mapping[str, object]) -> str:
    location = item.get("loc")
    place = ".".join(str(part) for part in location if part != "body") if isinstance(location, list | tuple) else ""
    return f"{place}: {item.get('msg')}" if place else str(item.get("msg"))
