"""Dead letters: every failed job, with what it has cost, what of it serves again, and what another try would cost.

A letter is nothing of its own: it is a job that failed, and its paid calls. What a replay of it would do is asked of
the function that plans every replay, so a price is what would be queued. A row of a batch is a letter like any other;
of a batch that failed as a whole the rows that go back with it are counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Engine, Row

from darkroom.clock import Clock
from darkroom.errors import BadInput, WrongState
from darkroom.ledger.batches import BATCH
from darkroom.ledger.canonical_json import content_hash
from darkroom.ledger.database import plain, run, run_given
from darkroom.ledger.effects import NOTHING, Implied
from darkroom.ledger.jobs import Jobs
from darkroom.ledger.part import Part
from darkroom.ledger.replay import Replay, plan_replay
from darkroom.ledger.request_rows import as_request
from darkroom.ledger.statuses import JobStatus, RequestStatus
from darkroom.ledger.tables import Job, Request, new_id

MOST_LETTERS = 1000  # that are requeued or discarded at once
MOST_REASON = 500  # characters

NO_COST = Decimal(0)
NO_LETTER = "There is no failed job of this id."


@dataclass(frozen=True, kw_only=True)
class DeadLetterFilter:
    """Which failed jobs; all that is given must hold.

    `endpoint`: of the call that failed. `since`, `until`: when the job failed. `discarded` of None: whether or not.
    """

    job_ids: tuple[str, ...] | None = None
    user_id: str | None = None
    kind: str | None = None
    error_class: str | None = None
    code: str | None = None
    endpoint: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    discarded: bool | None = False


@dataclass(frozen=True, kw_only=True)
class Reusable:
    """A paid call whose result serves again."""

    step: str
    endpoint: str
    ref: str
    cost_usd: Decimal | None


@dataclass(frozen=True, kw_only=True)
class Again:
    """A paid call that a replay would queue."""

    step: str
    endpoint: str
    estimate_usd: Decimal


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """A failed job, with what it has cost and what another try would cost.

    `paid_usd`: duplicates at the provider included. `replay_usd`: of the steps that the job reached; it may reach more.
    `rows`: of a failed batch, that go back with it; what they cost is in its sums. `why_not`: why it cannot be replayed
    just now.
    """

    job_id: str
    parent_id: str | None
    kind: str
    user_id: str
    failed_at: datetime
    error_class: str | None
    code: str | None
    step: str | None
    ref: str | None
    endpoint: str | None
    message: str
    paid_usd: Decimal
    reusable: tuple[Reusable, ...]
    replay: tuple[Again, ...]
    replay_usd: Decimal
    rows: int
    why_not: str | None
    discarded_at: datetime | None
    discard_reason: str | None

    @property
    def replayable(self) -> bool:
        return self.why_not is None


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a replay would cost.

    `matching`: letters in all; `job_ids`: as many of them as go at once, in their order; `refused`: why those of them
    that cannot be replayed just now, or that are named and no letters, are not, by job.
    """

    matching: int
    job_ids: tuple[str, ...]
    replayable: int
    replay_usd: Decimal
    refused: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Done:
    """The outcome of a replay or of a discard of letters.

    `job_ids` were requeued, or discarded; `refused`: why others were not; `remaining`: how many more match.
    """

    job_ids: tuple[str, ...]
    refused: Mapping[str, str]
    remaining: int = 0
    implied: Implied = NOTHING


