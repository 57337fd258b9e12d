"""Events: each a row, with what it started and woke, all in the transaction that takes it.

Whoever is told "accepted" finds it on record with its jobs; what follows at Prefect is implied (`Implied`), and done
again by `reconcile` where it was not done. The same key from the same source is the same event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from darkroom.ledger.canonical_json import dumps
from darkroom.ledger.database import plain, run, run_given
from darkroom.ledger.effects import NOTHING, AssignJobs, BeginPending, CancelJob, Effect, Implied, NotifyRun
from darkroom.ledger.event_tables import Event, EventEffect, Wait
from darkroom.ledger.flow_control.pending_runs import Asked, Holding
from darkroom.ledger.flow_control.terms import Held
from darkroom.ledger.jobs import insert_job
from darkroom.ledger.part import Part
from darkroom.ledger.statuses import EffectKind, EventStatus, WaitStatus
from darkroom.ledger.tables import new_id
from darkroom.ledger.waits import settle

# Whether a wait's condition holds for an event's data; and why it cannot be told, as a sentence.
Matches = Callable[[str, Mapping[str, Any]], bool | str]
CANCELS_SEEN = timedelta(hours=1)  # so old a cancel is looked at again


@dataclass(frozen=True, kw_only=True)
class EventStart:
    """A deployment that an event starts; or `reason`: why it does not."""

    deployment: str  # "onboard-user/on-demand"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    held: Held | None = None  # by the deployment's flow control; None: it begins at once

    @property
    def kind(self) -> str:
        return self.deployment.partition("/")[0]

    @property
    def deployment_name(self) -> str:
        """Return the deployment's name, without the flow's."""
        return self.deployment.partition("/")[2]


@dataclass(frozen=True, kw_only=True)
class EventCancel:
    """A deployment of which an event cancels the jobs with these parameters; or `reason`: why it does not."""

    deployment: str
    match: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class NewEvent:
    """`problem`: it is refused for that, and starts nothing."""

    name: str
    user_id: str | None
    owner_id: str  # whose jobs it starts
    data: Mapping[str, Any] | None
    version: int | None = None
    depth: int = 0  # what it starts has it, too
    in_feed: bool = True  # Prefect's is told of it
    key: str | None = None
    occurred_at: datetime | None = None
    problem: Mapping[str, str] | None = None
    starts: Sequence[EventStart] = ()
    cancels: Sequence[EventCancel] = ()


@dataclass(frozen=True, kw_only=True)
class Received:
    """`id`: of the event on record; `new`: not sent before."""

    id: str
    new: bool


class Events(Part):
    def receive(self, source: str, events: Sequence[NewEvent], *, matches: Matches) -> tuple[list[Received], Implied]:
        """Put all of the events on record, or none, in their order. Several with one key are one event.

        `source`: the user whose key sent them. One about no user is for that user and its end users.
        """
        now = self._now()
        ids = [new_id("evt_") for _ in events]
        with self._engine.begin() as connection:
            # Shared by events: `Waits.for_event` takes it alone, while it looks back and puts its wait on record.
            names = sorted({event.name for event in events if event.problem is None})
            run(connection, "event_lock_names", names=names)
            given = [_document(source, id, event, now=now) for id, event in zip(ids, events, strict=True)]
            # By key, so that two who send the same ones in different orders do not wait for each other.
            given.sort(key=lambda each: each["key"] or "")
            fresh = set(run(connection, "event_insert", events=dumps(given), now=now).scalars())
            known = _known(connection, source, [event.key for event in events if event.key is not None])
            anew = [(id, event) for id, event in zip(ids, events, strict=True) if id in fresh and event.problem is None]
            waiting = _Waiting(connection, source, [event for _, event in anew], matches, now=now)
            holding = Holding(connection, [each for _, event in anew for each in _held(event)], now=now)
            implied = NOTHING
            effects: list[dict[str, Any]] = []
            for id, event in anew:
                done, more = _take_effect(connection, id, event, waiting, holding, now=now)
                effects += done
                implied += more
            holding.write()
            implied += tuple(BeginPending(deployment=deployment) for deployment in sorted(holding.deployments))
            if effects:
                run(connection, "effects_insert", effects=dumps(effects), now=now)
        received = [
            Received(id=id if id in fresh else known[str(event.key)], new=id in fresh)
            for id, event in zip(ids, events, strict=True)
        ]
        return received, implied

    def get(self, event_id: str) -> Event | None:
        row = self._run("event_get", event_id=event_id).one_or_none()
        return None if row is None else _event(row)

    def effects(self, event_id: str) -> list[EventEffect]:
        return [plain(EventEffect, row) for row in self._run("effects_of_event", event_id=event_id)]

    def page(
        self,
        *,
        source: str | None = None,
        user_id: str | None = None,
        status: EventStatus | None = None,
        before: tuple[datetime, str] | None = None,
        limit: int = 50,
    ) -> list[Event]:
        """Return a page of events, newest first. `before`: the time and id of the last one of the page before."""
        before_at, before_id = before or (None, None)
        wanted = {"source": source, "user_id": user_id, "status": status}
        page = {"before_at": before_at, "before_id": before_id, "limit": limit}
        with self._engine.begin() as connection:
            if status is not None:  # the refused are few among many, and have an index of their own
                run(connection, "plan_anew")
            return [_event(row) for row in run_given(connection, "events_page", **wanted, **page)]

    def unpublished(self, *, before: datetime, limit: int) -> list[Event]:
        """Return the accepted events that Prefect does not have in its feed yet, oldest first.

        `before`: they came in before that time.
        """
        return [_event(row) for row in self._run("events_unpublished", before=before, limit=limit)]

    def cancels_undone(self) -> list[str]:
        """Return jobs that an event cancels, and that nobody has cancelled after it was on record."""
        return list(self._run("cancels_undone", since=self._now() - CANCELS_SEEN).scalars())

    def published(self, event_ids: Sequence[str]) -> None:
        self._run("events_published", ids=list(event_ids), now=self._now())


def _document(source: str, id: str, event: NewEvent, *, now: datetime) -> dict[str, Any]:
    return {
        "id": id,
        "source": source,
        "key": event.key,
        "user_id": event.user_id,
        "name": event.name,
        "version": event.version,
        "data": event.data,
        "depth": event.depth,
        "in_feed": event.in_feed,
        "status": EventStatus.ACCEPTED if event.problem is None else EventStatus.REFUSED,
        "problem": event.problem,
        "occurred_at": (event.occurred_at or now).isoformat(),
    }


def _known(connection: Connection, source: str, keys: list[str]) -> dict[str, str]:
    if not keys:
        return {}
    return {row.key: row.id for row in run(connection, "events_by_key", source=source, keys=keys)}


class _Waiting:
    """The open waits that the events of one call could end: all read, and locked in one order, with one statement."""

    def __init__(
        self, connection: Connection, source: str, events: Sequence[NewEvent], matches: Matches, *, now: datetime
    ) -> None:
        self._connection = connection
        self._matches = matches
        self._now = now
        self._open: dict[str, list[Wait]] = {}  # by the event's name
        if not events:
            return
        found = run(
            connection,
            "waits_open_for",
            source=source,
            names=sorted({event.name for event in events}),
            about_anybody=sorted({event.name for event in events if event.user_id is None}),
            user_ids=sorted({event.user_id for event in events if event.user_id is not None}),
            now=now,
        )
        for row in found:
            wait = plain(Wait, row)
            self._open.setdefault(str(wait.event_name), []).append(wait)

    def woken_by(self, event_id: str, event: NewEvent) -> Iterator[tuple[Wait, str | None]]:
        """Yield every wait that is asked, with None if this event ended it, else with the reason why it did not."""
        for wait in self._open.get(event.name, [])[:]:  # a copy: those that it ends are taken out
            if event.user_id not in (None, wait.user_id):
                continue
            verdict = self._matches(wait.match, event.data or {}) if wait.match else True
            if verdict is not True:
                yield wait, verdict if isinstance(verdict, str) else f"its data does not match: {wait.match}"
                continue
            self._open[event.name].remove(wait)  # the next event of the call is for those that are left
            settle(self._connection, wait, WaitStatus.RECEIVED, by="event", event_id=event_id, now=self._now)
            yield wait, None


def _held(event: NewEvent) -> list[Asked]:
    return [_asked(event, start, start.held) for start in event.starts if start.held and start.reason is None]


def _asked(event: NewEvent, start: EventStart, held: Held) -> Asked:
    return Asked(deployment=start.deployment, user_id=event.owner_id, parameters=dict(start.parameters), held=held)


def _take_effect(
    connection: Connection, event_id: str, event: NewEvent, waiting: _Waiting, holding: Holding, *, now: datetime
) -> tuple[list[dict[str, Any]], Implied]:
    effects: list[dict[str, Any]] = []
    implied: list[Effect] = []

    def note(what: EffectKind, **details: Any) -> None:
        effects.append({"event_id": event_id, "n": len(effects), "what": what, **details})

    for cancel in event.cancels:
        if cancel.reason is not None:
            note(EffectKind.NOT_CANCELLED, deployment=cancel.deployment, reason=cancel.reason)
            continue
        note(EffectKind.CANCELS, deployment=cancel.deployment, parameters=dict(cancel.match))
        for job_id in _matching(connection, event.owner_id, cancel):
            note(EffectKind.CANCELLED, deployment=cancel.deployment, job_id=job_id)
            implied.append(CancelJob(job_id=job_id))
    for start in event.starts:
        if start.reason is not None:
            note(EffectKind.NOT_STARTED, deployment=start.deployment, reason=start.reason)
            continue
        if start.held is not None:
            kept = holding.hold(_asked(event, start, start.held))
            what = EffectKind.NOT_STARTED if "reason" in kept else EffectKind.HELD
            note(what, deployment=start.deployment, **kept)
            continue
        row = insert_job(
            connection,
            user_id=event.owner_id,
            kind=start.kind,
            deployment=start.deployment_name,
            parameters=start.parameters,
            depth=event.depth,
            slotless=True,
            now=now,
        )
        assert row is not None
        note(EffectKind.STARTED, deployment=start.deployment, job_id=row.id)
        implied.append(AssignJobs(job_ids=(row.id,)))
    for wait, reason in waiting.woken_by(event_id, event):
        if reason is not None:
            note(EffectKind.NOT_WOKEN, job_id=wait.job_id, wait_id=wait.id, reason=reason)
        else:
            note(EffectKind.WOKE, job_id=wait.job_id, wait_id=wait.id)
            implied.append(NotifyRun(job_id=wait.job_id))
    return effects, tuple(implied)


def _matching(connection: Connection, user_id: str, cancel: EventCancel) -> Sequence[str]:
    """Return the user's jobs that the event cancels: those that are there before it starts any."""
    kind, _, name = cancel.deployment.partition("/")
    match = dumps(dict(cancel.match))
    return run(connection, "jobs_to_cancel", user_id=user_id, kind=kind, deployment=name, match=match).scalars().all()


def _event(row: Any) -> Event:
    return plain(Event, row, status=EventStatus(row.status))
