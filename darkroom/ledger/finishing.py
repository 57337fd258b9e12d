"""How a job ends: by `finish_job`, a function in the database, so that it is one round trip."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from darkroom.ledger.batches import BATCH, end_children
from darkroom.ledger.canonical_json import dumps
from darkroom.ledger.database import run
from darkroom.ledger.effects import NOTHING, BeginPending, CancelJob, Implied, NotifyRun, grant_if
from darkroom.ledger.statuses import JobStatus


def ending_of(
    status: JobStatus,
    *,
    error: Mapping[str, Any] | None = None,
    result: Mapping[str, Any] | None = None,
    now: datetime,
) -> dict[str, Any]:
    """Return the ending as the statement takes it."""
    return {
        "status": status.value,
        "error": dumps(dict(error)) if error else None,
        "result": dumps(dict(result)) if result else None,
        "told": dumps({"error": dict(error)}) if error else None,
        "now": now,
    }


def finish(connection: Connection, job_id: str, ending: Mapping[str, Any]) -> Implied:
    """End the job by `finish_job`, a function in the database, and a batch's rows with it.

    Call it with the run of a batch locked, for `end_children`.
    """
    row = run(connection, "job_finish", job_id=job_id, spared=None, **ending).one_or_none()
    if row is None:
        return NOTHING  # it has ended before, and its rows with it
    freed = row.kind == BATCH and end_children(connection, job_id, now=ending["now"])
    return ended_by(row) + grant_if(freed)


def ended_by(row: Row[Any]) -> Implied:
    """Return what the ending implies, from what the statement said of it."""
    implied: Implied = tuple(NotifyRun(job_id=job_id) for job_id in row.rings)
    implied += tuple(CancelJob(job_id=job_id) for job_id in row.cancels)
    if row.start_id is not None:  # the next of its line may have waited for this end
        implied += (BeginPending(deployment=f"{row.kind}/{row.deployment}"),)
    return implied + grant_if(row.freed)
