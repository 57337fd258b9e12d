"""`/v1/events`: what happens in a user's application comes in, one or ten thousand at a time.

Each event is a row when it is answered, with the jobs it started and the waits it ended, in one transaction; one that
is refused is a row too. What follows at Prefect is done after the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import BackgroundTasks, Body, Query, Response
from pydantic import Field

from darkroom.deployments.gateway.auth import Acting, ActingCaller
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.problem_hints import remedy_of
from darkroom.deployments.gateway.problems import Problem, not_found
from darkroom.deployments.gateway.routes.pending_runs import PendingRunDocument, pending_run_document
from darkroom.deployments.gateway.routing import whole_router
from darkroom.deployments.gateway.schemas.base import Document
from darkroom.deployments.gateway.schemas.paging import Cursor, Limit, cut, read_cursor
from darkroom.deployments.gateway.services import Services, ServicesOf
from darkroom.events import MOST_EVENTS, IngestResult, Sender
from darkroom.events.ingest import Envelope
from darkroom.events.ingest import Problem as Refusal
from darkroom.ledger import EffectKind, Event, EventEffect, EventStatus, PendingRun

router = whole_router(tags=["Events"])

ONE = {
    "name": "user.signed_up",
    "data": {"account": "4711", "email": "ann@example.com", "plan": "studio"},
    "id": "signup-4711",
}
MANY = [
    {"name": "order.placed", "data": {"order": "o-1", "total_cents": 1900}, "user": "4711"},
    {"name": "order.placed", "data": {"order": "o-2", "total_cents": 4900}, "user": "4712"},
]
_ENVELOPE = Envelope.model_json_schema()
_IN_LIST = {"description": "As one that is sent alone. What is none is refused in its line; the others are taken."}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"anyOf": [_ENVELOPE, {"type": "array", "items": _IN_LIST, "maxItems": MOST_EVENTS}]},
                "examples": {
                    "one": {"summary": "One event", "value": ONE},
                    "many": {"summary": "Many, with the key of a service", "value": MANY},
                },
            }
        },
    }
}


class EventProblem(Document):
    """Why it was refused."""

    field: str = Field(examples=["data.email"])
    message: str


class EventLine(Document):
    """The outcome of one event."""

    id: str = Field(description="Of its row; see GET /v1/events/{id}.", examples=["evt_019aa1f0c5d2"])
    status: EventStatus
    new: bool = Field(description="False if this event was sent before: nothing was started again.")
    problem: EventProblem | None


class EventEffectDocument(Document):
    """Something that the event started or woke, or did not."""

    what: EffectKind
    deployment: str | None = Field(examples=["onboard-user/on-demand"])
    job_id: str | None
    wait_id: str | None
    pending_run: PendingRunDocument | None = Field(description="held: the run that it asks for, and its outcome.")
    pending_run_n: int | None = Field(description="Its place among the events of that run, from 1.")
    start: PendingRunDocument | None = Field(
        description="`pending_run` by its name in 0.1.", json_schema_extra={"deprecated": True}
    )
    start_n: int | None = Field(
        description="`pending_run_n` by its name in 0.1.", json_schema_extra={"deprecated": True}
    )
    passed_on: bool | None = Field(
        description="Whether that run is given what this event says; false: a later one has taken its place."
    )
    reason: str | None = Field(description="Why it did not.", examples=["its condition does not hold: …"])


class EventSummary(Document):
    id: str = Field(examples=["evt_019aa1f0c5d2"])
    name: str
    v: int | None = Field(description="The version of its data.")
    sent_id: str | None = Field(description="Your own id of it.")
    user_id: str | None = Field(description="Whom it is about; null if nobody in particular.")
    status: EventStatus
    problem: EventProblem | None
    data: dict[str, Any] | None
    ts: datetime = Field(description="When it happened, as its sender says.")
    received_at: datetime


class EventDocument(EventSummary):
    effects: list[EventEffectDocument] = Field(description="In the order in which they happened.")


class EventPage(Document):
    items: list[EventSummary]
    next: str | None = Field(description="The `cursor` of the next page; null on the last.")


@router.post(
    "/v1/events",
    status_code=202,
    summary="Send events",
    response_model=EventLine | list[EventLine],
    response_description="On record, with what it started. For a list one line for each, in its order.",
    responses=problem_responses(401, 403, 413, 415, 422),
    openapi_extra=BODY,
)
def send_events(
    body: Annotated[Any, Body()],
    caller: ActingCaller,
    services: ServicesOf,
    response: Response,
    after: BackgroundTasks,
) -> EventLine | list[EventLine]:
    """Send one event, or a list of up to 10,000 (8 MiB).

    Every event is put on record. One that is refused is kept with what was wrong: sent alone it is answered with a
    problem whose `instance` is where it is kept; in a list its line says so, and the others are taken all the same.

    Give each your own `id`, and you can send it again after a time-out: it is the same event. A refused one can be
    sent again, put right, with the same `id`.

    With your own key events are about you. With the key of a service they are about the end user in `user`, or in the
    header `Darkroom-User`, or about no user.
    """
    alone = not isinstance(body, list)
    taken, implied = services.ingest.take(_sender(caller, services), [body] if alone else body)
    after.add_task(services.act_on, implied)
    # Not after the answer: both are other threads', and what they look for is committed.
    services.publisher.wake()
    services.admitter.poll_pending_runs()
    if not alone:
        return [_line(each) for each in taken]
    (one,) = taken
    if one.problem is not None:
        raise refused(one.id, one.problem)
    response.headers["Location"] = f"/v1/events/{one.id}"
    return _line(one)


@router.get("/v1/events/{id}", summary="See what an event did", responses=problem_responses(401, 403, 404))
def show_event(id: Annotated[str, Field(max_length=100)], caller: ActingCaller, services: ServicesOf) -> EventDocument:
    """Show what the event started and woke; and what it did not, with the reason."""
    event = services.ledger.events.get(id)
    if event is None or not _may_see(caller, event, services):
        raise not_found("event")
    return EventDocument(**_head(event), effects=_effects(services, id))


@router.get("/v1/events", summary="List your events", responses=problem_responses(401, 403, 422))
def list_events(
    caller: ActingCaller,
    services: ServicesOf,
    status: Annotated[EventStatus | None, Query(description="Only these: `refused` are kept to be looked at.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> EventPage:
    """List those that were sent with your key, newest first."""
    end_user = None if caller.user_id == caller.key_user_id else caller.user_id
    found = services.ledger.events.page(
        source=caller.key_user_id, user_id=end_user, status=status, before=read_cursor(cursor), limit=limit + 1
    )
    page, following = cut(found, limit, lambda event: (event.received_at, event.id))
    return EventPage(items=[EventSummary(**_head(event)) for event in page], next=following)


def _sender(caller: Acting, services: Services) -> Sender:
    """Return who sends an event, and which users it may be about."""
    users = services.ledger.users
    if caller.service:
        return Sender(
            source=caller.key_user_id,
            owner_id=caller.user_id,
            user_id=None,  # unless they name one of its users
            named=lambda names: users.end_users(caller.user_id, names),
        )

    def only_oneself(names: Sequence[str]) -> Mapping[str, str]:
        own = {caller.user_id, users.find(caller.user_id).name}
        return {name: caller.user_id for name in names if name in own}

    return Sender(source=caller.key_user_id, owner_id=caller.user_id, user_id=caller.user_id, named=only_oneself)


def _may_see(caller: Acting, event: Event, services: Services) -> bool:
    """Tell whether the caller may see the event.

    A caller sees what they have sent, and what is about themselves; a service also what is about its users, whoever
    sent it.
    """
    if event.user_id == caller.user_id:
        return True
    if event.source == caller.key_user_id:
        return caller.user_id == caller.key_user_id  # acting for an end user, it sees what is about that one alone
    if not caller.service or event.user_id is None:
        return False
    return services.ledger.users.find(event.user_id).parent_id == caller.user_id


def _line(taken: IngestResult) -> EventLine:
    status = EventStatus.ACCEPTED if taken.problem is None else EventStatus.REFUSED
    problem = taken.problem and EventProblem(field=taken.problem.field, message=taken.problem.message)
    return EventLine(id=taken.id, status=status, new=taken.new, problem=problem)


def refused(id: str, why: Refusal) -> Problem:
    """Return the problem of an event that was sent alone."""
    return Problem(
        403 if why.code == "forbidden" else 422,
        f"{why.field}: {why.message}",
        field=why.field,
        remedy=remedy_of(why.message),
        instance=f"/v1/events/{id}",
    )


def _effects(services: Services, event_id: str) -> list[EventEffectDocument]:
    found = services.ledger.events.effects(event_id)
    runs = services.ledger.pending_runs.get([each.start_id for each in found if each.start_id is not None])
    return [_effect(each, runs.get(each.start_id or "")) for each in found]


def _effect(effect: EventEffect, pending: PendingRun | None) -> EventEffectDocument:
    document = None if pending is None else pending_run_document(pending)
    return EventEffectDocument(
        what=effect.what,
        deployment=effect.deployment,
        job_id=effect.job_id,
        wait_id=effect.wait_id,
        pending_run=document,
        pending_run_n=effect.start_n,
        start=document,
        start_n=effect.start_n,
        # Of events that become one run it is given all, or the last alone.
        passed_on=None if pending is None else pending.takes_all or effect.start_n == pending.events,
        reason=effect.reason,
    )


def _head(event: Event) -> dict[str, Any]:
    problem = event.problem
    return {
        "id": event.id,
        "name": event.name,
        "v": event.version,
        # A refused one leaves its id free, so that it can be sent again with it, put right.
        "sent_id": event.key or (problem or {}).get("id"),
        "user_id": event.user_id,
        "status": event.status,
        "problem": problem and {"field": problem["field"], "message": problem["message"]},
        "data": event.data,
        "ts": event.occurred_at,
        "received_at": event.received_at,
    }