class DeadLetters(Part):
    def __init__(self, engine: Engine, jobs: Jobs, *, clock: Clock) -> None:
        super().__init__(engine, clock=clock)
        self._jobs = jobs

    def job_ids(self, which: DeadLetterFilter, *, limit: int = MOST_LETTERS) -> list[str]:
        """Return the jobs in the order in which they are requeued.

        That is oldest failure first, batches before their rows.
        """
        return [row.id for row in self._find(which, limit=limit)]

    def page(
        self, which: DeadLetterFilter, *, limit: int, before: tuple[datetime, str] | None = None
    ) -> list[DeadLetter]:
        """Return a page of letters, newest failure first, in four statements.

        `before` is the time and id of the last one of the page before.
        """
        before_at, before_id = before or (None, None)
        with self._engine.begin() as connection:
            cursor = {"before_at": before_at, "before_id": before_id}
            run(connection, "plan_anew")  # which index serves hangs on what is asked for
            jobs = run_given(connection, "dead_page", **_wanted(which), **cursor, limit=limit).all()
            plans = _plans(connection, jobs)
            ids = [job.id for job in jobs]
            paid = {row.job_id: row.usd for row in run(connection, "dead_paid", job_ids=ids)}
        return [_letter(job, plans[job.id], paid.get(job.id, NO_COST)) for job in jobs]

    def price(self, which: DeadLetterFilter) -> Price:
        """Price a replay of as many as are requeued at once."""
        jobs = self._find(which, limit=MOST_LETTERS)
        with self._engine.begin() as connection:
            plans = _plans(connection, jobs)
        # By job, so that a row which goes back with its batch is counted once.
        again = {part: usd for plan in plans.values() for part, usd in plan.parts.items()}
        refused = {job_id: plan.why_not for job_id, plan in plans.items() if plan.why_not is not None}
        return Price(
            matching=len(jobs) + self._beyond(which, jobs),
            job_ids=tuple(job.id for job in jobs),
            replayable=len(jobs) - len(refused),
            replay_usd=sum(again.values(), NO_COST),
            refused=refused | _no_letters(which, jobs),
        )

    def discard(self, which: DeadLetterFilter, *, reason: str) -> Done:
        """Put letters away: nothing more is done about them, until somebody replays one by its id.

        Raises `BadInput` for the reason.
        """
        if not 0 < len(reason.strip()) <= MOST_REASON:
            raise BadInput(f"Say why, in 1 to {MOST_REASON} characters.", field="reason")
        jobs = self._find(which, limit=MOST_LETTERS)
        remaining = self._beyond(which, jobs)
        ids = [job.id for job in jobs]
        # Those alone that are letters still: another may have been replayed meanwhile.
        gone = set(self._run("dead_discard", job_ids=ids, reason=reason, now=self._now()).scalars())
        return Done(
            job_ids=tuple(job.id for job in jobs if job.id in gone),
            refused={job.id: NO_LETTER for job in jobs if job.id not in gone} | _no_letters(which, jobs),
            remaining=remaining,
        )

    def replay(self, which: DeadLetterFilter, *, budget_usd: Decimal, key: str | None = None) -> Done:
        """Requeue letters one by one, oldest failure first, each that fits in what is left of the budget, in USD.

        Together they pay no more than that, also with the steps that they reach later: a call beyond it fails its job,
        which is a letter again. Each is requeued in its own transaction; where this ends between, the others are
        as they were. Sent again with the same `key`, it goes on under the same budget; raises `BadInput` for another
        one.
        """
        jobs, replay_id = self._find(which, limit=MOST_LETTERS), self._open_replay(budget_usd, key)
        remaining = self._beyond(which, jobs)
        parts = self._parts(jobs)
        prices = {job_id: sum(part.values(), NO_COST) for job_id, part in parts.items()}
        refused = dict(_no_letters(which, jobs))
        implied, beyond = NOTHING, _Beyond()
        with_batch: set[str] = set()  # rows; one of them may have failed again by the time it is come to
        for job in jobs:
            if job.id in with_batch:
                continue
            # Not even tried: of a thousand letters under a small budget nearly all are such.
            if prices[job.id] >= beyond.price:
                refused[job.id] = beyond.message
                continue
            try:
                meant = which.discarded is not False  # else one that was discarded since they were found is not
                implied += self._jobs.replay(job.id, replay_id=replay_id, discarded_too=meant)
                with_batch |= parts[job.id].keys() - {job.id}
            except BadInput as refusal:
                refused[job.id] = refusal.message
                beyond = _Beyond(price=prices[job.id], message=refusal.message)
            except WrongState as refusal:
                refused[job.id] = refusal.message
        went = [job_id for job_id in refused if self._went(job_id, replay_id)]
        put_back = [job.id for job in jobs if job.id not in refused]
        return Done(
            job_ids=(*put_back, *went),
            refused={job_id: why for job_id, why in refused.items() if job_id not in went},
            remaining=remaining,
            implied=implied,
        )

    def _find(self, which: DeadLetterFilter, *, limit: int) -> Sequence[Row[Any]]:
        with self._engine.begin() as connection:
            run(connection, "plan_anew")
            return run_given(connection, "dead_ids", **_wanted(which), limit=limit).all()

    def _beyond(self, which: DeadLetterFilter, jobs: Sequence[Row[Any]]) -> int:
        """Return how many letters match beside those that go at once. Where these are not the most, none do."""
        if len(jobs) < MOST_LETTERS:
            return 0
        with self._engine.begin() as connection:
            run(connection, "plan_anew")
            return max(0, int(run_given(connection, "dead_count", **_wanted(which)).scalar_one()) - len(jobs))

    def _parts(self, jobs: Sequence[Row[Any]]) -> dict[str, Mapping[str, Decimal]]:
        """Return what each would cost, in USD by job: of a batch, of each row that goes back with it."""
        with self._engine.begin() as connection:
            return {job_id: plan.parts for job_id, plan in _plans(connection, jobs).items()}

    def _open_replay(self, budget_usd: Decimal, key: str | None) -> str:
        # The same key is the same replay.
        replay_id = new_id("rpl_") if key is None else f"rpl_{content_hash('replay', {'key': key})}"
        with self._engine.begin() as connection:
            run(connection, "replay_insert", id=replay_id, budget_usd=budget_usd, now=self._now())
            # What stands is compared: nothing is inserted where it is there.
            if run(connection, "replay_lock", replay_id=replay_id).scalar_one() != budget_usd:
                raise BadInput(
                    "This Idempotency-Key came with another budget before. Use a new key for a new replay.",
                    field="Idempotency-Key",
                    code="idempotency_conflict",
                )
        return replay_id

    def _went(self, job_id: str, replay_id: str) -> bool:
        """Return whether this replay requeued the job before: with its batch, or when it was sent first."""
        job = self._jobs.get(job_id)
        return job is not None and job.replay_id == replay_id and job.status is not JobStatus.FAILED


