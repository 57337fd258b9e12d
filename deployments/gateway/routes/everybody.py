"""What operators see and do beside their own: everybody's jobs, pending runs and spending, under `/v1/admin`.

One job or wait by its id is served by the routes of its owner, which stand at both addresses (`app.py`).
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import BackgroundTasks, Body, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from darkroom.deployments.gateway.auth import acting_caller
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.problems import Problem
from darkroom.deployments.gateway.routes.jobs import Kind, Since, Status, Tags, Text, job_page
from darkroom.deployments.gateway.routes.operations import UserQuery, id_of
from darkroom.deployments.gateway.routes.pending_runs import PendingRunDocument, State, pending_run_document
from darkroom.deployments.gateway.routes.usage import IN_BOTH_FORMS, Form, From, GroupBy, To, UsageDocument, answer
from darkroom.deployments.gateway.routing import whole_router
from darkroom.deployments.gateway.schemas.base import Document, either
from darkroom.deployments.gateway.schemas.jobs import JobPage
from darkroom.deployments.gateway.schemas.paging import Cursor, Limit
from darkroom.deployments.gateway.services import Services, ServicesOf
from darkroom.errors import BadInput
from darkroom.ledger import MOST_REASON, PendingRun, PendingStatus

router = whole_router(
    prefix="/v1/admin",
    tags=["Admin"],
    dependencies=[Depends(acting_caller)],  # the endpoints need not know who calls: this alone asks for the key
    responses=problem_responses(401, 403, 422),
)

MOST_AT_ONCE = 1000
PendingRunIds = Annotated[list[Annotated[str, Field(max_length=100)]], Field(min_length=1, max_length=MOST_AT_ONCE)]


class HeldRuns(Document):
    items: list[PendingRunDocument]


class ReleaseOrder(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ids: PendingRunIds = Field(description="Of pending runs that gather events.", examples=[["sta_019aa1f0c5d2"]])


class DropOrder(BaseModel):
    """Pending runs by their ids, or all that is held of a deployment, or of it for one user."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=either("ids", "deployment"))

    ids: PendingRunIds | None = None
    deployment: str | None = Field(None, min_length=1, max_length=200, examples=["sync-profile/debounced"])
    user: str | None = Field(None, min_length=1, max_length=200, description="With `deployment`: a name or an id.")
    reason: str = Field(min_length=1, max_length=MOST_REASON, pattern=r"\S", examples=["The import was a mistake."])


class DroppedDocument(Document):
    dropped: list[str] = Field(description="Ids of those of which nothing begins.")


@router.get("/jobs", summary="List everybody's jobs")
def list_jobs_of_all(
    services: ServicesOf,
    user: UserQuery = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Status = None,
    kind: Kind = None,
    since: Since = None,
    tags: Tags = None,
    text: Text = None,
) -> JobPage:
    """List as `GET /v1/jobs` does, whosever they are."""
    asked = {"status": status, "kind": kind, "since": since}
    return job_page(services, id_of(user, services), limit=limit, cursor=cursor, tags=tags, text=text, **asked)


@router.get(
    "/usage",
    summary="See what everybody spent",
    responses={200: IN_BOTH_FORMS},
    response_model=UsageDocument,
)
def get_usage_of_all(
    services: ServicesOf,
    user: UserQuery = None,
    begin: From = None,
    end: To = None,
    group_by: GroupBy = "model",
    form: Form = "json",
) -> Any:
    """Tell as `GET /v1/usage` does, whosever it is; of one user, with the end users where it is a service."""
    return answer(services, begin, end, group_by=group_by, form=form, user_id=id_of(user, services))


@router.get("/pending-runs", summary="List what flow control holds of everybody's")
def list_pending_runs_of_all(
    services: ServicesOf,
    state: Annotated[State | None, Query(description="Only these.")] = None,
    deployment: Annotated[str | None, Query(max_length=200, description="Only of this one.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Most of them.")] = 50,
) -> HeldRuns:
    """List them newest first: those that wait, and the outcome of the others."""
    status = None if state is None else PendingStatus[state.upper()]
    found = services.ledger.pending_runs.page(deployment=deployment, status=status, limit=limit)
    return HeldRuns(items=[pending_run_document(each) for each in found])


@router.post(
    "/pending-runs/release",
    summary="Let pending runs go on now",
    responses=problem_responses(404, 413, 415),
)
def release_pending_runs(
    order: Annotated[ReleaseOrder, Body()], services: ServicesOf, after: BackgroundTasks
) -> HeldRuns:
    """Let those that gather events gather no more. What holds the others holds them still."""
    _known(order.ids, services)  # before any is let go on: one that is not there refuses all of them
    for each in services.ledger.pending_runs.release_now(order.ids):
        # Here, so that the answer tells what has begun.
        after.add_task(services.act_on, services.ledger.pending_runs.begin(each.deployment))
    return HeldRuns(items=[pending_run_document(each) for each in _known(order.ids, services)])


@router.post("/pending-runs/drop", summary="Drop pending runs", responses=problem_responses(404, 413, 415))
def drop_pending_runs(order: Annotated[DropOrder, Body()], services: ServicesOf) -> DroppedDocument:
    """Let nothing begin. The reason stands in the document of each event."""
    held = services.ledger.pending_runs
    if (order.ids is None) == (order.deployment is None) or (order.user is not None and order.deployment is None):
        raise BadInput("Name either pending runs, or their deployment (and user).", field="ids")
    if order.deployment is not None:
        owner = id_of(order.user, services)
        return DroppedDocument(dropped=held.drop(order.deployment, ids=None, user_id=owner, reason=order.reason))
    # By deployment, as the ledger locks its row against who lets pending runs begin meanwhile.
    deployments = sorted({each.deployment for each in _known(order.ids or [], services)})
    dropped = [held.drop(name, ids=order.ids, user_id=None, reason=order.reason) for name in deployments]
    return DroppedDocument(dropped=[id for each in dropped for id in each])


def _known(ids: list[str], services: Services) -> list[PendingRun]:
    found = services.ledger.pending_runs.get(ids)
    if missing := [id for id in ids if id not in found]:
        raise Problem(
            404,
            f"There is no pending run {missing[0]}.",
            field="ids",
            remedy="GET /v1/admin/pending-runs lists them.",
        )
    return [found[id] for id in ids]
