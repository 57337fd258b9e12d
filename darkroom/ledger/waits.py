"""Durable waiting: what a job waits for beside paid calls, as rows, and unpaid steps with their results.

A wait is opened once under its name, and settled once: by an event, by its time, by the end of another job, or by
hand; whoever is first holds its row. An event that came before the wait counts, back to the start of the job: looking
back and going on record happen while no event of that name comes in (`events.py` holds the same lock, shared).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from darkroom.errors import WrongState
from darkroom.ledger.canonical_json import dumps
from darkroom.ledger.columns import ON_DEMAND
from darkroom.ledger.database import plain, run
from darkroom.ledger.effects import NOTHING, AssignJobs, Implied, NotifyRun
from darkroom.ledger.event_tables import Event, Step, Wait
from darkroom.ledger.jobs import as_job, insert_job
from darkroom.ledger.locks import require_under_way
from darkroom.ledger.part import Part
from darkroom.ledger.statuses import EffectKind, WaitKind, WaitStatus
from darkroom.ledger.tables import Job, new_id

Test = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """For how long a run's jobs wait: the last time, and whether one waits for as long as it takes."""

    open: int
    until: datetime | None
    endless: bool


class Waits(Part):
    def sleep(self, job: Job, name: str, *, until: datetime) -> Wait:
        """Return the wait of that name; open it now if it is new. The first `until` counts."""
        with self._engine.begin() as connection:
            # First: what is on record is told to a job that was cancelled, too.
            if (known := _by_name(connection, job, name)) is not None:
                return known
            require_under_way(connection, job.id)
            return _open(connection, job, name, WaitKind.SLEEP, until=until, now=self._now())

    def for_event(
        self,
        job: Job,
        name: str,
        *,
        event: str,
        match: str | None,
        test: Test,
        until: datetime | None,
    ) -> Wait:
        """Return the wait of that name; open it now if it is new.

        `test`: whether `match` holds for an event's data. It is settled at once by one that came since the job began.
        """
        with self._engine.begin() as connection:
            # None of that name comes in while we look back and put the wait on record.
            run(connection, "event_lock_name", name=event)
            if (known := _by_name(connection, job, name)) is not None:
                return known
            require_under_way(connection, job.id)
            wait = _open(
                connection, job, name, WaitKind.EVENT, event_name=event, match=match, until=until, now=self._now()
            )
            ids = {"job_id": job.id, "user_id": job.user_id}
            for row in run(connection, "events_since", name=event, since=job.created_at, **ids):
                if test(row.data):
                    settled = settle(
                        connection, wait, WaitStatus.RECEIVED, by="event", event_id=row.id, now=self._now()
                    )
                    assert settled is not None
                    _note(connection, settled, row.id, now=self._now())
                    return settled
            return wait

    def for_child(
        self, job: Job, name: str, *, kind: str, deployment: str = ON_DEMAND, parameters: Mapping[str, Any]
    ) -> tuple[Wait, Implied]:
        """Start another job of the same user, once, and wait for its end. `deployment`: without the flow's name."""
        now = self._now()
        with self._engine.begin() as connection:
            require_under_way(connection, job.id)  # with the job locked: of two processes one starts the child
            if (known := _by_name(connection, job, name)) is not None:
                return known, NOTHING
            row = insert_job(
                connection,
                user_id=job.user_id,
                kind=kind,
                deployment=deployment,
                parameters=parameters,
                replay_id=job.replay_id,  # what it costs is the replay's, too
                depth=job.depth,
                slotless=True,
                now=now,
            )
            assert row is not None
            wait = _open(connection, job, name, WaitKind.CHILD, child_job_id=as_job(row).id, now=now)
            return wait, (AssignJobs(job_ids=(row.id,)),)

    def take(self, wait_id: str) -> Wait:
        """Return the wait as it is now. One whose time is over, or whose other job has ended, is settled by that."""
        now = self._now()
        with self._engine.begin() as connection:
            wait = plain(Wait, run(connection, "wait_lock", wait_id=wait_id).one())
            wait = _if_due(connection, wait, now=now)
            if (
                wait.status == WaitStatus.OPEN
                and wait.child_job_id is not None
                and _has_ended(connection, wait.child_job_id)
            ):
                return settle(connection, wait, WaitStatus.RECEIVED, by="child", now=now) or wait
            return wait

    def choose(self, wait_ids: Sequence[str]) -> Wait | None:
        """Choose, of several of which one is enough, the first that is settled, and for ever.

        Return None while all of them are open. The others are superseded then, whatever comes for them.
        """
        now = self._now()
        with self._engine.begin() as connection:
            ids = list(wait_ids)
            locked = [plain(Wait, row) for row in run(connection, "waits_lock", ids=ids)]
            waits = [_if_due(connection, wait, now=now) for wait in locked]
            settled = [wait for wait in waits if wait.status in (WaitStatus.RECEIVED, WaitStatus.TIMED_OUT)]
            if not settled:
                return next((wait for wait in waits if wait.status == WaitStatus.CANCELLED), None)
            # Of several that were settled at the same time the one that the job named first.
            chosen = min(settled, key=lambda wait: (wait.settled_at, ids.index(wait.id)))
            run(connection, "waits_pass", ids=ids, chosen=chosen.id, now=now)
            return chosen

    def wake(self, wait_id: str) -> tuple[Wait, Implied]:
        """Time the wait out by hand, now.

        Raises `WrongState` for one that is settled, or that waits for another job.
        """
        now = self._now()
        with self._engine.begin() as connection:
            wait = _require_open(connection, wait_id)
            if wait.kind == WaitKind.CHILD:
                raise WrongState(f"It waits for the job {wait.child_job_id}. Cancel that one to end the wait.")
            settled = settle(connection, wait, WaitStatus.TIMED_OUT, by="hand", now=now)
            assert settled is not None
            return settled, (NotifyRun(job_id=wait.job_id),)

    def extend(self, wait_id: str, *, until: datetime) -> tuple[Wait, Implied]:
        """Let the wait last until then, longer or shorter, by hand. Raises as `wake`."""
        with self._engine.begin() as connection:
            wait = _require_open(connection, wait_id)
            if wait.kind == WaitKind.CHILD:
                raise WrongState(f"It waits for the job {wait.child_job_id}, for as long as that takes.")
            extended = plain(Wait, run(connection, "wait_extend", wait_id=wait_id, until=until).one())
            # How long its run may sleep, and what is shown of it in Prefect, is of before.
            return extended, (NotifyRun(job_id=wait.job_id),)

    def get(self, wait_id: str) -> Wait | None:
        row = self._run("wait_get", wait_id=wait_id).one_or_none()
        return None if row is None else plain(Wait, row)

    def of_job(self, job_id: str) -> list[Wait]:
        return [plain(Wait, row) for row in self._run("waits_of_job", job_id=job_id)]

    def find(self, job_id: str, name: str) -> Wait | None:
        row = self._run("wait_by_name", job_id=job_id, name=name).one_or_none()
        return None if row is None else plain(Wait, row)

    def of_run(self, run_id: str, *, limit: int) -> list[Wait]:
        """Return the waits of all of the run's jobs: those that are open first, by when they are over."""
        return [plain(Wait, row) for row in self._run("waits_of_run", run_id=run_id, limit=limit)]

    def outlook(self, run_id: str) -> Outlook:
        return Outlook(**self._run("waits_outlook", run_id=run_id).one()._mapping)

    def event(self, event_id: str) -> Event:
        """Return the event of that id, one that settled a wait."""
        return plain(Event, self._run("event_get", event_id=event_id).one())

    def wake_due(self) -> Implied:
        """Imply the wake of each suspended run of which a job's time has come.

        It is for one of the run's jobs, which wakes it for all.
        """
        return tuple(NotifyRun(job_id=job_id) for job_id in self._run("waits_due", now=self._now()).scalars())


