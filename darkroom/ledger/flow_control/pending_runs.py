"""Pending runs: those that events ask for, under a deployment's flow control.

Events put them on record (`Holding`, in the transaction that takes the events). Who lets them begin locks the
deployment's row, reads what stands, and carries out what `rules.py` decides: of several at once each sees what the
one before it has let begin. What ends or falls due in between asks anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row

from darkroom.ledger.canonical_json import dumps
from darkroom.ledger.database import plain, run, run_given
from darkroom.ledger.effects import NOTHING, AssignJobs, BeginPending, CancelJob, Implied
from darkroom.ledger.event_tables import PendingRun
from darkroom.ledger.flow_control.rules import (
    Begin,
    Drop,
    Hold,
    Running,
    Standing,
    collects_until,
    decide,
    has_capacity,
    is_full,
)
from darkroom.ledger.flow_control.terms import Held, Terms
from darkroom.ledger.jobs import insert_job
from darkroom.ledger.part import Part
from darkroom.ledger.statuses import PendingStatus
from darkroom.ledger.tables import new_id

FULL = "as many pending runs of this user wait already as the plan allows"


def as_pending_run(row: Row[Any]) -> PendingRun:
    return plain(PendingRun, row, status=PendingStatus(row.status))


class PendingRuns(Part):
    def begin(self, deployment: str) -> Implied:
        """Let those pending runs begin that may, and put the reason of the rest on record.

        The deployment is implied again where there may be more.
        """
        now = self._now()
        with self._engine.begin() as connection:
            locked = run(connection, "control_lock", deployment=deployment).one_or_none()
            if locked is None:
                return NOTHING
            terms = Terms.model_validate(locked.terms)
            waiting = [as_pending_run(row) for row in run(connection, "starts_waiting", deployment=deployment, now=now)]
            standing = _standing(connection, deployment, waiting, terms, now=now)
            decisions = decide(waiting, standing, terms, now=now)
            implied = NOTHING
            for decision in decisions:
                implied += _carry_out(connection, decision, now=now)
            # Of each line the first hundred were read: where some of them are gone, those behind may begin.
            settled = any(isinstance(each, Begin | Drop) for each in decisions)
            return (*implied, BeginPending(deployment=deployment)) if settled else implied

    def release(self, *, all: bool = False) -> Implied:
        """Release pending runs whose time has come. Imply the deployments that have something to begin.

        `all`: also those where anything waits.
        """
        now = self._now()
        with self._engine.begin() as connection:
            released = run(connection, "starts_release", now=now).scalars().all()
            due = run(connection, "starts_due", now=now, all=all).scalars().all()
            return tuple(BeginPending(deployment=deployment) for deployment in sorted({*released, *due}))

    def next_due(self, *, after: datetime) -> datetime | None:
        due: datetime | None = self._run("starts_next_due", after=after).scalar()
        return due

    def release_now(self, ids: Sequence[str]) -> tuple[BeginPending, ...]:
        """Let those that are collecting events go on without waiting for more.

        What holds the others holds them still.
        """
        deployments = self._run("starts_release_now", ids=list(ids)).scalars()
        return tuple(BeginPending(deployment=deployment) for deployment in sorted(set(deployments)))

    def drop(self, deployment: str, *, ids: Sequence[str] | None, user_id: str | None, reason: str) -> list[str]:
        """Drop pending runs of the deployment: these, a user's, or all. Return which."""
        with self._engine.begin() as connection:
            # Whoever lets pending runs begin holds it meanwhile, so each is either begun or dropped.
            run(connection, "control_lock", deployment=deployment)
            chosen = {"ids": None if ids is None else list(ids), "user_id": user_id}
            dropped = run(connection, "starts_drop", deployment=deployment, **chosen, reason=reason, now=self._now())
            return list(dropped.scalars())

    def get(self, ids: Iterable[str]) -> dict[str, PendingRun]:
        """Return the pending runs, by id."""
        return {row.id: as_pending_run(row) for row in self._run("starts_get", ids=list(ids))}

    def page(
        self,
        *,
        user_id: str | None = None,
        deployment: str | None = None,
        status: PendingStatus | None = None,
        before: tuple[datetime, str] | None = None,
        limit: int = 50,
    ) -> list[PendingRun]:
        """Return a page of pending runs, newest first, of a user or of all.

        `before`: the time and id of the last one of the user's page before.
        """
        before_at, before_id = before or (None, None)
        wanted = {"deployment": deployment, "status": status, "limit": limit}
        with self._engine.begin() as connection:
            if status is not None or deployment is not None:
                run(connection, "plan_anew")  # which index serves hangs on what is asked for
            if user_id is None:
                return [as_pending_run(row) for row in run_given(connection, "starts_page_of_all", **wanted)]
            of_user = {"user_id": user_id, "before_at": before_at, "before_id": before_id}
            return [as_pending_run(row) for row in run_given(connection, "starts_page", **of_user, **wanted)]


