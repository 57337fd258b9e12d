"""What a user's plan allows to be ordered: how much may wait, and what it may cost. The rest is refused."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row

from darkroom.errors import TooMany
from darkroom.ledger.budgets import Limits
from darkroom.ledger.database import run


def require_allowed(row: Row[Any], estimate_usd: Decimal, *, retry_after: timedelta) -> None:
    """Raise TooMany where the user's queue is full, BadInput for what costs more than a whole budget."""
    if row.queue_full:
        raise TooMany(
            f"{row.most_queued:,} of your requests wait already, the most on the plan '{row.plan}'. "
            "Send it again when some are done.",
            retry_after=retry_after,
        )
    Limits.of(row).require(estimate_usd)


def require_capacity(connection: Connection, row: Row[Any], count: int, *, retry_after: timedelta) -> None:
    """Raise TooMany where so many more are beyond what may wait."""
    waiting: int = run(connection, "queued_of_user", user_id=row.user_id, most=row.most_queued).scalar_one()
    if waiting + count > row.most_queued:
        raise TooMany(
            f"{waiting:,} of your requests wait already, and {count:,} more are beyond the {row.most_queued:,} that "
            f"may wait on the plan '{row.plan}'. Send it again when some are done, or in parts.",
            retry_after=retry_after,
        )
