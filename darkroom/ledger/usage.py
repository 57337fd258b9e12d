"""What a stretch of time came to, as the ledger has it: jobs, failures, money, latency, slots.

A call belongs to the time in which it ended, a job to that in which it ended; what was paid twice to that in which its
webhook came. Read for a report once a day, so the statements may read whole days of rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from darkroom.ledger.database import run
from darkroom.ledger.part import Part
from darkroom.ledger.statuses import JobStatus


@dataclass(frozen=True, kw_only=True)
class Failures:
    """Jobs that failed for one reason. `kind`: what a caller does next (`darkroom/errors.py`); `code`: the cause.

    `discarded`: those of them that somebody has put away since; `latest`: the id of one.
    """

    kind: str
    code: str
    jobs: int
    discarded: int
    latest: str


@dataclass(frozen=True, kw_only=True)
class Spent:
    """By one user on one model, USD. `cost_usd` by the bill where there is one; `price_usd`: the cost, marked up."""

    user: str
    endpoint: str
    calls: int
    cost_usd: Decimal
    price_usd: Decimal = Decimal(0)
    marked_up: bool = False


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Seconds from submit to outcome of calls that succeeded, by model."""

    endpoint: str
    calls: int
    median_seconds: float
    p95_seconds: float


@dataclass(frozen=True, kw_only=True)
class SlotUse:
    """Of one account: the share of its slots that calls held, from grant to outcome, and the most at once."""

    account: str
    slots: int
    most: int
    held_seconds: float
    share: float


@dataclass(frozen=True, kw_only=True)
class PeriodUsage:
    begin: datetime
    end: datetime
    ordered: int
    jobs: Mapping[tuple[str, JobStatus], int]  # (kind, status) → jobs that ended so
    hours: Sequence[tuple[datetime, int, int]]  # beginning of each hour, completed, failed
    failures: Sequence[Failures]
    spent: Sequence[Spent]
    duplicates: int
    duplicates_usd: Decimal
    perhaps_paid: int  # calls of which nobody knows yet what they cost, or whether they cost anything
    perhaps_paid_usd: Decimal  # … by their estimates, which are in no other sum
    reused: int
    saved_usd: Decimal
    latency: Sequence[Latency]
    slots: Sequence[SlotUse]

    def ended(self, status: JobStatus) -> int:
        return sum(n for (_, each), n in self.jobs.items() if each is status)

    @property
    def spent_usd(self) -> Decimal:
        return sum((each.cost_usd for each in self.spent), Decimal(0)) + self.duplicates_usd

    @property
    def price_usd(self) -> Decimal | None:
        """Return what it is sold on for; None where no plan has a mark-up."""
        prices = sum((each.price_usd for each in self.spent), Decimal(0))
        return prices if any(each.marked_up for each in self.spent) else None


class UsageReports(Part):
    def between(self, begin: datetime, end: datetime) -> PeriodUsage:
        """Return the usage from `begin` to before `end`, both with a time zone; all read as of one moment."""
        span = {"begin": begin, "end": end}
        with self._engine.begin() as connection:
            # Else what ends between two of the statements would be in one of them alone.
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")

            def rows(name: str) -> list[Mapping[str, Any]]:
                return [dict(row._mapping) for row in run(connection, name, **span)]

            jobs = {(row["kind"], JobStatus(row["status"])): row["n"] for row in rows("figures_jobs")}
            (ordered,) = rows("figures_ordered")
            (again,) = rows("figures_duplicates")
            (unseen,) = rows("figures_perhaps_paid")
            (reused,) = rows("figures_reused")
            seconds = (end - begin).total_seconds()
            return PeriodUsage(
                begin=begin,
                end=end,
                ordered=ordered["n"],
                jobs=jobs,
                hours=[(row["hour"], row["completed"], row["failed"]) for row in rows("figures_hours")],
                failures=[Failures(**row) for row in rows("figures_failures")],
                spent=[Spent(**row) for row in rows("figures_spent")],
                duplicates=again["n"],
                duplicates_usd=again["cost_usd"],
                perhaps_paid=unseen["n"],
                perhaps_paid_usd=unseen["estimate_usd"],
                reused=reused["n"],
                saved_usd=reused["cost_usd"],
                latency=[Latency(**row) for row in rows("figures_latency")],
                slots=[_use(row, seconds) for row in rows("figures_slots")],
            )


def _use(row: Mapping[str, Any], seconds: float) -> SlotUse:
    held = float(row["held_seconds"])
    share = held / (seconds * max(row["slots"], 1))
    return SlotUse(account=row["account"], slots=row["slots"], most=row["most"], held_seconds=held, share=share)