def _standing(
    connection: Connection, deployment: str, waiting: Sequence[PendingRun], terms: Terms, *, now: datetime
) -> Standing:
    """Read what is known of the keys of those that wait, as far as the terms ask for it."""
    running: list[Running] = []
    if terms.singleton is not None or terms.concurrency is not None:
        running = [Running(**row._mapping) for row in run(connection, "starts_running", deployment=deployment)]
    begun: dict[str, list[datetime]] = {}
    if terms.rate_limit is not None:
        keys, since = _keys(waiting, lambda each: each.rate_key), now - terms.rate_limit.period
        names = {"deployment": deployment, "keys": keys, "since": since, "most": terms.rate_limit.limit}
        for row in run(connection, "starts_begun", **names):
            begun.setdefault(row.key, []).append(row.settled_at)
    paced: dict[str, datetime] = {}
    if terms.throttle is not None:
        keys = _keys(waiting, lambda each: each.throttle_key)
        paced = {row.key: row.paced_until for row in run(connection, "starts_paced", deployment=deployment, keys=keys)}
    return Standing(running=running, begun=begun, paced=paced)


def _keys(waiting: Sequence[PendingRun], key: Callable[[PendingRun], str | None]) -> list[str]:
    return sorted({found for each in waiting if (found := key(each)) is not None})


def _carry_out(connection: Connection, decision: Begin | Drop | Hold, *, now: datetime) -> Implied:
    pending = decision.pending
    if isinstance(decision, Drop):
        run(connection, "start_drop", start_id=pending.id, reason=decision.reason, now=now)
        return NOTHING
    if isinstance(decision, Hold):
        run(connection, "start_hold", start_id=pending.id, reason=decision.reason, until=decision.until)
        return tuple(CancelJob(job_id=job_id) for job_id in decision.cancels)
    # An event cancels those that wait when their turn comes, and not before.
    if (event_id := run(connection, "start_cancelled", start_id=pending.id).scalar()) is not None:
        run(connection, "start_drop", start_id=pending.id, reason=f"the event {event_id} cancels it", now=now)
        return NOTHING
    kind, _, name = pending.deployment.partition("/")
    job = insert_job(
        connection,
        user_id=pending.user_id,
        kind=kind,
        deployment=name,
        start_id=pending.id,
        parameters=_parameters(connection, pending),
        depth=run(connection, "start_depth", start_id=pending.id).scalar_one(),
        slotless=True,
        now=now,
    )
    assert job is not None
    run(connection, "start_begin", start_id=pending.id, job_id=job.id, paced_until=decision.paced_until, now=now)
    return (AssignJobs(job_ids=(job.id,)),)


