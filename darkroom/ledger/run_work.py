"""What a run finds when it looks for work: its open jobs, and what has come of that for which they wait."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from darkroom.ledger.database import run
from darkroom.ledger.statuses import RequestStatus

# What a job can wait for beside calls: all its rows, a person's choice, a row of `wait`.
ROWS, CHOICE, WAIT = "rows:", "choice:", "wait:"
AT_THE_PROVIDER = frozenset({RequestStatus.SUBMITTING, RequestStatus.IN_FLIGHT, RequestStatus.UNKNOWN})


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a run finds when it looks: its open jobs, and which of them can go on.

    Those for which a result `came` are first in line: they free memory and slots, a submit only adds to them. Those
    that were `sent` by a gateway, and of which nothing has come yet, are last: there is nothing to do for them but to
    show them.
    """

    open: tuple[str, ...]
    ready: tuple[str, ...]
    came: frozenset[str]
    sent: frozenset[str] = frozenset()

    def urgency(self, job_id: str) -> int:
        """Return where in line a job is that can go on: the lower, the sooner."""
        return 0 if job_id in self.came else 2 if job_id in self.sent else 1


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
    given = {"run_id": run_id, "refs": refs, "known": list(waits)}
    if only is None:
        rows = run(connection, "run_work", **given).all()
    else:
        rows = run(connection, "run_work_of", **given, job_ids=list(only)).all()
    jobs = {row.id: row for row in rows}.values()
    calls = [(row.id, row.ref, RequestStatus(row.status)) for row in rows if row.ref is not None]
    # True of what has come; a call that was granted is news, too, but has its submit yet to come.
    news = {ref: status.terminal for job_id, ref, status in calls if job_id in waits}
    # Jobs that this process has not called yet: all of their calls tell how far they are.
    new: dict[str, set[RequestStatus]] = {}
    for job_id, _, status in calls:
        if job_id not in waits:
            new.setdefault(job_id, set()).add(status)
    news |= dict.fromkeys(_come_of_batches(connection, refs, now=now), True)
    if waits_for := [ref.removeprefix(WAIT) for ref in refs if ref.startswith(WAIT)]:
        news |= {WAIT + id: True for id in run(connection, "waits_come", ids=waits_for, now=now).scalars()}
    # A job waits under its own id for as long as its process has not acted on a cancel.
    news |= {job.id: True for job in jobs if job.cancel_requested_at is not None}
    ready = [job.id for job in jobs if job.id not in waits or any(ref in news for ref in waits[job.id])]
    came = {each for each in ready if any(news.get(ref) for ref in waits.get(each, ()))}
    came |= {job_id for job_id, statuses in new.items() if _has_come(statuses)}
    sent = {job_id for job_id, statuses in new.items() if statuses <= AT_THE_PROVIDER}
    # A cancel is something to do about them.
    sent -= {job.id for job in jobs if job.cancel_requested_at is not None}
    work = Work(
        open=tuple(job.id for job in jobs), ready=tuple(ready), came=frozenset(came), sent=frozenset(sent) - came
    )
    return replace(work, ready=tuple(sorted(ready, key=work.urgency)))


def _has_come(statuses: Collection[RequestStatus]) -> bool:
    """Return whether a job of which this process knows nothing has a result, and nothing to submit."""
    return RequestStatus.GRANTED not in statuses and any(status.terminal for status in statuses)
