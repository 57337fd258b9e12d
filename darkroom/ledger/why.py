"""What a job waits for, in one sentence: the answer of `GET /v1/jobs/{id}` and of `darkroom why`.

`waiting_for` is pure: the job's rows, how full the line is where one waits, and the time. `explain` fetches them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from sqlalchemy import Engine

from darkroom.ledger.batch_tables import Batch
from darkroom.ledger.batches import PAUSED_UNTIL, Counts
from darkroom.ledger.breaker import slots_now
from darkroom.ledger.budgets import Budget, Period, budgets_of
from darkroom.ledger.database import plain, run
from darkroom.ledger.event_tables import Wait
from darkroom.ledger.statuses import RequestStatus, WaitKind, WaitStatus
from darkroom.ledger.tables import Job, Request
from darkroom.timing import Timing

HELD_FOR = timedelta(minutes=3)


@dataclass(frozen=True, kw_only=True)
class Line:
    """What bounds a queued row: how full it is where it waits, its user's budget, whether the provider is there."""

    before: int  # rows that have their turn before it, over all users
    in_use: int
    slots: int  # of the account, at the moment
    all_slots: int  # … when it is not slowed down
    own_in_use: int
    plan_slots: int  # of its user
    accounts_own: bool = False  # that number is not the plan's, but what this account gives each user
    endpoint_in_use: int
    endpoint_cap: int | None
    budgets: Sequence[Budget] = ()  # of its user
    down_since: datetime | None = None
    down_reason: str | None = None
    probe_at: datetime | None = None
    batch_paused_at: datetime | None = None  # of the batch that it is a row of


def explain(engine: Engine, job: Job, requests: Sequence[Request], *, now: datetime, timing: Timing) -> str | None:
    if job.status.terminal:
        return None
    queued = next((row for row in requests if row.status is RequestStatus.QUEUED), None)
    if all(row.status.terminal for row in requests) and (waits := _open_waits(engine, job)):
        return " and ".join(durably(wait, now=now) for wait in waits)
    line = _line(engine, queued, job.parent_id, now=now, timing=timing) if queued else None
    return waiting_for(job, requests, line=line, now=now)


def durably(wait: Wait, *, now: datetime) -> str:
    """Say what a job waits for beside calls."""
    until = f"until {_utc(wait.until, '%Y-%m-%d %H:%M:%S')}" if wait.until else "for as long as it takes"
    match wait.kind:
        case WaitKind.SLEEP:
            return f"{until[6:]} (its step '{wait.name}' sleeps; {wait.id})"
        case WaitKind.CHILD:
            return f"the end of {wait.child_job_id}, which its step '{wait.name}' started"
        case _:
            which = f" with {wait.match}" if wait.match else ""
            return f"an event '{wait.event_name}'{which}, {until} (its step '{wait.name}'; {wait.id})"


def _open_waits(engine: Engine, job: Job) -> list[Wait]:
    with engine.begin() as connection:
        found = [plain(Wait, row) for row in run(connection, "waits_of_job", job_id=job.id)]
    return [wait for wait in found if wait.status == WaitStatus.OPEN]


def batch_waits_for(batch: Batch, passes: Sequence[Counts], *, now: datetime) -> str:
    """Say what a batch that is under way waits for."""
    last = passes[-1] if passes else None
    if last is not None and last.ended < last.total:
        rows = f"its {last.stage.value}s: {last.ended} of {last.total} have ended, {last.in_flight} are under way"
        return f"{rows}; it is {_paused(batch.job_id, batch.paused_at)}" if batch.paused_at else rows
    if batch.asked_at is not None and batch.winners is None:
        until = f", until {_utc(batch.answer_by, '%Y-%m-%d %H:%M')}" if batch.answer_by else ""
        return f"a person to choose the winners, since {_since(batch.asked_at, now)}{until}"
    return "its run to take the next step"


def waiting_for(job: Job, requests: Sequence[Request], *, line: Line | None, now: datetime) -> str | None:
    """Say what the job waits for; None for a job that has ended. `line` is needed if a row is queued."""
    if job.status.terminal:
        return None
    pending = [row for row in requests if not row.status.terminal]
    if not pending:
        return _run_to_go_on(job, requests, now=now)
    sentence = _row(pending[0], job, line=line, now=now) + _given_up(pending[0], requests)
    return sentence if len(pending) == 1 else f"{sentence}; and {len(pending) - 1} more"


def _given_up(row: Request, requests: Sequence[Request]) -> str:
    """Say that the step was sent before, and may be paid twice."""
    lost = any(
        each.step == row.step and each.status is RequestStatus.EXPIRED and each.cost_usd is each.billed_usd is None
        for each in requests
    )
    return " (a call before it was given up without an answer, and may be paid, too)" if lost else ""


def _held(job: Job, now: datetime) -> str:
    """Say why it could not yet."""
    # It is tried again every half minute or so: an older reason is none any more.
    return f": {job.held_reason}" if job.held_at is not None and now - job.held_at < HELD_FOR else ""


def _run_to_go_on(job: Job, requests: Sequence[Request], *, now: datetime) -> str:
    if any(row.status is RequestStatus.SUCCEEDED for row in requests):
        return f"its run to store the result{_held(job, now)}"
    if job.cancel_requested_at is not None:
        return "its run to end it: it is cancelled"
    return "its run to take the next step" if requests else "its run to begin"