def _parameters(connection: Connection, pending: PendingRun) -> dict[str, Any]:
    if not pending.takes_all:
        return dict(pending.parameters)
    return {"events": list(run(connection, "start_parts", start_id=pending.id).scalars())}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A run that an event asks for."""

    deployment: str
    user_id: str
    parameters: Any
    held: Held

    @property
    def collects(self) -> bool:
        return self.held.terms.collects

    @property
    def place(self) -> tuple[str, str, str]:
        return self.deployment, self.user_id, self.held.gather_key or ""


class Holding:
    """Puts the runs that one call's events ask for on record: each has its own row, or joins one that collects.

    Those that collect are locked first, all with one statement and in one order: of two calls with the same keys the
    second waits for the first, and never the other way round.
    """

    def __init__(self, connection: Connection, asked: Sequence[Asked], *, now: datetime) -> None:
        self._connection = connection
        self._now = now
        self._new: list[PendingRun] = []
        self._changed: dict[str, PendingRun] = {}
        self._collecting: dict[tuple[str, str, str], PendingRun] = {}
        self._full: set[str] = set()
        self.deployments: set[str] = set()  # that may have something to begin
        if asked:
            self._declare({each.deployment: each.held.terms for each in asked})
            users = sorted({each.user_id for each in asked})
            self._full = set(run(connection, "starts_full", user_ids=users).scalars())
            self._lock([each for each in asked if each.collects])

    def hold(self, asked: Asked) -> dict[str, Any]:
        """Put the pending run that an event asks for on record, or let the event join one that is collecting.

        Return what is on record of it with the event: its pending run, its place there, its parameters; or why there is
        none.
        """
        pending = self._collecting.get(asked.place) if asked.collects else None
        # One that is collecting takes more events all the same: it is no further run.
        if asked.user_id in self._full and (pending is None or pending.events == 0):
            return {"reason": FULL}
        size = len(dumps(asked.parameters))
        if pending is not None and not has_capacity(pending, bytes=size):
            self._go_on(pending)
            pending = None
        if pending is None:
            pending = self._begun(asked)
        return self._join(pending, asked, size=size)

    def write(self) -> None:
        """Write the pending runs. Call it before the events' effects are written, which name them."""
        if self._changed:
            run(self._connection, "starts_write", starts=dumps([_document(each) for each in self._changed.values()]))
        if self._new:
            documents = dumps([_document(each) for each in self._new])
            run(self._connection, "starts_insert", starts=documents, now=self._now)

    def _declare(self, terms: dict[str, Terms]) -> None:
        """Put terms on record that have changed: what was declared last is what rules those that wait, too."""
        given = {deployment: each.model_dump(mode="json") for deployment, each in terms.items()}
        found = run(self._connection, "control_get", deployments=sorted(given))
        known = {row.deployment: row.terms for row in found}
        for deployment in sorted(given):
            if known.get(deployment) != given[deployment]:
                run(self._connection, "control_put", deployment=deployment, terms=dumps(given[deployment]))

    def _lock(self, asked: Sequence[Asked]) -> None:
        wanted = {each.place: each for each in asked if each.user_id not in self._full}
        if not wanted:
            return
        documents = [_document(_new_pending_run(each, now=self._now)) for each in wanted.values()]
        for row in run(self._connection, "starts_gather", starts=dumps(documents), now=self._now):
            pending = PendingRun(**dict(row._mapping) | {"status": PendingStatus(row.status)})  # to be changed
            self._collecting[pending.deployment, pending.user_id, pending.gather_key or ""] = pending
            self._changed[pending.id] = pending

    def _begun(self, asked: Asked) -> PendingRun:
        pending = _new_pending_run(asked, now=self._now)
        self._new.append(pending)
        if asked.collects:
            self._collecting[asked.place] = pending
        return pending

    def _join(self, pending: PendingRun, asked: Asked, *, size: int) -> dict[str, Any]:
        """Add an event to a pending run. The last one's keys count, as its data do."""
        _take_keys(pending, asked.held, now=self._now)
        pending.events += 1
        pending.bytes = pending.bytes + size if pending.takes_all else size
        # Where all are taken, each event's stand with its effect (`start_parts`).
        pending.parameters = {} if pending.takes_all else asked.parameters
        if not asked.collects:
            self.deployments.add(asked.deployment)
        elif is_full(pending, asked.held.terms):
            self._go_on(pending)
        else:
            pending.due_at = collects_until(pending, asked.held.terms, now=self._now)
        parameters = asked.parameters if pending.takes_all else None
        return {"start_id": pending.id, "start_n": pending.events, "parameters": parameters}

    def _go_on(self, pending: PendingRun) -> None:
        pending.status, pending.due_at = PendingStatus.WAITING, None
        del self._collecting[pending.deployment, pending.user_id, pending.gather_key or ""]
        self.deployments.add(pending.deployment)


def _new_pending_run(asked: Asked, *, now: datetime) -> PendingRun:
    pending = PendingRun(
        id=new_id("sta_"),
        deployment=asked.deployment,
        user_id=asked.user_id,
        status=PendingStatus.COLLECTING if asked.collects else PendingStatus.WAITING,
        # Not None, as the index that has one row for each key takes every NULL for another.
        gather_key=(asked.held.gather_key or "") if asked.collects else None,
        takes_all=asked.held.terms.takes_all,
        gate_key="",
        parameters={},
        events=0,
        bytes=0,
        created_at=now,
        ranked_at=now,
    )
    _take_keys(pending, asked.held, now=now)
    return pending


def _take_keys(pending: PendingRun, held: Held, *, now: datetime) -> None:
    keys = held.rate_key, held.throttle_key, held.singleton_key, held.concurrency_key
    pending.rate_key, pending.throttle_key, pending.singleton_key, pending.concurrency_key = keys
    pending.gate_key = json.dumps(keys)
    pending.priority = held.priority
    pending.ranked_at = pending.created_at - timedelta(seconds=held.priority)


def _document(pending: PendingRun) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in pending.model_dump().items()
        if name not in ("created_at", "settled_at", "paced_until", "job_id", "reason")
    }
