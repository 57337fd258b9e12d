"""What all calls of the platform share: who asks and may they, how often, which page, of which time."""

from __future__ import annotations

import base64
import binascii
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from starlette.requests import Request

from ..answers import FalError
from ..book import ACCOUNTS, SCOPES, Account, Scope

Row = TypeVar("Row")
READERS = (Scope.API, Scope.ADMIN)
ADMINS = (Scope.ADMIN,)
AUDITORS = (Scope.ADMIN, Scope.BILLING)
_MAX_VALUES = 50  # fal's own bound


class PlatformError(FalError):
    """The platform's own shape of an error, which is not the queue's."""

    def __init__(self, status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, {"error": {"type": kind, "message": message}}, headers)


class RateLimit:
    """So many calls in a window of time for each key. Without a limit everybody may ask as often as they like."""

    def __init__(self) -> None:
        self.calls: int | None = None  # fal publishes no numbers, so there is none until a test sets one
        self.seconds = 60.0
        self._counts: Counter[str] = Counter()
        self._began = 0.0

    def set(self, calls: int | None, *, seconds: float) -> None:
        self.calls, self.seconds = calls, seconds
        self._counts.clear()
        self._began = time.monotonic()

    def take(self, key: str) -> None:
        """Count a call. Raise PlatformError beyond the limit."""
        if self.calls is None:
            return
        passed = time.monotonic() - self._began
        if passed >= self.seconds:
            self._counts.clear()
            # Windows follow each other without gaps, whenever somebody asks.
            self._began += passed - passed % self.seconds
            passed %= self.seconds
        self._counts[key] += 1
        if self._counts[key] > self.calls:
            # The seconds until the window is over. Of 0 a client would make a call that is too early.
            reset = {"x-ratelimit-reset": str(max(1, round(self.seconds - passed)))}
            raise PlatformError(429, "rate_limited", "Too many requests. Try again later.", reset)


def caller(request: Request, *scopes: Scope) -> Account:
    """Return whose key it is. Raise PlatformError for one that is unknown or may not do this."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme != "Key" or key not in ACCOUNTS:
        raise PlatformError(401, "authorization_error", "Authentication is required.")
    if SCOPES[key] not in scopes:
        wanted = "an ADMIN scope key" if Scope.API not in scopes else "a key of another scope"
        raise PlatformError(403, "authorization_error", f"This operation needs {wanted}.")
    return ACCOUNTS[key]


def values(request: Request, name: str, *, required: bool = False) -> list[str]:
    """Return the values of a parameter that may be repeated or separated by commas."""
    found = [each for text in request.query_params.getlist(name) for each in text.split(",") if each]
    if len(found) > _MAX_VALUES or (required and not found):
        raise invalid(f"{name} must have 1 to {_MAX_VALUES} values")
    return found


def page(request: Request, rows: Sequence[Row], *, usual: int, most: int) -> tuple[list[Row], dict[str, Any]]:
    """Return the rows of the page that the cursor numbers, and the words about the next one."""
    # By number, as fal does: rows that have come in front since the page before shift the rest.
    limit, number = _limit(request, usual=usual, most=most), _number(request.query_params.get("cursor"))
    found, more = list(rows[(number - 1) * limit : number * limit]), len(rows) > number * limit
    # fal's examples have `Mg==`, which is a 2.
    cursor = base64.b64encode(str(number + 1).encode()).decode() if more else None
    return found, {"next_cursor": cursor, "has_more": more}


def _limit(request: Request, *, usual: int, most: int) -> int:
    text = request.query_params.get("limit", str(usual))
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise invalid(f"limit must be a number from 1 to {most}")
    return int(text)


def _number(cursor: str | None) -> int:
    if not cursor:
        return 1
    try:
        return max(1, int(base64.b64decode(cursor, validate=True)))
    except (binascii.Error, ValueError):
        raise invalid("cursor is not one of ours") from None


def span(request: Request) -> tuple[datetime, datetime]:
    """Return the time asked for: the last 24 hours where nothing is said."""
    now, query = datetime.now(UTC), request.query_params
    start, end = moment(query.get("start")), moment(query.get("end"))
    return start or now - timedelta(hours=24), end or now


def moment(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise invalid(f"not an ISO 8601 time: {text}") from None
    # fal takes a plain date as well, which has no zone; its answers are in UTC.
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def invalid(message: str) -> PlatformError:
    return PlatformError(400, "validation_error", message)


def not_found(message: str) -> PlatformError:
    return PlatformError(404, "not_found", message)


async def json_object(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise invalid("the body must be a JSON object")
    return body
