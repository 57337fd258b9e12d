"""What a job waits for, in one sentence: the answer of `GET /v1/jobs/{id}` and of `darkroom why`.

`waiting_for` is pure: the job's rows, how full the line is where one of them waits, and the time. `look` fetches them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine

from blocks.clock import utc_now
from blocks.ledger.database import run
from blocks.ledger.states import RequestStatus
from blocks.ledger.tables import Job, Request


@dataclass(frozen=True, kw_only=True)
class Line:
    """How full it is where a queued row waits."""

    before: int  # queued rows that stand before it, over all users
    in_use: int
    slots: int  # of the account
    own_in_use: int
    plan_slots: int  # of its user
    endpoint_in_use: int
    endpoint_cap: int | None


def look(engine: Engine, job: Job, requests: Sequence[Request]) -> str | None:
    if job.status.terminal:
        return None
    queued = next((row for row in requests if row.status is RequestStatus.QUEUED), None)
    return waiting_for(job, requests, line=_line(engine, queued) if queued else None, now=utc_now())


def waiting_for(job: Job, requests: Sequence[Request], *, line: Line | None, now: datetime) -> str | None:
    """None for a job that has ended. `line` is needed if a row is queued."""
    if job.status.terminal:
        return None
    pending = [row for row in requests if not row.status.terminal]
    if not pending:
        return _run_to_go_on(job, requests)
    sentence = _row(pending[0], job, line=line, now=now)
    return sentence if len(pending) == 1 else f"{sentence}; and {len(pending) - 1} more"


def _run_to_go_on(job: Job, requests: Sequence[Request]) -> str:
    if job.cancel_requested_at is not None:
        return "its run to end it: it is cancelled"
    if any(row.status is RequestStatus.SUCCEEDED for row in requests):
        return "its run to store the result"
    return "its run to take the next step" if requests else "its run to begin"


def _row(row: Request, job: Job, *, line: Line | None, now: datetime) -> str:
    match row.status:
        case RequestStatus.QUEUED:
            return _queued(row, line, now=now)
        case RequestStatus.GRANTED if job.run_id is None:
            return "a run: it has its slot"
        case RequestStatus.GRANTED:
            return "its run to submit: it has its slot"
        case RequestStatus.UNKNOWN:
            return f"a sign of {row.endpoint} at fal: the submit's answer was lost {_since(row.submitted_at, now)} ago"
        case _:
            cancel = ", cancel asked for" if row.cancel_requested_at is not None else ""
            return f"{row.endpoint} at fal: submitted {_since(row.submitted_at, now)} ago{cancel}"


def _queued(row: Request, line: Line | None, *, now: datetime) -> str:
    if row.not_before is not None and row.not_before > now:
        return f"a retry at {row.not_before:%H:%M:%S} UTC"
    if line is None:
        return "slot"
    return f"slot: {_full(row, line)} in use, place {line.before + 1}"


def _full(row: Request, line: Line) -> str:
    """The narrowest of the limits that are reached; the account's while none is."""
    if line.own_in_use >= line.plan_slots:
        return f"{line.own_in_use} of the plan's {line.plan_slots}"
    if line.endpoint_cap is not None and line.endpoint_in_use >= line.endpoint_cap:
        return f"{line.endpoint_in_use} of {line.endpoint_cap} for {row.endpoint}"
    return f"{line.in_use} of {line.slots}"


def _since(then: datetime | None, now: datetime) -> str:
    seconds = max(int(((now - then) if then else timedelta()).total_seconds()), 0)
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


def _line(engine: Engine, row: Request) -> Line:
    with engine.begin() as connection:
        before = run(connection, "place_in_line", lane=int(row.lane), created_at=row.created_at).scalar_one()
        found = run(connection, "line", account_id=row.account_id, user_id=row.user_id, endpoint=row.endpoint).one()
        return Line(before=before, **found._mapping)
