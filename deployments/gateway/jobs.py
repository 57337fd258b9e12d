"""`GET /v1/jobs`: what became of the orders. Everybody sees their own."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query

from blocks.errors import BadInput
from blocks.ledger import Job, JobStatus
from deployments.gateway.auth import UserId
from deployments.gateway.documents import JobDocument, JobPage, job_document, summary
from deployments.gateway.openapi import problem_responses
from deployments.gateway.problems import not_found
from deployments.gateway.services import ServicesOf

router = APIRouter(prefix="/v1/jobs", tags=["Jobs"])

Limit = Annotated[int, Query(ge=1, le=200, description="Most jobs on the page.")]
Cursor = Annotated[str | None, Query(max_length=200, description="`next` of the page before.")]
Status = Annotated[JobStatus | None, Query(description="Only jobs in this status.")]


@router.get("", summary="List jobs", responses=problem_responses(401, 403, 422))
def list_jobs(
    user_id: UserId, services: ServicesOf, limit: Limit = 50, cursor: Cursor = None, status: Status = None
) -> JobPage:
    """Newest first."""
    before = read_cursor(cursor) if cursor else None
    # One more than asked for tells whether there is another page.
    found = services.ledger.jobs.page(user_id, limit=limit + 1, before=before, status=status)
    page = found[:limit]
    return JobPage(items=[summary(job) for job in page], next=write_cursor(page[-1]) if len(found) > limit else None)


@router.get("/{id}", summary="Follow a job", responses=problem_responses(401, 403, 404))
def get_job(id: str, user_id: UserId, services: ServicesOf) -> JobDocument:
    """Its paid calls, its files, what it cost, and what it waits for."""
    job = services.ledger.jobs.get(id)
    if job is None or job.user_id != user_id:
        raise not_found("job")
    return job_document(job, services.ledger, services.settings)


def write_cursor(job: Job) -> str:
    return base64.urlsafe_b64encode(f"{job.created_at.isoformat()} {job.id}".encode()).decode()


def read_cursor(cursor: str) -> tuple[datetime, str]:
    try:
        created_at, _, job_id = base64.urlsafe_b64decode(cursor).decode().partition(" ")
        at = datetime.fromisoformat(created_at)
    except (binascii.Error, ValueError) as error:
        raise BadInput("This is no cursor; take `next` of the page before", field="cursor") from error
    if at.tzinfo is None or not job_id.isprintable():
        raise BadInput("This is no cursor; take `next` of the page before", field="cursor")
    return at, job_id
