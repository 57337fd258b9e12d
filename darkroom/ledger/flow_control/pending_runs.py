"""Starts: runs that events ask for, under a deployment's flow control.

Events put them on record (`Holding`, in the transaction that takes the events). Who lets them begin locks the
deployment's row, reads what stands, and carries out what `control.py` decides: of several at once each sees what the
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
    decide,
    gathers_until,
    has_capacity,
    is_full,
)
from darkroom.ledger.flow_control.terms import Held, Terms
from darkroom.ledger.jobs import insert_job
from darkroom.ledger.part import Part
from darkroom.ledger.statuses import StartStatus
from darkroom.ledger.tables import new_id

FULL = "as many starts of this user wait already as the plan allows"


def as_start(row: Row[Any]) -> PendingRun:
    return plain(PendingRun, row, status=StartStatus(row.status))


class Starts(Part):
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
            waiting = [as_start(row) for row in run(connection, "starts_waiting", deployment=deployment, now=now)]
            standing = _standing(connection, deployment, waiting, terms, now=now)
            decisions = decide(waiting, standing, terms, now=now)
            implied = NOTHING
            for decision in decisions:
                implied += _carry_out(connection, decision, now=now)
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

    def release_now(self, ids: Sequence[str]) -> Implied:
        """Let those that are collecting events go on without waiting for more.

        What holds the others holds them still.
        """
        deployments = self._run("starts_release_now", ids=list(ids)).scalars()
        return tuple(BeginPending(deployment=deployment) for deployment in sorted(set(deployments)))

    def drop(self, deployment: str, *, ids: Sequence[str] | None, user_id: str | None, reason: str) -> list[str]:
        """Drop pending runs of the deployment: these, a user's, or all. Return which.

        Whoever lets pending runs begin holds the deployment's row meanwhile, so each is either begun or dropped.
        """
        with self._engine.begin() as connection:
            run(connection, "control_lock", deployment=deployment)
            chosen = {"ids": None if ids is None else list(ids), "user_id": user_id}
            dropped = run(connection, "starts_drop", deployment=deployment, **chosen, reason=reason, now=self._now())
            return list(dropped.scalars())

    def get(self, ids: Iterable[str]) -> dict[str, PendingRun]:
        """Return the pending runs, by id."""
        return {row.id: as_start(row) for row in self._run("starts_get", ids=list(ids))}

    def page(
        self,
        *,
        user_id: str | None = None,
        deployment: str | None = None,
        status: StartStatus | None = None,
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
                run(connection, "plan_anew")
            if user_id is None:
                return [as_start(row) for row in run_given(connection, "starts_page_of_all", **wanted)]
            of_user = {"user_id": user_id, "before_at": before_at, "before_id": before_id}
            return [as_start(row) for row in run_given(connection, "starts_page", **of_user, **wanted)]


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
    start = decision.start
    if isinstance(decision, Drop):
        run(connection, "start_drop", start_id=start.id, reason=decision.reason, now=now)
        return NOTHING
    if isinstance(decision, Hold):
        run(connection, "start_hold", start_id=start.id, reason=decision.reason, until=decision.until)
        return tuple(CancelJob(job_id=job_id) for job_id in decision.cancels)
    if (event_id := run(connection, "start_cancelled", start_id=start.id).scalar()) is not None:
        run(connection, "start_drop", start_id=start.id, reason=f"the event {event_id} cancels it", now=now)
        return NOTHING
    kind, _, name = start.deployment.partition("/")
    job = insert_job(
        connection,
        user_id=start.user_id,
        kind=kind,
        deployment=name,
        start_id=start.id,
        parameters=_parameters(connection, start),
        depth=run(connection, "start_depth", start_id=start.id).scalar_one(),
        slotless=True,
        now=now,
    )
    assert job is not None
    run(connection, "start_begin", start_id=start.id, job_id=job.id, paced_until=decision.paced_until, now=now)
    return (AssignJobs(job_ids=(job.id,)),)


def _parameters(connection: Connection, start: PendingRun) -> dict[str, Any]:
    if not start.takes_all:
        return dict(start.parameters)
    return {"events": list(run(connection, "start_parts", start_id=start.id).scalars())}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A start that an event asks for."""

    deployment: str
    user_id: str
    parameters: Any
    held: Held

    @property
    def gathers(self) -> bool:
        return self.held.terms.gathers

    @property
    def place(self) -> tuple[str, str, str]:
        return self.deployment, self.user_id, self.held.gather_key or ""


