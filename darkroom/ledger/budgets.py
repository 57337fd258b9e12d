"""What users may spend, by the day and by the month (UTC): what is spent of it, what is reserved, what is left.

A budget is the user's own, else the plan's. It is reserved in the grant (`grantable`), before anything is paid: a call
that holds a slot counts with its estimate, one that has ended with its bill, and until that comes with its cost. One
that is paid, or may be, and whose cost nobody has said yet (`perhaps_paid`) counts with its estimate until then.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Self

from sqlalchemy import Connection, Row

from darkroom.clock import first_of_month, midnight, next_midnight, next_month
from darkroom.errors import BadInput
from darkroom.ledger.database import run
from darkroom.ledger.part import Part

ZERO = Decimal(0)


class Period(StrEnum):
    """How long a budget lasts."""

    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Of one user and one period. `budget_usd`: None is without a bound. `is_own`: not the plan's, but the user's."""

    period: Period
    budget_usd: Decimal | None
    is_own: bool
    spent_usd: Decimal
    reserved_usd: Decimal  # for calls that are under way
    resets_at: datetime

    @property
    def left_usd(self) -> Decimal | None:
        """Return what may be spent yet; None: as much as one likes."""
        return None if self.budget_usd is None else max(self.budget_usd - self.spent_usd - self.reserved_usd, ZERO)

    def has_room(self, usd: Decimal) -> bool:
        """Return whether a call that may cost so much would be granted."""
        return self.left_usd is None or usd <= self.left_usd


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a user may spend, without what is spent of it. None is without a bound."""

    daily_usd: Decimal | None
    monthly_usd: Decimal | None
    daily_is_own: bool
    monthly_is_own: bool
    plan: str

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        """Return the limits that a row tells in columns of the same names."""
        return cls(**{name: getattr(row, name) for name in cls.__dataclass_fields__})

    def require(self, usd: Decimal) -> None:
        """Raise BadInput for an order that would wait for ever: a whole day or month would not do."""
        for period, most, is_own in (
            (Period.DAY, self.daily_usd, self.daily_is_own),
            (Period.MONTH, self.monthly_usd, self.monthly_is_own),
        ):
            if most is not None and usd > most:
                whose = "you have" if is_own else f"the plan '{self.plan}' has"
                raise BadInput(
                    f"It would cost about {usd.normalize():f} USD, and {whose} a budget of {most.normalize():f} USD a "
                    f"{period}. Ask for less at once, or the operator for {'more' if is_own else 'another plan'}.",
                    code="over_budget",
                )


def since(now: datetime) -> dict[str, datetime]:
    """Return the beginnings of the day and the month, as statements take them."""
    return {"midnight": midnight(now), "month": first_of_month(now)}


def budgets_of(connection: Connection, user_id: str, *, now: datetime, unbound: bool = False) -> tuple[Budget, Budget]:
    """Return the user's budgets of the day and of the month. `unbound`: also what an unbound month has come to."""
    row = run(connection, "budgets", user_id=user_id, unbound=unbound, **since(now)).one()
    limits = Limits.of(row)
    day = Budget(
        period=Period.DAY,
        budget_usd=limits.daily_usd,
        is_own=limits.daily_is_own,
        spent_usd=row.today_usd,
        reserved_usd=row.reserved_usd,
        resets_at=next_midnight(now),
    )
    month = Budget(
        period=Period.MONTH,
        budget_usd=limits.monthly_usd,
        is_own=limits.monthly_is_own,
        spent_usd=row.month_usd,
        reserved_usd=row.reserved_usd,
        resets_at=next_month(now),
    )
    return day, month


class Budgets(Part):
    def of(self, user_id: str) -> tuple[Budget, Budget]:
        """Return the user's budgets of the day and of the month, as they are now."""
        with self._engine.begin() as connection:
            return budgets_of(connection, user_id, now=self._now(), unbound=True)

    def publish(self) -> None:
        """Tell users whose work waits for another day or month, once in each."""
        now = self._now()
        self._run(
            "news_budgets",
            now=now,
            **since(now),
            next_midnight=next_midnight(now),
            next_month=next_month(now),
        )
