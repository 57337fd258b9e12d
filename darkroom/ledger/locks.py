"""The first rule of the ledger's concurrency: the run row first.

Whoever changes what a run waits for, adds a job to it, closes it or asks whether it is suspended, locks its row `FOR
UPDATE` in its own statement and looks in the next one. READ COMMITTED gives each statement the state at *its*
beginning: one that waited for a lock and decides in the same breath decides by what was true before the wait.

The order is run, job, request. Nobody who holds one of them takes the account row.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from darkroom.errors import WrongState
from darkroom.ledger.database import plain, run
from darkroom.ledger.effects import NOTHING, Implied, WakeRun
from darkroom.ledger.tables import Run

WOKEN = "darkroom.run.woken"


def lock_run(connection: Connection, run_id: str) -> Run:
    return as_run(run(connection, "run_lock", run_id=run_id).one())


def lock_run_of_job(connection: Connection, job_id: str) -> Run | None:
    """Lock the run that has the job. Return None if no run has it."""
    found = run(connection, "run_lock_of_job", job_id=job_id).one_or_none()
    if found is None:
        return _lock_unassigned(connection, job_id)
    # One that was reassigned while we waited for the lock is followed to its new run.
    if found.closed_at is None or run(connection, "run_of_job", job_id=job_id).scalar_one() == found.id:
        return as_run(found)
    return _lock_unassigned(connection, job_id)  # requeued meanwhile, or in another run's hands


def lock_run_of_request(connection: Connection, ref: str) -> Run | None:
    """Lock the run of the request, in one round trip where it is open, which is nearly always."""
    found = run(connection, "run_lock_of_request", ref=ref).one_or_none()
    if found is not None and found.closed_at is None:
        return as_run(found)
    return lock_run_of_job(connection, run(connection, "job_of_request", ref=ref).scalar_one())


def require_under_way(connection: Connection, job_id: str) -> None:
    """Lock the job. Raise `WrongState` if it was cancelled or has ended: nothing is begun for it any more.

    Its run may not know yet: what was read before the lock is of before.
    """
    row = run(connection, "job_get_locked", job_id=job_id).one()
    if row.finished_at is not None or row.cancel_requested_at is not None:
        raise WrongState("The job was cancelled.")


def as_run(row: Row[Any]) -> Run:
    return plain(Run, row)


def notify(connection: Connection, locked: Run | None, ref: str, event: str, *, now: datetime) -> Implied:
    """Notify the run in its process. Mark one that is suspended as woken, and imply its wake."""
    if locked is None:
        return NOTHING
    run(connection, "run_notify", channel=locked.id)
    if locked.suspended_at is None or locked.flow_run_id is None:
        return NOTHING
    run(connection, "run_woken", run_id=locked.id, now=now, awaits_input=None)
    return (WakeRun(flow_run_id=locked.flow_run_id, ref=ref, event=event, awaits_input=locked.awaits_input),)


def _lock_unassigned(connection: Connection, job_id: str) -> Run | None:
    """Lock the job itself, so that no run takes it meanwhile; if one just has, let go and lock that run."""
    savepoint = connection.begin_nested()  # a lock is let go of by rolling back to before it alone
    run_id = run(connection, "job_lock", job_id=job_id).scalar_one()
    if run_id is None:
        savepoint.commit()
        return None
    savepoint.rollback()
    return lock_run(connection, run_id)
