"""How a request ends: by webhook, poll or cancel. The first ending wins, the rest are recorded duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import Engine, Row

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


@dataclass(frozen=True, kw_only=True)
class EndedCall:
    """A call that has ended at the provider, and the webhook that says so. `via`: how that was heard of."""

    ref: str
    outcome: Outcome
    via: str | None
    arrival: Arrival | None = None
    before: Sequence[RequestStatus] = ()  # only where it is in one of these; else in all that the transition may end


def settle(engine: Engine, call: EndedCall, *, now: datetime) -> tuple[Verdict, Implied]:
    """End the request by `settle_request`, a function in the database: the run's row first, then the request's."""
    given = _given(call)
    for name in ("output", "error"):
        given[name] = None if given[name] is None else dumps(given[name])
    return _came(call, run_alone(engine, "request_settle", **given, now=now).one())


def settle_several(engine: Engine, calls: Sequence[EndedCall], *, now: datetime) -> list[tuple[Verdict, Implied]]:
    """End several requests of one run in one transaction, as `settle` does, or none of them."""
    if len(calls) == 1:
        return [settle(engine, calls[0], now=now)]
    given = dumps([{"n": n, **_given(call)} for n, call in enumerate(calls)])
    came = {row.n: row for row in run_alone(engine, "requests_settle", calls=given, now=now)}
    return [_came(call, came[n]) for n, call in enumerate(calls)]


def _given(call: EndedCall) -> dict[str, Any]:
    outcome, arrival = call.outcome, call.arrival
    return {
        "ref": call.ref,
        "before": list(call.before) or statuses_before(outcome.transition),
        "status": next_status(RequestStatus.IN_FLIGHT, outcome.transition),
        "output": outcome.output,
        "error": outcome.error,
        "cost_usd": outcome.cost_usd,
        "via": call.via,
        "provider": arrival and arrival.provider,
        "request_id": arrival and arrival.request_id,
        "body_sha256": arrival and arrival.body_sha256,
        "last_try": arrival and arrival.last_try,
    }


def _came(call: EndedCall, came: Row[Any]) -> tuple[Verdict, Implied]:
    verdict = Verdict(came.verdict)
    if verdict is not Verdict.SETTLED:
        return verdict, NOTHING
    if came.wakes is None:
        return verdict, (GRANT,)
    wake = WakeRun(flow_run_id=came.wakes, ref=call.ref, event=_event(call.outcome), awaits_input=came.asks)
    return verdict, (wake, GRANT)


def _event(outcome: Outcome) -> str:
    return "fal.job.completed" if outcome.transition is Transition.SUCCEED else "fal.job.failed"
