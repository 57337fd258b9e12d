"""Batches: a manifest's rows, the jobs of each pass over them, and what a person chose between the passes.

The rows of a pass are jobs like any other, children of the batch's own job, written in bulk: ten thousand wait as rows
and cost nothing. They are handed to the batch's run as slots come to them (`runs.py`), so a look never reads them all.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
from sqlalchemy import Connection, Row

from darkroom.errors import BadInput, WrongState
from darkroom.ledger.batch_tables import Batch, BatchRow
from darkroom.ledger.canonical_json import content_hash, dumps
from darkroom.ledger.database import plain, run
from darkroom.ledger.effects import GRANT, NOTHING, Implied, grant_if
from darkroom.ledger.locks import lock_run_of_job, notify, require_under_way
from darkroom.ledger.part import Part
from darkroom.ledger.replay_budget import require_within_budget
from darkroom.ledger.request_rows import RequestSpec
from darkroom.ledger.statuses import BatchPass, JobStatus
from darkroom.ledger.tables import Job, new_id

# Until somebody lets it go on: nothing is granted before its time.
PAUSED_UNTIL = datetime.fromisoformat("9999-01-01T00:00:00+00:00")
BATCH = "render-batch"  # the kind of its job
ROW = "generate-image"  # … and of those of its rows that are pictures of a prompt
MINUTE_SECONDS = 60.0
PAGE = 500  # rows of the audit that are in memory at once, with inputs and results of several KB each
MOST_NAMED = 10  # rows in the message of a refused choice


@dataclass(frozen=True, kw_only=True)
class ManifestRow:
    """A row as it was given. `n`: from 0. `same_as`: an identical row, whose picture serves for this one."""

    n: int
    name: str | None
    picture: Mapping[str, Any]
    same_as: int | None = None


@dataclass(frozen=True, kw_only=True)
class Child:
    """The job of one row in one pass: its parameters, its first paid call, and the kind of job that it is."""

    n: int
    parameters: Mapping[str, Any]
    first: RequestSpec
    kind: str = ROW


@dataclass(frozen=True, kw_only=True)
class RowPicture:
    """What came of a row in a pass: the file that shows it best, none where its answer is text, or its error's code."""

    n: int
    name: str | None
    job_id: str
    status: JobStatus
    error_code: str | None
    asset_id: str | None
    key: str | None
    content_type: str | None
    bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many rows of a pass have come to what, and what they have cost so far, in USD."""

    stage: BatchPass
    statuses: Mapping[JobStatus, int]
    in_flight: int
    last_minute: int  # rows that ended within it
    calls: int  # so far
    cost_usd: Decimal
    seconds: float = MINUTE_SECONDS  # of the last minute in which there was something under way that ended in it

    @property
    def total(self) -> int:
        return sum(self.statuses.values())

    @property
    def seconds_left(self) -> float | None:
        """Return the time that the others will take at the pace of the last minute; None while nothing ends.

        A pass that is young, or was paused until lately, has not had that minute: then over what it has had of it.
        """
        others = self.total - self.ended
        return others * self.seconds / self.last_minute if others and self.last_minute else None

    @property
    def ended(self) -> int:
        return sum(n for status, n in self.statuses.items() if status.terminal)


class Batches(Part):
    def open(
        self, job: Job, rows: Sequence[ManifestRow], drafts: Sequence[Child], *, forecast: Mapping[str, str]
    ) -> Implied:
        """Put a manifest and its first pass on record; do nothing where that was done before.

        Raises `WrongState` for a batch that was cancelled or has ended.
        """
        with self._engine.begin() as connection:
            require_under_way(connection, job.id)  # locked: of two processes that come to it, the second finds it done
            if run(connection, "batch_get", job_id=job.id).first() is not None:
                return NOTHING
            open_batch(connection, job, rows, drafts, forecast=forecast, now=self._now())
            return (GRANT,)

    def add(self, job: Job, stage: BatchPass, children: Sequence[Child]) -> Implied:
        """Put another pass on record. Those rows that are on record for it already are left as they are.

        Raises as `open`.
        """
        with self._engine.begin() as connection:
            require_under_way(connection, job.id)  # locked: of two processes that come to it, the second finds it done
            present = set(run(connection, "children_rows", job_id=job.id, stage=stage).scalars())
            missing = [child for child in children if child.n not in present]
            insert_children(connection, job, stage, missing, now=self._now())
            return grant_if(bool(missing))

    def get(self, job_id: str) -> Batch | None:
        row = self._run("batch_get", job_id=job_id).one_or_none()
        return None if row is None else plain(Batch, row)

    def rows(self, job_id: str, *, of: Sequence[int] | None = None) -> list[BatchRow]:
        """Return the rows of the manifest, or these of them, in its order."""
        found = self._run("batch_rows", job_id=job_id, rows=None if of is None else list(of))
        return [plain(BatchRow, row) for row in found]

    def counts(self, job_id: str) -> list[Counts]:
        """Count rows and costs of each pass that has begun."""
        return _counts(self._run("children_counts", job_id=job_id, now=self._now()).all())

    def page(
        self,
        job_id: str,
        *,
        limit: int,
        after: tuple[BatchPass, int] | None = None,
        only: BatchPass | None = None,
        finished_since: datetime | None = None,
    ) -> list[Job]:
        """Return the jobs of its rows, a page of them: the first pass in the manifest's order, then the second.

        `only`: of that pass. `finished_since`: those that ended then or later.
        """
        stage, n = after or (BatchPass.DRAFT, -1)
        wanted = {"only": only, "finished_since": finished_since}
        rows = self._run("children_page", job_id=job_id, stage=stage, n=n, limit=limit, **wanted)
        return [plain(Job, row, status=JobStatus(row.status)) for row in rows]

    def pictures(self, job_id: str, stage: BatchPass) -> list[RowPicture]:
        """Return the outcome of each row in a pass, in the manifest's order."""
        rows = self._run("children_pictures", job_id=job_id, stage=stage)
        return [RowPicture(**{**row._mapping, "status": JobStatus(row.status)}) for row in rows]

    def audit(self, job_id: str) -> Iterator[Mapping[str, Any]]:
        """Yield every paid call of every row with all that is on record of it, read as it is asked for."""
        batch = self.get(job_id)
        for first in range(0, batch.rows if batch else 0, PAGE):
            found = self._run("children_audit", job_id=job_id, first=first, beyond=first + PAGE)
            yield from (dict(row._mapping) for row in found)

    def await_selection(self, job_id: str, *, patience: timedelta | None) -> Batch:
        """Note that the first pass is done: from now on a person may choose. The first time counts."""
        now = self._now()
        answer_by = None if patience is None else now + patience
        return plain(Batch, self._run("batch_await_selection", job_id=job_id, now=now, answer_by=answer_by).one())

    def time_is_over(self, batch: Batch) -> bool:
        return batch.answer_by is not None and batch.answer_by <= self._now()

    def choose(self, job_id: str, winners: Iterable[int], *, via: str) -> Implied:
        """Note which rows go into the second pass. The same choice again does nothing.

        Raises `WrongState` before a person was asked or after another choice, `BadInput` for rows without a draft.
        """
        now, chosen = self._now(), sorted(winners)
        with self._engine.begin() as connection:
            locked = lock_run_of_job(connection, job_id)
            batch = plain(Batch, run(connection, "batch_lock", job_id=job_id).one())
            if not _is_new_choice(batch, chosen):
                return NOTHING
            _require_drafts(
                chosen, set(run(connection, "children_succeeded", job_id=job_id).scalars()), rows=batch.rows
            )
            run(connection, "batch_choose", job_id=job_id, winners=dumps(chosen), via=via, now=now)
            return notify(connection, locked, job_id, "darkroom.run.woken", now=now)

    def pause(self, job_id: str) -> None:
        """Pause the batch: nothing more of it is granted, and what is under way reaches its end.

        Raises `WrongState` after its own.
        """
        with self._engine.begin() as connection:
            hold(connection, job_id, now=self._now())

    def go_on(self, job_id: str) -> Implied:
        """Let a paused batch go on. Raises `WrongState` after its end."""
        with self._engine.begin() as connection:
            let_go(connection, job_id)
            return (GRANT,)


