"""`/v1/waits`: what a job waits for beside paid calls, ended or given another time by hand.

Everybody has their own; under `/v1/admin/waits` they are anybody's, for operators.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Body
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from darkroom.clock import utc_now
from darkroom.deployments.gateway.auth import Owner
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.problems import not_found
from darkroom.deployments.gateway.schemas.waits import WaitDocument, wait_document
from darkroom.deployments.gateway.services import Services, ServicesOf
from darkroom.errors import BadInput
from darkroom.ledger import Wait

router = APIRouter()  # no whole one, as it stands at two addresses (`app.py`)

LONGEST = timedelta(days=100 * 366)


class Extension(BaseModel):
    model_config = ConfigDict(extra="forbid")

    until: AwareDatetime = Field(
        description="With a time zone; sooner or later than before.", examples=["2030-01-01T12:00:00Z"]
    )


@router.get("/{id}", summary="Look at a wait", responses=problem_responses(401, 403, 404))
def get_wait(id: str, owner: Owner, services: ServicesOf) -> WaitDocument:
    """Show one of the `waits` of a job."""
    return wait_document(_own(id, owner, services))


@router.post(
    "/{id}/wake",
    summary="End a wait now",
    response_description="Over. The job goes on.",
    responses=problem_responses(401, 403, 404, 409),
)
def wake_wait(id: str, owner: Owner, services: ServicesOf, after: BackgroundTasks) -> WaitDocument:
    """End the wait as if its time were over: a sleep has passed, an event has not come.

    Not one that waits for another job.
    """
    _own(id, owner, services)
    wait, implied = services.ledger.waits.wake(id)
    after.add_task(services.act_on, implied)
    return wait_document(wait)


@router.post(
    "/{id}/extend",
    summary="Give a wait another time",
    response_description="It lasts until then.",
    responses=problem_responses(401, 403, 404, 409, 413, 415, 422),
)
def extend_wait(
    id: str, extension: Annotated[Extension, Body()], owner: Owner, services: ServicesOf, after: BackgroundTasks
) -> WaitDocument:
    """Longer or shorter than before."""
    _own(id, owner, services)
    wait, implied = services.ledger.waits.extend(id, until=bounded(extension.until))
    after.add_task(services.act_on, implied)
    return wait_document(wait)


def bounded(until: datetime) -> datetime:
    """Return the time. Raise BadInput for one that nobody can mean."""
    if until > utc_now() + LONGEST:
        raise BadInput("It is more than a hundred years away.", field="until")
    return until


def _own(id: str, owner: str | None, services: Services) -> Wait:
    wait = services.ledger.waits.get(id)
    if wait is None or owner not in (None, wait.user_id):
        raise not_found("wait")
    return wait