class Holding:
    """Puts the starts of one call's events on record: each has a row of its own, or joins one that gathers.

    Those that gather are locked first, all with one statement and in one order: of two calls with the same keys the
    second waits for the first, and never the other way round.
    """

    def __init__(self, connection: Connection, asked: Sequence[Asked], *, now: datetime) -> None:
        self._connection = connection
        self._now = now
        self._new: list[PendingRun] = []
        self._changed: dict[str, PendingRun] = {}
        self._gathering: dict[tuple[str, str, str], PendingRun] = {}
        self._full: set[str] = set()
        self.deployments: set[str] = set()  # that may have something to begin
        if asked:
            self._declare({each.deployment: each.held.terms for each in asked})
            users = sorted({each.user_id for each in asked})
            self._full = set(run(connection, "starts_full", user_ids=users).scalars())
            self._lock([each for each in asked if each.gathers])

    def hold(self, asked: Asked) -> dict[str, Any]:
        """Put the pending run that an event asks for on record, or let the event join one that is collecting.

        Return what is on record of it with the event: its pending run, its place there, its parameters; or why there is
        none.
        """
        start = self._gathering.get(asked.place) if asked.gathers else None
        if asked.user_id in self._full and (start is None or start.events == 0):
            return {"reason": FULL}
        size = len(dumps(asked.parameters))
        if start is not None and not has_capacity(start, bytes=size):
            self._go_on(start)
            start = None
        if start is None:
            start = self._begun(asked)
        return self._join(start, asked, size=size)

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
        documents = [_document(_new_start(each, now=self._now)) for each in wanted.values()]
        for row in run(self._connection, "starts_gather", starts=dumps(documents), now=self._now):
            start = PendingRun(**dict(row._mapping) | {"status": StartStatus(row.status)})  # to be changed
            self._gathering[start.deployment, start.user_id, start.gather_key or ""] = start
            self._changed[start.id] = start

    def _begun(self, asked: Asked) -> PendingRun:
        start = _new_start(asked, now=self._now)
        self._new.append(start)
        if asked.gathers:
            self._gathering[asked.place] = start
        return start

    def _join(self, start: PendingRun, asked: Asked, *, size: int) -> dict[str, Any]:
        """Add an event to a pending run. The last one's keys count, as its data do."""
        _take_keys(start, asked.held, now=self._now)
        start.events += 1
        start.bytes = start.bytes + size if start.takes_all else size
        start.parameters = {} if start.takes_all else asked.parameters
        if not asked.gathers:
            self.deployments.add(asked.deployment)
        elif is_full(start, asked.held.terms):
            self._go_on(start)
        else:
            start.due_at = gathers_until(start, asked.held.terms, now=self._now)
        parameters = asked.parameters if start.takes_all else None
        return {"start_id": start.id, "start_n": start.events, "parameters": parameters}

    def _go_on(self, start: PendingRun) -> None:
        start.status, start.due_at = StartStatus.WAITING, None
        del self._gathering[start.deployment, start.user_id, start.gather_key or ""]
        self.deployments.add(start.deployment)


def _new_start(asked: Asked, *, now: datetime) -> PendingRun:
    start = PendingRun(
        id=new_id("sta_"),
        deployment=asked.deployment,
        user_id=asked.user_id,
        status=StartStatus.GATHERING if asked.gathers else StartStatus.WAITING,
        gather_key=(asked.held.gather_key or "") if asked.gathers else None,
        takes_all=asked.held.terms.takes_all,
        gate_key="",
        parameters={},
        events=0,
        bytes=0,
        created_at=now,
        ranked_at=now,
    )
    _take_keys(start, asked.held, now=now)
    return start


def _take_keys(start: PendingRun, held: Held, *, now: datetime) -> None:
    keys = held.rate_key, held.throttle_key, held.singleton_key, held.concurrency_key
    start.rate_key, start.throttle_key, start.singleton_key, start.concurrency_key = keys
    start.gate_key = json.dumps(keys)
    start.priority = held.priority
    start.ranked_at = start.created_at - timedelta(seconds=held.priority)


def _document(start: PendingRun) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in start.model_dump().items()
        if name not in ("created_at", "settled_at", "paced_until", "job_id", "reason")
    }
