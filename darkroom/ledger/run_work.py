"""What a run finds when it looks for work: its open jobs, and what has come of that for which they wait."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from darkroom.ledger.database import run
from darkroom.ledger.statuses import RequestStatus

# What a job can wait for beside calls: all its rows, a person's choice, a row of `wait`.
ROWS, CHOICE, WAIT = "rows:", "choice:", "wait:"


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a run finds when it looks: its open jobs, and which of them can go on.

    Those for which a result `came` are first in line: they free memory and slots, a submit only adds to them.
    """

    open: tuple[str, ...]
    ready: tuple[str, ...]
    came: frozenset[str]


def _come_of_batches(connection: Connection, refs: Collection[str], *, now: datetime) -> Iterator[str]:
    """Yield those of what batches wait for that has come."""
    if batches := [ref.removeprefix(ROWS) for ref in refs if ref.startswith(ROWS)]:
        yield from (ROWS + id for id in run(connection, "children_done", job_ids=batches).scalars())
    if batches := [ref.removeprefix(CHOICE) for ref in refs if ref.startswith(CHOICE)]:
        yield from (CHOICE + id for id in run(connection, "batches_answered", job_ids=batches, now=now).scalars())


def poll_work(
    connection: Connection,
    run_id: str,
    waits: Mapping[str, Collection[str]],
    *,
    only: Collection[str] | None = None,
    now: datetime,
) -> Work:
    refs = sorted({ref for refs in waits.values() for ref in refs})
    if only is None:
        rows = run(connection, "run_work", run_id=run_id, refs=refs).all()
    else:
        rows = run(connection, "run_work_of", run_id=run_id, refs=refs, job_ids=list(only)).all()
    jobs = {row.id: row for row in rows}.values()
    news = {row.ref: RequestStatus(row.status).terminal for row in rows if row.ref is not None}
    news |= dict.fromkeys(_come_of_batches(connection, refs, now=now), True)
    if waits_for := [ref.removeprefix(WAIT) for ref in refs if ref.startswith(WAIT)]:
        news |= {WAIT + id: True for id in run(connection, "waits_come", ids=waits_for, now=now).scalars()}
    news |= {job.id: True for job in jobs if job.cancel_requested_at is not None}
    ready = [job.id for job in jobs if job.id not in waits or any(ref in news for ref in waits[job.id])]
    came = frozenset(each for each in ready if any(news.get(ref) for ref in waits.get(each, ())))
    ready.sort(key=lambda each: each not in came)
    return Work(open=tuple(job.id for job in jobs), ready=tuple(ready), came=came)
