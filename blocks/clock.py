"""The time, always with its zone. The one place that asks the machine for it."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    return datetime.now(UTC)


def midnight(now: datetime) -> datetime:
    """When the day of that moment began, in UTC: budgets are by the day."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