def hold(connection: Connection, job_id: str, *, now: datetime) -> None:
    """Hold those of the batch's rows that wait for a slot.

    Those that wait for a retry keep its time, and what is under way may come back to the queue: the grant holds them as
    their turn comes (`give_slots`).
    """
    _lock_open(connection, job_id)
    run(connection, "batch_pause", job_id=job_id, paused_at=now)
    run(connection, "children_hold", job_id=job_id, since=None, until=PAUSED_UNTIL)


def let_go(connection: Connection, job_id: str) -> None:
    _lock_open(connection, job_id)
    run(connection, "batch_pause", job_id=job_id, paused_at=None)
    run(connection, "children_hold", job_id=job_id, since=PAUSED_UNTIL, until=None)


def _lock_open(connection: Connection, job_id: str) -> None:
    if run(connection, "job_get_locked", job_id=job_id).one().finished_at is not None:
        raise WrongState("The batch has ended: there is nothing to pause.")


def open_batch(
    connection: Connection,
    job: Job,
    rows: Sequence[ManifestRow],
    drafts: Sequence[Child],
    *,
    forecast: Mapping[str, str],
    now: datetime,
) -> None:
    """Insert the batch, its rows and its first pass.

    Call it in the transaction of the batch's own job, or with that locked.
    """
    run(connection, "batch_insert", job_id=job.id, rows=len(rows), forecast=dumps(dict(forecast)))
    given = ((job.id, row.n, row.name, dumps(dict(row.picture)), row.same_as) for row in rows)
    _copy(connection, "batch_row", ("batch_id", "n", "name", "picture", "same_as"), given)
    insert_children(connection, job, BatchPass.DRAFT, drafts, now=now)


