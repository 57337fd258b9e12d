"""Prefect flow runs as the ledger knows them: opened, handed work, left, woken, closed.

Everything that decides whether a run has work takes its row `FOR UPDATE` first and looks in the next statement. So a
job handed to a run and a run that closes, or a webhook and a run that leaves, see each other in one order or the other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from darkroom.errors import WrongState
from darkroom.ledger.batches import BATCH, hold, let_go
from darkroom.ledger.columns import ON_DEMAND
from darkroom.ledger.database import one_by_one, run
from darkroom.ledger.effects import GRANT, NOTHING, CreateRun, Implied, WakeRun
from darkroom.ledger.jobs import as_job, insert_job, put_back
from darkroom.ledger.locks import WOKEN, as_run, lock_run
from darkroom.ledger.part import Part
from darkroom.ledger.run_work import Work, poll_work
from darkroom.ledger.tables import Job, Run, new_id

# One run's at once. A second process competes for the same cores and locks: with 200 pictures at once, webhook to next
# line took 1.2 s (p95) in five runs and 0.4 s in one, which needed two thirds of the CPU.
MOST_JOBS = 256
BATCH_ROOM = 10_000  # its rows are handed to it slot by slot
# Kinds of which each job has its own run: a person is asked in it, and pauses or cancels it alone.
ALONE = frozenset({BATCH})
SLOT_GRANTED = "darkroom.slot.granted"
READY = "run_ready"  # the channel that workers listen on: a flow run was created, or resumed


class Runs(Part):
    def assign(self, *job_ids: str) -> Implied:
        """Assign the jobs to open runs of their user and kind, and put new runs on record for the rest.

        Jobs that another has assigned or ended meanwhile are left alone.
        """
        # A transaction for each run that takes some: it locks that run alone, so two who assign cannot wait for each
        # other's.
        implied, left = NOTHING, set(job_ids)
        while left and (assigned := self._assign_some(left)) is not None:
            taken, more = assigned
            left -= taken
            implied += more
        return implied

    def _assign_some(self, job_ids: Collection[str]) -> tuple[set[str], Implied] | None:
        """Assign as many of one user and kind as one run takes, by `assign_jobs`, a function in the database.

        Return None if all of them are assigned or have ended.
        """
        now, new_run = self._now(), new_id("run_")
        given = {"job_ids": list(job_ids), "new_run": new_run, "alone": sorted(ALONE)}
        most = {"most": MOST_JOBS, "most_of_batch": BATCH_ROOM, "oldest": now - self._timing.takes_jobs_for}
        done = self._run("jobs_assign", **given, **most, now=now).one()
        if done.taken is None:
            return None
        implied = NOTHING if done.wakes is None else (_wake(done, done.taken[0], SLOT_GRANTED),)
        if done.begun_for is not None:
            begins = self._run("start_of", job_id=done.begun_for).one()
            implied += (_creation(begins, new_run),)
        return set(done.taken), implied

    def enter(self, flow_run_id: UUID, *, run_key: str | None) -> tuple[Run, Implied] | None:
        """Note that a process takes up the run: it is neither suspended nor woken any more.

        Return None if the ledger does not know it.
        """
        with self._engine.begin() as connection:
            found = run(connection, "run_to_enter", flow_run_id=flow_run_id, run_id=run_key).one_or_none()
            if found is None:
                return None
            alive_until = self._now() + self._timing.lease
            entered = run(connection, "run_enter", flow_run_id=flow_run_id, run_id=found.id, alive_until=alive_until)
            # Suspended, and woken by nobody: a person resumed it, and a batch that was paused goes on with it.
            implied = NOTHING if found.suspended_at is None else _goes_on(connection, found.id)
            return as_run(entered.one()), implied

    def suspended_by_hand(self, run_id: str) -> None:
        """Pause the batch of a run that a person has suspended in Prefect. Other runs go on with what comes."""
        with self._engine.begin() as connection:
            if (batch_id := run(connection, "batch_of_run", run_id=run_id).scalar()) is not None:
                hold(connection, batch_id, now=self._now())

    def open_own(
        self,
        flow_run_id: UUID,
        *,
        user_id: str,
        kind: str,
        deployment: str = ON_DEMAND,
        parameters: Mapping[str, Any],
    ) -> Run:
        """Put a run that a person started on record, with the one job it is for."""
        now = self._now()
        with self._engine.begin() as connection:
            row = run(
                connection,
                "run_insert",
                id=new_id("run_"),
                user_id=user_id,
                kind=kind,
                deployment=deployment,
                shared=False,
                flow_run_id=flow_run_id,
                now=now,
                alive_until=now + self._timing.lease,
            ).one()
            insert_job(
                connection,
                user_id=user_id,
                kind=kind,
                deployment=deployment,
                parameters=parameters,
                run_id=row.id,
                now=now,
            )
            return as_run(row)

    def created(self, run_id: str, flow_run_id: UUID) -> None:
        """Note the flow run that was created for the run, and notify the workers that it is there."""
        with self._engine.begin() as connection:
            # One transaction: workers are notified with its commit, when it is there to be taken.
            run(connection, "run_created", run_id=run_id, flow_run_id=flow_run_id)
            run(connection, "run_notify", channel=READY)

    def tell_workers(self) -> None:
        """Notify the workers that a flow run is ready for them."""
        self._run("run_notify", channel=READY)

    def flow_run_of(self, job_id: str) -> UUID | None:
        """Return Prefect's run that carries the job."""
        found: UUID | None = self._run("run_flow_run_of_job", job_id=job_id).scalar()
        return found

    def renew(self, run_id: str) -> None:
        self._run("run_renew", run_id=run_id, alive_until=self._now() + self._timing.lease)

    def poll_work(
        self, run_id: str, waits: Mapping[str, Collection[str]], *, only: Collection[str] | None = None
    ) -> Work:
        """Find the run's open jobs, and which of them can go on. `only`: of these alone.

        `waits`: what each job known to the process waits for; a job that is not in it is ready. That is refs of
        requests, and the job's own id where the process has not yet acted on the job's cancel.
        """
        with one_by_one(self._engine) as connection:
            return poll_work(connection, run_id, waits, only=only, now=self._now())

    def on_suspended(self, run_id: str, waits: Mapping[str, Collection[str]], *, awaits_input: bool = False) -> bool:
        """Note that Prefect has accepted the suspension.

        Return False if something came meanwhile: then wake it oneself. `awaits_input`: it was suspended with a form,
        for a person.
        """
        now = self._now()
        with self._engine.begin() as connection:
            # In a statement of its own, see `locks.py`: what comes is before us or behind us.
            lock_run(connection, run_id)
            came = bool(poll_work(connection, run_id, waits, now=self._now()).ready)
            run(connection, "run_woken" if came else "run_suspended", run_id=run_id, now=now, awaits_input=awaits_input)
            return not came

    def has_had_several(self, run_id: str) -> bool:
        """Return whether more than one job was ever assigned to the run."""
        return len(self._run("jobs_of_run_first_two", run_id=run_id).all()) > 1

    def close(self, run_id: str) -> bool:
        """End the run unless it has an open job. Return whether it was ended."""
        with self._engine.begin() as connection:
            lock_run(connection, run_id)
            if run(connection, "run_open_jobs", run_id=run_id).first() is not None:
                return False
            run(connection, "run_close", run_id=run_id, now=self._now())
            return True

    def end(self, run_id: str) -> list[str]:
        """Close a run that has ended at Prefect, for good or ill. Return its open jobs: no run carries them now."""
        with self._engine.begin() as connection:
            lock_run(connection, run_id)
            jobs = [job.id for job in run(connection, "run_open_jobs", run_id=run_id)]
            run(connection, "run_close", run_id=run_id, now=self._now())
            return jobs

    def reopen(self, run_id: str) -> tuple[Run, Implied] | None:
        """Open a closed run again and requeue those of its jobs that failed or ended with it.

        Return None if none did. A job of which the provider still has a call is left as it is.
        """
        now = self._now()
        with self._engine.begin() as connection:
            if lock_run(connection, run_id).closed_at is None:
                return None
            job_ids = run(connection, "jobs_to_replay_of_run", run_id=run_id).scalars().all()
            tried = [_put_back(connection, job_id, run_id, now=now) for job_id in job_ids]
            implied = [each for each in tried if each is not None]
            if not implied:
                return None
            reopened = run(connection, "run_reopen", run_id=run_id, alive_until=now + self._timing.lease).one()
            return as_run(reopened), sum(implied, NOTHING)

    def reassign(self, run_id: str) -> Implied:
        """Close a run that cannot go on and reassign its open jobs, if it has any, to a new run."""
        now = self._now()
        with self._engine.begin() as connection:
            lock_run(connection, run_id)
            open_job = run(connection, "run_open_jobs", run_id=run_id).first()
            run(connection, "run_close", run_id=run_id, now=now)
            if open_job is None:
                return NOTHING
            job = as_job(run(connection, "job_get", job_id=open_job.id).one())
            new = _insert(connection, job, now=now)
            run(connection, "jobs_reassign", run_id=run_id, new_run_id=new.id)
            return (_creation(_begins(connection, job.id), new.id),)

    def notify(self, run_id: str, ref: str, *, job_ids: Sequence[str] = ()) -> Implied:
        """Notify the run that a row of it was granted. `job_ids`: all of its jobs of which one was, where known."""
        told = self._run("run_notify_of", run_id=run_id, job_id=None, job_ids=list(job_ids), now=self._now()).one()
        return NOTHING if told.wakes is None else (_wake(told, ref, SLOT_GRANTED),)

    def notify_job(self, job_id: str) -> Implied:
        """Notify the run of the job that something came for it."""
        told = self._run("run_notify_of", run_id=None, job_id=job_id, job_ids=[], now=self._now()).one()
        return NOTHING if told.wakes is None else (_wake(told, job_id, WOKEN),)

    def get(self, run_id: str) -> Run | None:
        row = self._run("run_get", run_id=run_id).one_or_none()
        return None if row is None else as_run(row)

    def not_closed(self) -> list[Run]:
        """Return open runs, and those that were ended but still have an open job.

        Whoever ended those did not get to it.
        """
        return [as_run(row) for row in self._run("runs_not_closed")]

    def closed_since(self, when: datetime) -> list[Run]:
        """Return runs that have closed since then, and left no job open."""
        return [as_run(row) for row in self._run("runs_closed_since", since=when)]

    def limits_of_open(self) -> dict[str, int]:
        """Return how many runs each user who has an open one may have executing at once, by the user's id."""
        return {row.user_id: row.in_flight for row in self._run("runs_limits_of_open")}

    def with_granted(self) -> set[str]:
        """Return the ids of runs of which a row holds a slot that it has not used.

        Also of those that are suspended though their batch can go on, or though what a job waits for has come.
        """
        return set(self._run("runs_with_granted", now=self._now()).scalars())

    def mark_woken(self, run_id: str) -> None:
        with self._engine.begin() as connection:
            lock_run(connection, run_id)
            run(connection, "run_woken", run_id=run_id, now=self._now(), awaits_input=None)

    def start_again(self, run_id: str) -> Implied:
        """Imply the creation of a flow run for a run on record, as it was implied when the run was made.

        A run that was deleted at Prefect after its last job had ended is closed.
        """
        with self._engine.begin() as connection:
            lock_run(connection, run_id)
            open_job = run(connection, "run_open_jobs", run_id=run_id).first()
            if open_job is None:
                run(connection, "run_close", run_id=run_id, now=self._now())
                return NOTHING
            return (_creation(_begins(connection, open_job.id), run_id),)

    def recovering(self, seen: Run, *, recoveries: int) -> bool:
        """Note that the run is brought back. Return False if anything has changed in it since it was `seen`."""
        noted = self._run(
            "run_recovering",
            run_id=seen.id,
            recoveries=recoveries,
            now=self._now(),
            closed_at=seen.closed_at,
            alive_until=seen.alive_until,
            recovered_at=seen.recovered_at,
        )
        return noted.one_or_none() is not None


