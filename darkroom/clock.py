"""The time, always with its zone. The one place that asks the machine for it.

Whoever decides by the time is given a `Clock`; SQL is given what it says (`:now`), so a test can move it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


def midnight(now: datetime) -> datetime:
    """Return when the day of that moment began, in UTC: budgets are by the day."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def next_midnight(now: datetime) -> datetime:
    """Return when the next day begins, in UTC."""
    return midnight(now) + timedelta(days=1)


def first_of_month(now: datetime) -> datetime:
    """Return when the month of that moment began, in UTC: budgets are by the month, too."""
    return midnight(now).replace(day=1)


def next_month(now: datetime) -> datetime:
    """Return when the next month begins, in UTC."""
    return first_of_month(first_of_month(now) + timedelta(days=31))
