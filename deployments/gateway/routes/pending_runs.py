"""`/v1/pending-runs`: runs that events have asked for under flow control. `/v1/starts` is their name of before.

Each is shown from the first event to a job, or to the reason why there is none.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from darkroom.deployments.gateway.auth import UserId
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.problems import not_found
from darkroom.deployments.gateway.schemas.base import Document
from darkroom.deployments.gateway.schemas.paging import Cursor, Limit, created, cut, read_cursor
from darkroom.deployments.gateway.services import ServicesOf
from darkroom.ledger import PendingRun, PendingStatus

State = Literal["collecting", "waiting", "started", "dropped"]

router = APIRouter(tags=["Events"])  # no whole one, as it stands at two addresses (`app.py`)


class PendingRunDocument(Document):
    """A run that events ask for, under its deployment's flow control."""

    id: str = Field(examples=["sta_019aa1f0c5d2"])
    deployment: str = Field(examples=["sync-profile/debounced"])
    state: str = Field(
        description="collecting: more events may join it; waiting: for its turn; started: as a job; dropped: nothing "
        "begins, for the reason given.",
        json_schema_extra={"enum": [status.word for status in PendingStatus]},
    )
    status: PendingStatus = Field(
        description="`state` in the words of 0.1: gathering, waiting, begun, dropped.",
        json_schema_extra={"deprecated": True},
    )
    events: int = Field(description="How many it stands for.")
    until: datetime | None = Field(description="collecting: it goes on then; waiting: it begins then at the earliest.")
    reason: str | None = Field(
        description="Why nothing begins, or not yet.", examples=["10 of its key begin each 60 s (throttle)"]
    )
    job_id: str | None = Field(description="Once it has begun.")
    created_at: datetime = Field(description="When its first event came.")
    settled_at: datetime | None = Field(description="When it began, or was dropped.")


class PendingRunPage(Document):
    items: list[PendingRunDocument]
    next: str | None = Field(description="`cursor` of the next page; null on the last.")


@router.get("", summary="List what flow control holds", responses=problem_responses(401, 403, 422))
def list_pending_runs(
    user_id: UserId,
    services: ServicesOf,
    state: Annotated[State | None, Query(description="Only these.")] = None,
    status: Annotated[PendingStatus | None, Query(description="`state` in the words of 0.1.", deprecated=True)] = None,
    deployment: Annotated[str | None, Query(max_length=200, description="Only of this one.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> PendingRunPage:
    """List the runs that your events ask for, newest first: those that wait, and the outcome of the others."""
    found = services.ledger.pending_runs.page(
        user_id=user_id,
        deployment=deployment,
        status=status if state is None else PendingStatus[state.upper()],
        before=read_cursor(cursor),
        limit=limit + 1,
    )
    page, following = cut(found, limit, created)
    return PendingRunPage(items=[pending_run_document(pending) for pending in page], next=following)


@router.get("/{id}", summary="Look at a pending run", responses=problem_responses(401, 403, 404))
def get_pending_run(
    id: Annotated[str, Field(max_length=100)], user_id: UserId, services: ServicesOf
) -> PendingRunDocument:
    """Show the run, by the id that events name it by."""
    pending = services.ledger.pending_runs.get([id]).get(id)
    if pending is None or pending.user_id != user_id:
        raise not_found("pending run")
    return pending_run_document(pending)


def pending_run_document(pending: PendingRun) -> PendingRunDocument:
    return PendingRunDocument(
        id=pending.id,
        deployment=pending.deployment,
        state=PendingStatus(pending.status).word,
        status=pending.status,
        events=pending.events,
        until=pending.due_at,
        reason=pending.reason,
        job_id=pending.job_id,
        created_at=pending.created_at,
        settled_at=pending.settled_at,
    )
