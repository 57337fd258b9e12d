"""`/v1/jobs`: the outcome of the orders, and their end or another try. Everybody has their own.

The routes of one job by its id (`of_one`) stand under `/v1/admin/jobs`, too: there operators have anybody's.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Query, Response
from pydantic import AwareDatetime

from darkroom.deployments.gateway.auth import Owner, UserId
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.problems import not_found
from darkroom.deployments.gateway.routes.ordering import OrderContextOf
from darkroom.deployments.gateway.routing import whole_router
from darkroom.deployments.gateway.schemas.jobs import Accepted, JobDocument, JobPage, job_document, summaries
from darkroom.deployments.gateway.schemas.labels import MOST_TAGS
from darkroom.deployments.gateway.schemas.paging import Cursor, Limit, created, cut, read_cursor
from darkroom.deployments.gateway.services import Services, ServicesOf
from darkroom.ledger import Job, JobStatus, Search

router = whole_router(prefix="/v1/jobs", tags=["Jobs"])
of_one = APIRouter()  # no whole one: its prefix and its names are those of the address at which it stands (`app.py`)

Status = Annotated[JobStatus | None, Query(description="Only jobs in this status.")]
Kind = Annotated[str | None, Query(max_length=100, description="Only jobs of this kind.", examples=["generate-image"])]
Since = Annotated[
    AwareDatetime | None,
    Query(description="Only jobs ordered then or later. With a time zone.", examples=["2030-01-01T12:00:00Z"]),
]
Tags = Annotated[
    list[str] | None,
    Query(alias="tag", max_length=MOST_TAGS, description="Only jobs with this tag, or all of several."),
]
Text = Annotated[
    str | None,
    Query(
        alias="q",
        min_length=2,
        max_length=200,
        description="Only jobs with this text in their prompt, or the text, topic or name that they have in its place.",
    ),
]


@router.get("", summary="List jobs", responses=problem_responses(401, 403, 422))
def list_jobs(
    user_id: UserId,
    services: ServicesOf,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Status = None,
    kind: Kind = None,
    since: Since = None,
    tags: Tags = None,
    text: Text = None,
) -> JobPage:
    """Newest first. Rows of a batch are listed at `/v1/jobs/{id}/children`."""
    asked = {"status": status, "kind": kind, "since": since}
    return job_page(services, user_id, limit=limit, cursor=cursor, tags=tags, text=text, **asked)


def job_page(
    services: Services,
    user_id: str | None,
    *,
    limit: int,
    cursor: str | None,
    tags: list[str] | None,
    text: str | None,
    **asked: Any,
) -> JobPage:
    """Return a page of a user's jobs, or of everybody's."""
    search = Search(tags=tuple(tags or ()), text=text)
    before = read_cursor(cursor)
    found = services.ledger.jobs.page(user_id, limit=limit + 1, before=before, search=search, **asked)
    page, following = cut(found, limit, created)
    return JobPage(items=summaries(page, services.ledger, services.settings), next=following)


@of_one.get("/{id}", summary="Follow a job", responses=problem_responses(401, 403, 404))
def get_job(id: str, owner: Owner, services: ServicesOf) -> JobDocument:
    """Show its paid calls, its files, what it cost, and what it waits for."""
    return job_document(own_job(id, owner, services), services.ledger, services.settings)


@of_one.post(
    "/{id}/cancel",
    status_code=202,
    summary="Cancel a job",
    response_description="Asked for. The job ends when the provider is done with it.",
    responses={
        200: {"model": JobDocument, "description": "It has ended: now, or before it was asked."},
        **problem_responses(401, 403, 404),
    },
)
def cancel_job(id: str, owner: Owner, services: ServicesOf, response: Response, after: BackgroundTasks) -> JobDocument:
    """End at once what was not sent to the provider yet; cancel there what was.

    A request that already runs there usually runs on and is billed: its result is kept. To ask twice is the same as to
    ask once, and a job that has ended stays as it is.
    """
    own_job(id, owner, services)
    after.add_task(services.act_on, services.ledger.jobs.cancel(id))
    # Read anew: what had nothing at the provider has ended by it.
    document = job_document(own_job(id, owner, services), services.ledger, services.settings)
    response.status_code = 200 if document.status.terminal else 202
    return document


@of_one.post(
    "/{id}/replay",
    status_code=202,
    summary="Replay a failed or cancelled job",
    response_description="Back at work.",
    responses=problem_responses(401, 403, 404, 409),
)
def replay_job(id: str, owner: Owner, services: ServicesOf, after: BackgroundTasks) -> JobDocument:
    """Reuse what has succeeded of the job, without paying it again, and give the step that failed a new attempt."""
    own_job(id, owner, services)
    after.add_task(services.act_on, services.ledger.jobs.replay(id))
    return job_document(own_job(id, owner, services), services.ledger, services.settings)


@router.post(
    "/{id}/repeat",
    status_code=202,
    summary="Order the same again",
    response_description="A new job, on record. `Location` is where to follow it.",
    responses=problem_responses(401, 403, 404, 409, 422, 429),
)
def repeat_job(id: str, context: OrderContextOf) -> Accepted:
    """Exactly as it was, from the input on record: the provider forgets after three days, Darkroom does not."""
    own_job(id, context.user_id, context.services)
    return context.answer(context.services.ledger.jobs.repeat(id, idempotency_key=context.idempotency_key))


def own_job(id: str, owner: str | None, services: Services) -> Job:
    """Return the job. Raise 404 where it is not the owner's; None owns all."""
    job = services.ledger.jobs.get(id)
    # Somebody else's is as one that is not there: ids tell nobody anything.
    if job is None or owner not in (None, job.user_id):
        raise not_found("job")
    return job
