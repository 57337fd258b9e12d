"""What was spent, by model, user, tag or day: three figures for each call, and what was saved and paid twice.

The estimate is from before a call, the cost from its end, the bill from the provider, later. The price is the cost with
the mark-up of the plan by which it was ordered. `spent` is the best that is known: the bill, else the cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from darkroom.ledger.database import run
from darkroom.ledger.part import Part

GROUPS = ("model", "user", "tag", "day")
ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Of one model, user, tag or day (UTC), in USD. `key` is None for jobs without a tag.

    `unbilled_calls`: those that cost something and have no bill yet.
    """

    key: str | None = None
    name: str | None = None  # of a user
    calls: int = 0
    estimate_usd: Decimal = Decimal(0)
    cost_usd: Decimal = Decimal(0)
    price_usd: Decimal = Decimal(0)
    billed_usd: Decimal = Decimal(0)
    unbilled_calls: int = 0
    saved_usd: Decimal = Decimal(0)
    drafts_saved_usd: Decimal = Decimal(0)  # an estimate: what finals of all rows would have cost, less what was spent
    duplicates_usd: Decimal = Decimal(0)
    spent_usd: Decimal = Decimal(0)
    perhaps_paid_usd: Decimal = Decimal(0)  # by estimates, nobody knows yet; not in spent


@dataclass(frozen=True, kw_only=True)
class Usage:
    begin: datetime
    end: datetime
    total: Sums
    items: Sequence[Sums]


class Spending(Part):
    def between(self, begin: datetime, end: datetime, *, group_by: str, user_id: str | None = None) -> Usage:
        """Return what calls came to that ended from `begin` to before `end`; both read as of one moment.

        `user_id`: only this user's and, of a service, its end users'. None: everybody's.
        """
        span: dict[str, Any] = {"begin": begin, "end": end, "user_id": user_id}
        with self._engine.begin() as connection:
            # Else a call that ends between the two would be in one of them alone.
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            items = [Sums(**row._mapping) for row in run(connection, "spending", **span, group_by=group_by)]
            total = [Sums(**row._mapping) for row in run(connection, "spending", **span, group_by=ALL)]
        return Usage(begin=begin, end=end, total=total[0] if total else Sums(), items=items)
