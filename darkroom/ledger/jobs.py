"""Jobs: posted once per idempotency key, followed, ended, put back, with the files they made and the news of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row

from darkroom.errors import WrongState
from darkroom.ledger.allowance import require_allowed, require_capacity
from darkroom.ledger.batches import BATCH, Child, ManifestRow, end_children, open_batch
from darkroom.ledger.canonical_json import dumps
from darkroom.ledger.columns import ON_DEMAND
from darkroom.ledger.database import one_by_one, plain, run
from darkroom.ledger.effects import GRANT, NOTHING, AssignJobs, CancelJob, Implied, grant_if
from darkroom.ledger.finishing import ended_by, ending_of, finish
from darkroom.ledger.job_lists import JobLists
from darkroom.ledger.labels import NO_LABELS, Labels, body_hash, labels_again, repeated
from darkroom.ledger.locks import lock_run_of_job, notify
from darkroom.ledger.replay import plan_replay
from darkroom.ledger.replay_budget import require_within_budget
from darkroom.ledger.request_rows import (
    RequestSpec,
    adopt_late,
    as_request,
    cancel_open,
    columns_of,
    insert_request,
    spec_again,
)
from darkroom.ledger.rows import part_of
from darkroom.ledger.statuses import JobStatus, Lane, RequestStatus
from darkroom.ledger.tables import Asset, Job, Request, new_id


@dataclass(frozen=True, kw_only=True)
class Posted:
    job: Job
    new: bool
    implied: Implied


@dataclass(frozen=True, kw_only=True)
class Record:
    """A job and everything that is on record of it, as of one moment: its paid calls oldest first, and its files."""

    job: Job
    requests: tuple[Request, ...]
    assets: tuple[Asset, ...]


def as_job(row: Row[Any]) -> Job:
    return plain(Job, row, status=JobStatus(row.status))


def insert_job(
    connection: Connection,
    *,
    user_id: str,
    kind: str,
    parameters: Mapping[str, Any],
    now: datetime,
    run_id: str | None = None,
    slotless: bool = False,
    deployment: str = ON_DEMAND,
    start_id: str | None = None,
    replay_id: str | None = None,
    labels: Labels = NO_LABELS,
    depth: int = 0,
    idempotency_key: str | None = None,
    estimate_usd: Decimal | None = None,
) -> Row[Any] | None:
    """Insert the job. Return it with what the user's plan allows.

    Return None if the user has a job under that idempotency key.
    """
    return run(
        connection,
        "job_insert",
        id=new_id("job_"),
        user_id=user_id,
        kind=kind,
        deployment=deployment,
        start_id=start_id,
        replay_id=replay_id,
        run_id=run_id,
        slotless=slotless,
        parameters=dumps(dict(parameters)),
        depth=depth,
        **labels.columns(),
        idempotency_key=idempotency_key,
        body_hash=body_hash(kind, parameters, labels),
        estimate_usd=estimate_usd,
        now=now,
    ).one_or_none()


def put_back(
    connection: Connection, job_id: str, *, run_id: str | None, replay_id: str | None = None, now: datetime
) -> Implied:
    """Requeue a failed or cancelled job: what has succeeded is reused, what has not is queued once more.

    A batch is requeued with those of its rows that failed or were cancelled with it, also where it was completed as a
    whole; not with rows that a person has discarded. A job that is requeued is discarded no more. `replay_id`: whose
    budget it has, which the caller looks at last. Call it with the run of the job locked. Raises `WrongState`, and has
    written nothing then.
    """
    job = as_job(run(connection, "job_get_locked", job_id=job_id).one())
    if job.kind == BATCH:
        return _put_batch_back(connection, job, run_id=run_id, replay_id=replay_id, now=now)
    rows = [as_request(row) for row in run(connection, "requests_of_job_lock", job_id=job_id)]
    replay = plan_replay(job, rows)
    run(connection, "job_put_back", job_id=job_id, run_id=run_id, replay_id=replay_id, now=now)
    run(connection, "waits_drop_failed", job_id=job_id)  # a child that failed is started anew
    run(connection, "waits_put_back", job_id=job_id)  # what was ended with the job goes on with it
    for row in replay.late:
        adopt_late(connection, row)
    added = [insert_request(connection, job_id, spec, now=now) for spec in replay.again]
    if RequestStatus.QUEUED in added:  # which finds its run with its slot
        return (GRANT,)
    # Nothing waits: its late result, or an answer that the user has had meanwhile, serves. A run has to take it so.
    run(connection, "job_slotless", job_id=job_id)
    return (AssignJobs(job_ids=(job_id,)),) if run_id is None else NOTHING


class Jobs(JobLists):
    def post(
        self,
        *,
        user_id: str,
        kind: str,
        parameters: Mapping[str, Any],
        first: RequestSpec | None = None,
        estimate_usd: Decimal = Decimal(0),
        deployment: str = ON_DEMAND,
        labels: Labels = NO_LABELS,
        idempotency_key: str | None = None,
    ) -> Posted:
        """Insert the job and its first request in one transaction, before anything is paid.

        Without a `first` request, or with one whose answer is there already, a run takes the job at once.
        `estimate_usd`: of the whole job, where it is more than the first request's.

        The same key with the same body gives the job that is there; with another body it raises `BadInput`. What the
        plan does not allow raises `TooMany` or `BadInput`, and nothing is written. Posts do not wait for each other:
        several at once may find the last free place in the user's queue.
        """
        now = self._now()
        most = max(estimate_usd, first.estimate_usd if first else Decimal(0))
        # One statement for nearly all orders; where an answer may be there already it takes more.
        if first is not None and first.reuse_hash is None:
            columns: dict[str, Any] = {"kind": kind, "deployment": deployment, "parameters": dumps(dict(parameters))}
            columns |= {"idempotency_key": idempotency_key, "body_hash": body_hash(kind, parameters, labels)}
            columns |= {"user_id": user_id, "estimate_usd": most or None, "most_usd": most, **labels.columns()}
            row = self._run("job_post", id=new_id("job_"), **columns, **columns_of(first), now=now).one_or_none()
            if row is not None and row.id is not None:
                return Posted(job=as_job(row), new=True, implied=(GRANT,))
            # Not allowed, or ordered before: told apart below.
        with self._engine.begin() as connection:
            row = insert_job(
                connection,
                user_id=user_id,
                kind=kind,
                parameters=parameters,
                slotless=first is None,
                deployment=deployment,
                labels=labels,
                idempotency_key=idempotency_key,
                estimate_usd=most or None,
                now=now,
            )
            if row is None:
                found = repeated(connection, user_id, idempotency_key, kind, parameters, labels)
                return Posted(job=as_job(found), new=False, implied=NOTHING)
            # After the insert, which has read the plan as well: what is refused is rolled back.
            require_allowed(row, most, retry_after=self._timing.queue_full)
            job = as_job(row)
            if first is not None and insert_request(connection, job.id, first, now=now) is RequestStatus.QUEUED:
                return Posted(job=job, new=True, implied=(GRANT,))
            if first is not None:
                run(connection, "job_slotless", job_id=job.id)
            return Posted(job=job, new=True, implied=(AssignJobs(job_ids=(job.id,)),))

    def post_batch(
        self,
        *,
        user_id: str,
        kind: str,
        parameters: Mapping[str, Any],
        rows: Sequence[ManifestRow],
        drafts: Sequence[Child],
        forecast: Mapping[str, str],
        estimate_usd: Decimal,
        labels: Labels = NO_LABELS,
        idempotency_key: str | None = None,
    ) -> Posted:
        """Insert a batch with the whole of its first pass, as `post` does: all of it is on record, or nothing."""
        now = self._now()
        with self._engine.begin() as connection:
            row = insert_job(
                connection,
                user_id=user_id,
                kind=kind,
                parameters=parameters,
                slotless=True,
                labels=labels,
                idempotency_key=idempotency_key,
                estimate_usd=estimate_usd,
                now=now,
            )
            if row is None:
                found = repeated(connection, user_id, idempotency_key, kind, parameters, labels)
                return Posted(job=as_job(found), new=False, implied=NOTHING)
            require_allowed(row, estimate_usd, retry_after=self._timing.queue_full)
            require_capacity(connection, row, len(drafts), retry_after=self._timing.queue_full)
            job = as_job(row)
            open_batch(connection, job, rows, drafts, forecast=forecast, now=now)
            return Posted(job=job, new=True, implied=(AssignJobs(job_ids=(job.id,)), GRANT))

    def get(self, job_id: str) -> Job | None:
        row = self._run("job_get", job_id=job_id).one_or_none()
        return None if row is None else as_job(row)

    def of_run(self, run_id: str) -> list[Job]:
        return [as_job(row) for row in self._run("jobs_of_run", run_id=run_id)]

    def endings(self, run_id: str) -> dict[JobStatus, int]:
        """Return how many jobs of the run are in each status."""
        return {JobStatus(row.status): row.n for row in self._run("jobs_of_run_endings", run_id=run_id)}

    def take_up(self, job_ids: Sequence[str]) -> list[Record]:
        """Return what is on record of jobs about to be called, which run from now on.

        Those that have ended are left out.
        """
        # One statement for all of them, and one more where there are files: their functions ask the record.
        jobs: dict[str, Job] = {}
        calls: dict[str, list[Request]] = {job_id: [] for job_id in job_ids}
        with one_by_one(self._engine) as connection:
            taken = run(connection, "jobs_take_up", job_ids=list(job_ids), now=self._now()).all()
            for row in taken:
                job, call = part_of(row, "job"), part_of(row, "request")
                jobs[job.id] = jobs.get(job.id) or as_job(job)
                calls[job.id] += [as_request(call)] if call.ref is not None else []
            with_files = list({part_of(row, "job").id for row in taken if row.has_files})
            found = run(connection, "assets_of_jobs", job_ids=with_files) if with_files else ()
            assets = [plain(Asset, row) for row in found]
        return [
            Record(
                job=jobs[job_id],
                requests=tuple(calls[job_id]),
                assets=tuple(asset for asset in assets if asset.job_id == job_id),
            )
            for job_id in job_ids
            if job_id in jobs
        ]

    def finish(
        self,
        job_id: str,
        status: JobStatus,
        *,
        error: Mapping[str, Any] | None = None,
        result: Mapping[str, Any] | None = None,
    ) -> Implied:
        """End the job and notify its user. Rows it leaves open are ended, or asked to end at the provider."""
        # The job alone is locked: nothing comes for its run by that, and a burst's ends do not queue behind webhooks.
        ending = ending_of(status, error=error, result=result, now=self._now())
        row = self._run("job_finish", job_id=job_id, spared=BATCH, **ending).one_or_none()
        if row is not None:
            return ended_by(row)
        with self._engine.begin() as connection:  # a batch, whose rows end with it; or one that has ended before
            lock_run_of_job(connection, job_id)
            return finish(connection, job_id, ending)

    def progress(self, job_id: str, percent: float, text: str) -> bool:
        """Note how far the job has come. Return False if that is what is on record, or the job has ended."""
        now = self._now()
        given = {"progress": dumps({"percent": round(percent, 1), "text": text})}
        times = {"now": now, "published_before": now - self._timing.progress_published}
        return self._run("job_progress", job_id=job_id, **given, **times).one_or_none() is not None

    def cancel(self, job_id: str) -> Implied:
        """Ask for the end of a job: unpaid rows end now, the rest when the provider is done with them.

        A job of which nothing is paid or may come ends at once. Asked again, or of a job that has ended, it does
        nothing.
        """
        now = self._now()
        with self._engine.begin() as connection:
            locked = lock_run_of_job(connection, job_id)
            job = run(connection, "job_cancel", job_id=job_id, now=now).one_or_none()
            if job is None:
                return NOTHING
            freed = _end_rows(connection, job_id, now=now)
            if job.kind == BATCH:
                freed |= end_children(connection, job_id, now=now)
            rows = [as_request(row) for row in run(connection, "requests_of_job", job_id=job_id)]
            goes_on = any(_may_bring_a_result(row) for row in rows) or _has_open_rows(connection, job)
            # No run has it yet: of what a gateway has sent, one will hear. What succeeded before a replay is no reason.
            is_sent = any(not row.status.terminal for row in rows)
            if not goes_on or (locked is None and not is_sent):
                ended = finish(connection, job_id, ending_of(JobStatus.CANCELLED, now=now))
            else:
                ended = tuple(CancelJob(job_id=child) for child in _end_waits(connection, job_id, now=now))
            return notify(connection, locked, job_id, "darkroom.run.woken", now=now) + ended + grant_if(freed)

    def replay(self, job_id: str, *, replay_id: str | None = None, discarded_too: bool = True) -> Implied:
        """Requeue a failed or cancelled job, in whatever run takes it; of several calls at once one does it.

        Each step that has succeeded is reused, the failed one gets a new attempt, both on record. Raises `WrongState`,
        and `BadInput` beyond the budget of `replay_id`: of those that are requeued together.
        """
        with self._engine.begin() as connection:
            lock_run_of_job(connection, job_id)
            if not discarded_too:
                _require_not_discarded(connection, job_id)
            implied = put_back(connection, job_id, run_id=None, replay_id=replay_id, now=self._now())
            if replay_id is not None and GRANT in implied:
                require_within_budget(connection, replay_id)
            return implied

    def repeat(self, job_id: str, *, idempotency_key: str | None = None) -> Posted:
        """Order the same once more, exactly, with the input on record, whatever its age. It is made, and paid, anew.

        A row of a batch becomes its own job. Raises `WrongState` for a batch.
        """
        job = self.get(job_id)
        assert job is not None
        if job.kind == BATCH:
            raise WrongState(
                "A batch is not repeated as one. Repeat rows of it, or order a batch with `rows_of` and its id."
            )
        with self._engine.begin() as connection:
            rows = [as_request(row) for row in run(connection, "requests_of_job", job_id=job_id)]
            labels = labels_again(connection, job)
        return self.post(
            user_id=job.user_id,
            kind=job.kind,
            parameters=job.parameters or {},
            deployment=job.deployment,
            labels=labels,
            first=_as_it_was(rows[0]) if rows else None,
            idempotency_key=idempotency_key,
        )

    def unassigned(self) -> list[str]:
        """Return jobs that no run has taken though a row of theirs holds a slot, or though they wait for none."""
        return list(self._run("jobs_unassigned").scalars())


def _require_not_discarded(connection: Connection, job_id: str) -> None:
    if run(connection, "job_get_locked", job_id=job_id).one().discarded_at is not None:
        raise WrongState("It was discarded meanwhile. A replay that names it puts it back.")


def _has_open_rows(connection: Connection, job: Row[Any]) -> bool:
    return job.kind == BATCH and run(connection, "children_done", job_ids=[job.id]).first() is None


def _put_batch_back(
    connection: Connection, job: Job, *, run_id: str | None, replay_id: str | None, now: datetime
) -> Implied:
    if not job.status.terminal:
        raise WrongState("The batch is under way. Wait for its end, or cancel it first.")
    rows = run(connection, "children_to_replay", job_id=job.id).scalars().all()
    if job.status is JobStatus.COMPLETED and not rows:
        raise WrongState("Every row of the batch has come: there is nothing to replay.")
    implied: Implied = (AssignJobs(job_ids=(job.id,)),) if run_id is None else NOTHING
    for row in rows:
        implied += put_back(connection, row, run_id=run_id, replay_id=replay_id, now=now)
    run(connection, "job_put_back", job_id=job.id, run_id=run_id, replay_id=replay_id, now=now)
    run(connection, "batch_put_back", job_id=job.id)
    return implied


def _as_it_was(row: Request) -> RequestSpec:
    return replace(spec_again(row, attempt=1, lane=Lane.INTERACTIVE), reuse_hash=None)


def _may_bring_a_result(row: Request) -> bool:
    return not row.status.terminal or row.status is RequestStatus.SUCCEEDED


def _end_waits(connection: Connection, job_id: str, *, now: datetime) -> tuple[str, ...]:
    """End the job's waits. Return the jobs that it waited for."""
    ended = run(connection, "waits_end", job_id=job_id, now=now).scalars()
    return tuple(child for child in ended if child is not None)


def _end_rows(connection: Connection, job_id: str, *, now: datetime) -> bool:
    """End the job's open rows. Return whether a slot or a place in the queue came free."""
    rows = [as_request(row) for row in run(connection, "requests_of_job_lock", job_id=job_id)]
    ended = [cancel_open(connection, row, now=now) for row in rows]
    return any(ended)