def _begins(connection: Connection, job_id: str) -> Row[Any]:
    return run(connection, "start_of", job_id=job_id).one()


def _goes_on(connection: Connection, run_id: str) -> Implied:
    batch_id = run(connection, "batch_of_run", run_id=run_id).scalar()
    if batch_id is None:
        return NOTHING
    let_go(connection, batch_id)
    return (GRANT,)


def _put_back(connection: Connection, job_id: str, run_id: str, *, now: datetime) -> Implied | None:
    """Requeue the job. Return None, with nothing written, if it is not to be replayed, or not yet."""
    try:
        with connection.begin_nested():  # of a batch, rows before the one that is not are requeued by then
            return put_back(connection, job_id, run_id=run_id, now=now)
    except WrongState:
        return None


def _insert(connection: Connection, job: Job, *, now: datetime) -> Row[Any]:
    return run(
        connection,
        "run_insert",
        id=new_id("run_"),
        user_id=job.user_id,
        kind=job.kind,
        deployment=job.deployment,
        shared=job.kind not in ALONE,
        flow_run_id=None,
        now=now,
        alive_until=None,
    ).one()


def _creation(begins: Row[Any], run_id: str) -> CreateRun:
    return CreateRun(
        run_id=run_id,
        deployment=f"{begins.kind}/{begins.deployment}",
        user_id=begins.user_id,
        user_name=begins.user_name,
        plan=begins.plan,
        in_flight=begins.in_flight,
        parameters=begins.parameters | {"user": begins.user_id},
    )


def _wake(told: Row[Any], ref: str, event: str) -> WakeRun:
    """Return the wake of a run that was suspended when it was notified."""
    return WakeRun(flow_run_id=told.wakes, ref=ref, event=event, awaits_input=told.asks)