JOB_COLUMNS = (
    *("id", "user_id", "kind", "status", "parent_id", "stage", "manifest_row", "parameters", "slotless", "replay_id"),
    *("markup", "created_at"),
)
REQUEST_COLUMNS = (
    *("ref", "job_id", "user_id", "account_id", "step", "attempt", "endpoint", "model_version"),
    *("input", "input_hash", "lane"),
    *("status", "token", "not_before", "estimate_usd", "probe", "replay_id", "markup", "created_at"),
)


def insert_children(
    connection: Connection, job: Job, stage: BatchPass, children: Sequence[Child], *, now: datetime
) -> None:
    """Insert the jobs of a pass with their first calls, which wait in the manifest's order.

    Those of a paused batch wait for it to go on.
    """
    ids = [new_id("job_") for _ in children]
    # One after the other, as rows of a lane have their turns by age.
    times = [now + timedelta(microseconds=1 + place) for place in range(len(children))]
    held = run(connection, "batch_get", job_id=job.id).one().paused_at is not None
    replay_id = run(connection, "job_lock", job_id=job.id).one().replay_id
    _copy(
        connection,
        "job",
        JOB_COLUMNS,
        (
            (
                id,
                job.user_id,
                child.kind,
                "pending",
                job.id,
                stage,
                child.n,
                dumps(dict(child.parameters)),
                *(False, replay_id, job.markup, at),
            )
            for id, at, child in zip(ids, times, children, strict=True)
        ),
    )
    _copy(
        connection,
        "request",
        REQUEST_COLUMNS,
        (
            _request(id, job, child.first, at, not_before=PAUSED_UNTIL if held else None, replay_id=replay_id)
            for id, at, child in zip(ids, times, children, strict=True)
        ),
    )
    if replay_id is not None and children:
        require_within_budget(connection, replay_id)


def end_children(connection: Connection, job_id: str, *, now: datetime) -> bool:
    """End what was not sent of a batch that is over, and ask for the end of the rest.

    Return whether something came free. Call it with the run of the batch locked, which is that of its rows.
    """
    # All are locked before any is looked at: one that the provider refuses meanwhile would be neither sent nor queued.
    run(connection, "children_lock", job_id=job_id)
    run(connection, "children_lock_calls", job_id=job_id)
    ended = run(connection, "children_cancel_unsent", job_id=job_id, now=now).rowcount
    run(connection, "children_cancel_sent", job_id=job_id, now=now)
    run(connection, "children_end", job_id=job_id, now=now)
    return ended > 0


def _request(
    job_id: str,
    batch: Job,
    spec: RequestSpec,
    at: datetime,
    *,
    not_before: datetime | None,
    replay_id: str | None,
) -> tuple[Any, ...]:
    return (
        *(new_id("req_"), job_id, batch.user_id, spec.account_id, spec.step, spec.attempt),
        *(spec.endpoint, spec.model_version),
        *(dumps(dict(spec.input)), content_hash(spec.endpoint, spec.input), int(spec.lane)),
        *("queued", secrets.token_hex(16), not_before, spec.estimate_usd, False, replay_id, batch.markup, at),
    )


def _copy(connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    raw = connection.connection.driver_connection  # SQLAlchemy has no COPY
    assert isinstance(raw, psycopg.Connection)
    statement = psycopg.sql.SQL("COPY {} ({}) FROM STDIN").format(
        psycopg.sql.Identifier(table), psycopg.sql.SQL(", ").join(map(psycopg.sql.Identifier, columns))
    )
    with raw.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def _counts(found: Sequence[Row[Any]]) -> list[Counts]:
    return [
        Counts(
            stage=stage,
            statuses={JobStatus(row.status): row.n for row in found if row.stage == stage},
            in_flight=sum(row.in_flight for row in found if row.stage == stage),
            last_minute=sum(row.last_minute for row in found if row.stage == stage),
            calls=sum(int(row.calls) for row in found if row.stage == stage),
            cost_usd=sum((row.cost_usd for row in found if row.stage == stage), Decimal(0)),
            seconds=_within_a_minute(row.seconds for row in found if row.stage == stage),
        )
        for stage in BatchPass
        if any(row.stage == stage for row in found)
    ]


def _within_a_minute(found: Iterable[Decimal | None]) -> float:
    longest = max((float(seconds) for seconds in found if seconds is not None), default=MINUTE_SECONDS)
    return min(max(longest, 0.0), MINUTE_SECONDS)


def _is_new_choice(batch: Batch, chosen: list[int]) -> bool:
    if batch.asked_at is None:
        raise WrongState("The drafts are not done yet. Choose once they are: the job says so.")
    if batch.winners is None:
        return True
    if batch.winners == chosen:
        return False
    raise WrongState("Winners were chosen already, and are being rendered. Order other rows as pictures of their own.")


def _require_drafts(chosen: Sequence[int], drafted: set[int], *, rows: int) -> None:
    if len(set(chosen)) < len(chosen):
        raise BadInput("winners: a row is named twice; name each once.", field="winners")
    if missing := [n for n in chosen if n not in drafted]:
        named = ", ".join(map(str, missing[:MOST_NAMED])) + ("…" if len(missing) > MOST_NAMED else "")
        raise BadInput(
            f"winners: no draft came of {named}; choose among the rows 0 to {rows - 1} that have one.", field="winners"
        )
