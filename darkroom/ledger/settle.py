"""How a request ends: by webhook, poll or cancel. The first ending wins, the rest are recorded duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import Engine

from darkroom.ledger.canonical_json import dumps
from darkroom.ledger.database import run_alone
from darkroom.ledger.effects import GRANT, NOTHING, Implied, WakeRun
from darkroom.ledger.statuses import RequestStatus, Transition, next_status, statuses_before


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
    """A verified webhook. `request_id`: the provider's. `last_try`: its id of the try that this tells of, if any."""

    provider: str = "fal"
    request_id: str
    body_sha256: str
    last_try: str | None = None


def settle(
    engine: Engine,
    ref: str,
    outcome: Outcome,
    *,
    via: str | None,
    arrival: Arrival | None,
    now: datetime,
    before: Sequence[RequestStatus] = (),
) -> tuple[Verdict, Implied]:
    """End the request by `settle_request`, a function in the database: the run's row first, then the request's.

    `before`: only where it is in one of these statuses; else in all that the transition may end.
    """
    came = run_alone(
        engine,
        "request_settle",
        ref=ref,
        before=list(before) or statuses_before(outcome.transition),
        status=next_status(RequestStatus.IN_FLIGHT, outcome.transition),
        output=None if outcome.output is None else dumps(outcome.output),
        error=None if outcome.error is None else dumps(outcome.error),
        cost_usd=outcome.cost_usd,
        via=via,
        provider=arrival and arrival.provider,
        request_id=arrival and arrival.request_id,
        body_sha256=arrival and arrival.body_sha256,
        now=now,
        last_try=arrival and arrival.last_try,
    ).one()
    verdict = Verdict(came.verdict)
    if verdict is not Verdict.SETTLED:
        return verdict, NOTHING
    if came.wakes is None:
        return verdict, (GRANT,)
    wake = WakeRun(flow_run_id=came.wakes, ref=ref, event=_event(outcome), awaits_input=came.asks)
    return verdict, (wake, GRANT)


def _event(outcome: Outcome) -> str:
    return "fal.job.completed" if outcome.transition is Transition.SUCCEED else "fal.job.failed"