@dataclass(frozen=True, kw_only=True)
class _Beyond:
    """The price of the last letter that did not fit."""

    price: Decimal = Decimal("Infinity")
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What a replay of a letter would do. `parts`: USD by job, for a batch each of its rows."""

    reusable: tuple[Reusable, ...] = ()
    again: tuple[Again, ...] = ()
    parts: Mapping[str, Decimal]
    rows: int = 0
    why_not: str | None = None


def _wanted(which: DeadLetterFilter) -> dict[str, Any]:
    """Return the filter as the statements take it: what is None is not asked for."""
    return vars(which) | {
        "job_ids": None if which.job_ids is None else list(which.job_ids),
        "kept": True if which.discarded is False else None,
        "discarded": which.discarded or None,
    }


def _no_letters(which: DeadLetterFilter, jobs: Sequence[Row[Any]]) -> dict[str, str]:
    """Return the refusal of each job that is named and was not found, by job."""
    known = {job.id for job in jobs}
    return {job_id: NO_LETTER for job_id in which.job_ids or () if job_id not in known}


def _plans(connection: Connection, jobs: Sequence[Row[Any]]) -> dict[str, _Plan]:
    """Plan a replay of each job; all of them in two statements."""
    batches = [job.id for job in jobs if job.kind == BATCH]
    rows = run(connection, "dead_rows", job_ids=batches).all() if batches else ()
    ids = [job.id for job in (*jobs, *rows)]
    calls: dict[str, list[Request]] = {job_id: [] for job_id in ids}
    for call in run(connection, "dead_calls", job_ids=ids):
        calls[call.job_id].append(as_request(call))
    of_batch: dict[str, list[Row[Any]]] = {job_id: [] for job_id in batches}
    for row in rows:
        of_batch[row.parent_id].append(row)
    return {
        job.id: _plan_batch(of_batch[job.id], calls) if job.kind == BATCH else _plan(job, calls[job.id]) for job in jobs
    }


def _plan(job: Row[Any], calls: Sequence[Request]) -> _Plan:
    served = tuple(_reusable(call) for call in calls if call.status is RequestStatus.SUCCEEDED)
    try:
        replay = plan_replay(plain(Job, job, status=JobStatus(job.status)), calls)
    except WrongState as refusal:
        return _Plan(reusable=served, parts={}, why_not=refusal.message)
    again = tuple(
        Again(step=each.step, endpoint=each.endpoint, estimate_usd=each.estimate_usd) for each in replay.again
    )
    return _Plan(reusable=served + _late(replay), again=again, parts={job.id: _sum(again)})


def _plan_batch(rows: Sequence[Row[Any]], calls: Mapping[str, Sequence[Request]]) -> _Plan:
    plans = [_plan(row, calls[row.id]) for row in rows]
    why_not = next((plan.why_not for plan in plans if plan.why_not is not None), None)
    return _Plan(
        parts={} if why_not else {job_id: usd for plan in plans for job_id, usd in plan.parts.items()},
        rows=len(rows),
        why_not=why_not,
    )


def _late(replay: Replay) -> tuple[Reusable, ...]:
    return tuple(map(_reusable, replay.late))


def _reusable(call: Request) -> Reusable:
    return Reusable(step=call.step, endpoint=call.endpoint, ref=call.ref, cost_usd=call.cost_usd)


def _sum(again: Sequence[Again]) -> Decimal:
    return sum((each.estimate_usd for each in again), NO_COST)


def _letter(job: Row[Any], plan: _Plan, paid: Decimal) -> DeadLetter:
    error = job.error or {}
    return DeadLetter(
        job_id=job.id,
        parent_id=job.parent_id,
        kind=job.kind,
        user_id=job.user_id,
        failed_at=job.finished_at,
        error_class=error.get("class"),
        code=error.get("code"),
        step=error.get("step"),
        ref=error.get("ref"),
        endpoint=job.endpoint,
        message=str(error.get("message") or ""),
        paid_usd=paid,
        reusable=plan.reusable,
        replay=plan.again,
        replay_usd=sum(plan.parts.values(), NO_COST),
        rows=plan.rows,
        why_not=plan.why_not,
        discarded_at=job.discarded_at,
        discard_reason=job.discard_reason,
    )
