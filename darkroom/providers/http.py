"""What a broken connection, a request for patience and a number mean, for every provider alike.

Of the one call that is paid, what matters is whether it may have been taken: nothing of it has left when a connection
could not be made; after any other break nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime

import httpx

from darkroom.errors import DarkroomError, Park, Retry, SubmitUnknown

LONGEST_RETRY_AFTER = timedelta(minutes=10)
# Nothing of the request has left when these are raised. Every other transport error may have come after it was read.
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.PoolTimeout)


def lost_submit(provider: str, error: httpx.HTTPError) -> DarkroomError:
    """Return the error for a broken call that is paid: it surely was not taken, or nobody knows."""
    if isinstance(error, NOT_SENT):
        return lost_call(provider, error)
    return SubmitUnknown(f"the answer of {provider} was lost ({type(error).__name__})")


def lost_call(provider: str, error: httpx.HTTPError) -> DarkroomError:
    """Return the error for a broken call that may be repeated."""
    if isinstance(error, httpx.PoolTimeout):
        # Our own doing: a Park would open the breaker of the account.
        return Retry(f"too many calls to {provider} at once from this process", code="transient")
    if isinstance(error, NOT_SENT):
        return Park(f"{provider} cannot be reached ({type(error).__name__})", code="unreachable")
    return Retry(f"the connection to {provider} broke ({type(error).__name__})")


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Read a header `Retry-After`, of seconds or a date; return None where there is none that can be read."""
    found = {name.lower(): value for name, value in headers.items()}
    value = found.get("retry-after", "").strip()
    try:
        # A date is measured against the answer's own `Date`: our clock may differ.
        seconds = float(value) if value.isascii() and value.isdigit() else _seconds_until(value, found["date"])
    except (KeyError, ValueError):
        return None
    return bounded(seconds)


def bounded(seconds: float) -> timedelta:
    """Limit a time to as long as a provider may make us wait."""
    return timedelta(seconds=min(max(seconds, 0), LONGEST_RETRY_AFTER.total_seconds()))


def number_in(value: object) -> Decimal | None:
    """Return the number that stands there, also as text; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def amount_in(value: object) -> Decimal | None:
    """Return the number that stands there, unless it is below zero."""
    number = number_in(value)
    return None if number is None or number < 0 else number


def _seconds_until(due: str, now: str) -> float:
    return (parsedate_to_datetime(due) - parsedate_to_datetime(now)).total_seconds()