def _row(row: Request, job: Job, *, line: Line | None, now: datetime) -> str:
    match row.status:
        case RequestStatus.QUEUED:
            return _queued(row, job, line, now=now)
        case RequestStatus.GRANTED if job.run_id is None:
            return "a run: it has its slot"
        case RequestStatus.GRANTED:
            return "its run to submit: it has its slot"
        case RequestStatus.UNKNOWN:
            lost = f"the submit's answer was lost {_since(row.submitted_at, now)} ago"
            return f"a sign of {row.endpoint} at {row.account_id}: {lost}{_cancel(row)}"
        case _:
            submitted = f"submitted {_since(row.submitted_at, now)} ago"
            return f"{row.endpoint} at {row.account_id}: {submitted}{_cancel(row)}"


def _cancel(row: Request) -> str:
    return ", cancel asked for" if row.cancel_requested_at is not None else ""


def _queued(row: Request, job: Job, line: Line | None, *, now: datetime) -> str:
    # The first that holds it: while that does, what comes after it does not matter.
    paused_at = None if line is None else line.batch_paused_at
    if job.parent_id is not None and (paused_at is not None or row.not_before == PAUSED_UNTIL):
        return f"its batch, which is {_paused(job.parent_id, paused_at)}"
    if line is not None and line.down_since is not None:
        why = f" ({line.down_reason})" if line.down_reason else ""
        since, probe = _utc(line.down_since, "%H:%M"), _next_probe(line.probe_at, now=now)
        return f"{row.account_id} is down since {since}{why}, {probe}"
    if row.not_before is not None and row.not_before > now:
        return f"a retry at {_utc(row.not_before, '%H:%M:%S')}"
    if line is None:
        return "slot"
    if spent := [each for each in line.budgets if not each.has_room(row.estimate_usd)]:
        return _over(spent[-1], row.estimate_usd)  # the one that lasts longest
    return f"slot: {_full(row, line)}, place {line.before + 1}"


def _paused(batch_id: str, since: datetime | None) -> str:
    """Say that a batch is paused, and what lets it go on."""
    from_when = f" since {_utc(since, '%H:%M')}" if since else ""
    return f"paused{from_when}, until POST /v1/batches/{batch_id}/resume, or Resume in the Studio"


def _over(budget: Budget, usd: Decimal) -> str:
    used, whose = budget.spent_usd + budget.reserved_usd, "the user's own" if budget.is_own else "the plan's"
    begins = "" if budget.period is Period.DAY else f" on {budget.resets_at:%Y-%m-%d}"
    return (
        f"budget: {_usd(used)} of {whose} {_usd(budget.budget_usd or Decimal(0))} a {budget.period} are spent or "
        f"reserved and it takes {_usd(usd)}; the next {budget.period} begins{begins} at 00:00 UTC"
    )


def _next_probe(probe_at: datetime | None, *, now: datetime) -> str:
    seconds = math.ceil((probe_at - now).total_seconds()) if probe_at else 0
    return f"next probe in {seconds} s" if seconds > 0 else "a probe is due"


def _full(row: Request, line: Line) -> str:
    """Say how full the narrowest of the limits is that are reached; the account's while none is."""
    if line.own_in_use >= line.plan_slots:
        whose = (
            f"a user's {line.plan_slots} at {row.account_id}" if line.accounts_own else f"the plan's {line.plan_slots}"
        )
        return f"{line.own_in_use} of {whose} in use"
    if line.endpoint_cap is not None and line.endpoint_in_use >= line.endpoint_cap:
        return f"{line.endpoint_in_use} of {line.endpoint_cap} for {row.endpoint} in use"
    slowed = f" (of {line.all_slots}, fewer for a while after a 429)" if line.slots < line.all_slots else ""
    return f"{line.in_use} of {line.slots} in use{slowed}"


def _utc(at: datetime, form: str) -> str:
    # Postgres tells times in the zone of the connection, which its own settings or PGTZ say.
    return f"{at.astimezone(UTC):{form}} UTC"


def _usd(amount: Decimal) -> str:
    """Write the amount in cents, and no less than what is needed to tell small sums apart."""
    return f"${amount:.2f}" if amount == amount.quantize(Decimal("0.01")) else f"${amount.normalize():f}"


def _since(then: datetime | None, now: datetime) -> str:
    seconds = max(int(((now - then) if then else timedelta()).total_seconds()), 0)
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


def _line(engine: Engine, row: Request, batch_id: str | None, *, now: datetime, timing: Timing) -> Line:
    place = {"account_id": row.account_id, "user_id": row.user_id}
    with engine.begin() as connection:
        before = run(
            connection, "place_in_line", **place, lane=int(row.lane), created_at=row.created_at, ref=row.ref
        ).scalar()
        found = run(connection, "line", **place, endpoint=row.endpoint).one()
        budgets = budgets_of(connection, row.user_id, now=now)
        paused_at = run(connection, "batch_paused_at", job_id=batch_id).scalar() if batch_id is not None else None
    values = dict(found._mapping)
    throttle = {name: values.pop(name) for name in ("halvings", "slowed_at")}
    # A row that was granted in between stands nowhere.
    slots = slots_now(found.all_slots, **throttle, now=now, timing=timing)
    return Line(before=before or 0, slots=slots, budgets=budgets, batch_paused_at=paused_at, **values)
