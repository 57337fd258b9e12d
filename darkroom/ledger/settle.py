"""How a request ends: by webhook, poll or cancel. The first ending wins, the rest are recorded duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection

from darkroom.ledger.database import run
from darkroom.ledger.effects import NOTHING, Implied
from darkroom.ledger.locks import notify
from darkroom.ledger.request_rows import set_columns, write
from darkroom.ledger.statuses import RequestStatus, Transition, next_status
from darkroom.ledger.tables import Request, Run


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a request ended at the provider. A success without output is one whose result has yet to be fetched."""

    transition: Transition
    output: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    cost_usd: Decimal | None = None


class Verdict(StrEnum):
    SETTLED = "settled"  # this ended the request
    DUPLICATE = "duplicate"  # it had ended already
    LATE = "late"  # a success after it was given up or cancelled: kept and costed


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A verified webhook. `request_id`: the provider's."""

    provider: str = "fal"
    request_id: str
    body_sha256: str


def settle(
    connection: Connection,
    locked: Run | None,
    row: Request,
    outcome: Outcome,
    *,
    via: str | None,
    arrival: Arrival | None,
    now: datetime,
) -> tuple[Verdict, Implied]:
    verdict = _verdict(row, outcome, arrival)
    if arrival is not None:
        _record(connection, row, arrival, verdict, outcome.cost_usd, now=now)
    if verdict is Verdict.DUPLICATE:
        return verdict, NOTHING
    result: dict[str, Any] = {"output": outcome.output, "cost_usd": outcome.cost_usd}
    if arrival is not None and row.request_id is None:
        result |= {"request_id": arrival.request_id, "accepted_at": now}
    if verdict is Verdict.LATE:
        set_columns(connection, row.ref, result)
        return verdict, NOTHING
    ending = {"error": outcome.error, "delivered_via": via, "finished_at": now}
    write(connection, row, outcome.transition, **result, **ending)
    if _nobody_waits(connection, locked, row):
        return verdict, Implied(grant=True)
    return verdict, notify(connection, locked, row.ref, _event(outcome), now=now) + Implied(grant=True)


def _nobody_waits(connection: Connection, locked: Run | None, row: Request) -> bool:
    """Return whether the run need not be woken: it is suspended, and the row is what is left of a job that is over.

    A run that has a process is only notified.
    """
    if locked is None or locked.suspended_at is None:
        return False
    return run(connection, "job_is_over", job_id=row.job_id).scalar_one() is not None


def _verdict(row: Request, outcome: Outcome, arrival: Arrival | None) -> Verdict:
    if arrival is not None and row.request_id not in (None, arrival.request_id):
        return Verdict.DUPLICATE  # a second job at the provider for one row: paid, and on record
    if next_status(row.status, outcome.transition) is not None:
        return Verdict.SETTLED
    given_up = row.status in (RequestStatus.EXPIRED, RequestStatus.CANCELLED)
    if given_up and outcome.transition is Transition.SUCCEED and row.output is None:
        return Verdict.LATE
    return Verdict.DUPLICATE


def _record(
    connection: Connection, row: Request, arrival: Arrival, verdict: Verdict, cost: Decimal | None, *, now: datetime
) -> None:
    """Record the webhook. A duplicate that came before, byte for byte, is counted there.

    A duplicate costs something only if it is another job at the provider than the one on record.
    """
    another = row.request_id not in (None, arrival.request_id)
    found = {
        "provider": arrival.provider,
        "request_id": arrival.request_id,
        "ref": row.ref,
        "body_sha256": arrival.body_sha256,
        "verdict": verdict.value,
    }
    if verdict is Verdict.SETTLED or not run(connection, "delivery_again", **found, now=now).rowcount:
        paid = cost if another else None
        run(connection, "delivery_insert", **found, cost_usd=paid, now=now)


def _event(outcome: Outcome) -> str:
    return "fal.job.completed" if outcome.transition is Transition.SUCCEED else "fal.job.failed"