class Steps(Part):
    """Unpaid side effects. One that was begun and is not done may have happened: its `attempts` tell."""

    def begin(self, job_id: str, name: str) -> Step:
        """Note that the step begins, before its effect. One that is done comes back as it is, with its result."""
        with self._engine.begin() as connection:
            row = run(connection, "step_begin", job_id=job_id, name=name, now=self._now()).one_or_none()
            row = row or run(connection, "step_get", job_id=job_id, name=name).one()
            return plain(Step, row)

    def done(self, job_id: str, name: str, result: Any) -> None:
        """Note that the step is done. `result`: anything that is JSON."""
        self._run("step_done", job_id=job_id, name=name, result=dumps({"value": result}), now=self._now())

    def failed(self, job_id: str, name: str, error: Mapping[str, Any]) -> None:
        self._run("step_failed", job_id=job_id, name=name, error=dumps(dict(error)))

    def get(self, job_id: str, name: str) -> Step | None:
        row = self._run("step_get", job_id=job_id, name=name).one_or_none()
        return None if row is None else plain(Step, row)

    def of_job(self, job_id: str) -> list[Step]:
        return [plain(Step, row) for row in self._run("steps_of_job", job_id=job_id)]


def settle(
    connection: Connection, wait: Wait, status: WaitStatus, *, by: str, now: datetime, event_id: str | None = None
) -> Wait | None:
    """Settle the wait. Return None if somebody else was first."""
    row = run(
        connection, "wait_settle", wait_id=wait.id, status=status, by=by, event_id=event_id, now=now
    ).one_or_none()
    return None if row is None else plain(Wait, row)


def _by_name(connection: Connection, job: Job, name: str) -> Wait | None:
    row = run(connection, "wait_by_name", job_id=job.id, name=name).one_or_none()
    return None if row is None else plain(Wait, row)


def _open(connection: Connection, job: Job, name: str, kind: WaitKind, *, now: datetime, **details: Any) -> Wait:
    nothing = {"event_name": None, "match": None, "child_job_id": None, "until": None}
    ids = {"id": new_id("wait_"), "job_id": job.id, "user_id": job.user_id}
    row: Row[Any] = run(connection, "wait_insert", **ids, name=name, kind=kind, now=now, **{**nothing, **details}).one()
    return plain(Wait, row)


def _if_due(connection: Connection, wait: Wait, *, now: datetime) -> Wait:
    if wait.status != WaitStatus.OPEN or wait.until is None or wait.until > now:
        return wait
    return settle(connection, wait, WaitStatus.TIMED_OUT, by="time", now=now) or wait


def _require_open(connection: Connection, wait_id: str) -> Wait:
    row = run(connection, "wait_lock", wait_id=wait_id).one_or_none()
    if row is None or row.status != WaitStatus.OPEN:
        raise WrongState("It waits no longer: there is nothing to wake or extend.")
    return plain(Wait, row)


def _has_ended(connection: Connection, job_id: str) -> bool:
    return run(connection, "job_get", job_id=job_id).one().finished_at is not None


def _note(connection: Connection, wait: Wait, event_id: str, *, now: datetime) -> None:
    """Note the wait on the event's own record, after what it did when it came."""
    n = len(run(connection, "effects_of_event", event_id=event_id).all())
    effect = {
        "event_id": event_id,
        "n": n,
        "what": EffectKind.WOKE,
        "job_id": wait.job_id,
        "wait_id": wait.id,
        "reason": "it came before the job waited for it",
    }
    run(connection, "effects_insert", effects=dumps([effect]), now=now)
