"""`/v1/batches`: a campaign's manifest comes in, its winners are chosen, it is paused and goes on.

A manifest is read and checked whole, in both passes, before anything is written: what is wrong is told by row and
column, and nothing was started. Rows are on record with their first calls in the answer's own transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Body, Query
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from darkroom.deployments.gateway.auth import UserId
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.problems import not_found
from darkroom.deployments.gateway.routes.jobs import own_job
from darkroom.deployments.gateway.routes.ordering import OrderContextOf
from darkroom.deployments.gateway.schemas.jobs import Accepted, ChildPage, JobDocument, child_document, job_document
from darkroom.deployments.gateway.services import Services, ServicesOf
from darkroom.errors import BadInput
from darkroom.flows.parts.batch_order import BatchOptions, IfNobody, plan_batch
from darkroom.flows.parts.trained_style import find_style
from darkroom.ledger import BATCH, Stage

router = APIRouter(tags=["Batches"])

EXAMPLE = {
    "rows": [
        {"id": "sku-1", "prompt": "a red mug on oak", "seed": 7},
        {"id": "sku-2", "prompt": "a blue mug on oak", "image_size": "square_hd"},
    ],
    "defaults": {"model": "openai/gpt-image-2"},
    "answer_within_hours": 48,
    "if_nobody_answers": "none",
}
CSV = 'id,prompt,seed\nsku-1,"a red mug, on oak",7\n'
BODIES = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/BatchOrder"},
                "examples": {"rows": {"summary": "Rows, and what is the same for all", "value": EXAMPLE}},
            },
            "text/csv": {"schema": {"type": "string"}, "example": CSV},
            "application/x-ndjson": {"schema": {"type": "string"}, "example": '{"prompt": "a red mug"}\n'},
        },
    }
}


class BatchOrder(BatchOptions):
    """Rows or a manifest, and what is the same for all."""

    rows: list[dict[str, Any]] | None = Field(None, description="Up to 10,000; each takes what a picture takes.")
    manifest: str | None = Field(None, description="The same as CSV with a header, or as JSON lines.")

    def source(self) -> str | list[dict[str, Any]]:
        if (self.rows is None) == (self.manifest is None):
            raise BadInput("Give either rows or manifest.", field="rows")
        return self.rows if self.rows is not None else str(self.manifest)


class Selection(BaseModel):
    """Which rows are rendered in the second pass."""

    model_config = ConfigDict(extra="forbid")

    winners: list[int] = Field(max_length=10_000, description="Rows from 0, in any order; an empty list chooses none.")


Id = Annotated[str, Field(max_length=100)]
Hours = Annotated[float | None, Query(gt=0, le=24 * 365, description="With CSV and JSON lines.")]
Deduplicate = Annotated[bool, Query(description="With CSV and JSON lines.")]


@router.post(
    "/v1/batches",
    status_code=202,
    summary="Order a batch",
    response_description="Every row is on record. `Location` is where to follow it.",
    responses=problem_responses(401, 403, 413, 415, 422, 429),
    openapi_extra=BODIES,
)
def order_batch(
    body: Annotated[Any, Body()],
    desk: OrderContextOf,
    deduplicate: Deduplicate = False,
    answer_within_hours: Hours = None,
    if_nobody_answers: Annotated[IfNobody, Query(description="With CSV and JSON lines.")] = "wait",
) -> Accepted:
    """Two passes: everything as a cheap draft, then what was chosen from the contact sheet, as it was asked for.

    The job says when it waits for a choice; `POST /v1/batches/{id}/selection` makes it. `estimate_usd` is for both
    passes with every row chosen. A manifest that is wrong is refused with all that is wrong in `errors`, by row and
    column, and nothing was started.
    """
    asked = {
        "deduplicate": deduplicate,
        "answer_within_hours": answer_within_hours,
        "if_nobody_answers": if_nobody_answers,
    }
    options, source = read_batch(body, asked)
    ledger = desk.services.ledger
    plan = plan_batch(source, options, style=lambda name: find_style(ledger, desk.user_id, name))
    posted = ledger.jobs.post_batch(
        user_id=desk.user_id,
        kind=BATCH,
        parameters=options.model_dump(mode="json", exclude_defaults=True) | {"manifest_sha256": _digest(plan.rows)},
        rows=plan.rows,
        drafts=plan.drafts,
        forecast=plan.forecast.document(),
        estimate_usd=plan.estimate_usd,
        idempotency_key=desk.idempotency_key,
    )
    return desk.answer(posted, estimate_usd=plan.estimate_usd)


@router.post(
    "/v1/batches/{id}/selection",
    status_code=202,
    summary="Choose the winners",
    response_description="They are being rendered.",
    responses=problem_responses(401, 403, 404, 409, 422),
)
def choose_winners(
    id: Id, selection: Selection, user_id: UserId, services: ServicesOf, after: BackgroundTasks
) -> JobDocument:
    """Rows whose draft came, by their place in the manifest from 0. The same choice again is the same as once."""
    _own_batch(id, user_id, services)
    after.add_task(services.act_on, services.ledger.batches.choose(id, selection.winners, via="api"))
    return job_document(own_job(id, user_id, services), services.ledger, services.settings)


@router.post(
    "/v1/batches/{id}/pause",
    summary="Pause a batch",
    response_description="No more of it is begun.",
    responses=problem_responses(401, 403, 404, 409),
)
def pause_batch(id: Id, user_id: UserId, services: ServicesOf) -> JobDocument:
    """Send nothing more of the batch. Let what is at the provider come to its end, and store it."""
    _own_batch(id, user_id, services)
    services.ledger.batches.pause(id)
    return job_document(own_job(id, user_id, services), services.ledger, services.settings)


@router.post(
    "/v1/batches/{id}/resume",
    summary="Let a paused batch go on",
    response_description="Its rows are in the line again.",
    responses=problem_responses(401, 403, 404, 409),
)
def resume_batch(id: Id, user_id: UserId, services: ServicesOf, after: BackgroundTasks) -> JobDocument:
    """Where it stood. A batch that is not paused stays as it is."""
    _own_batch(id, user_id, services)
    after.add_task(services.act_on, services.ledger.batches.go_on(id))
    return job_document(own_job(id, user_id, services), services.ledger, services.settings)


@router.get("/v1/jobs/{id}/children", summary="List a batch's rows", responses=problem_responses(401, 403, 404, 422))
def list_children(
    id: Id,
    user_id: UserId,
    services: ServicesOf,
    limit: Annotated[int, Query(ge=1, le=200, description="Most rows on the page.")] = 50,
    cursor: Annotated[str | None, Query(max_length=40, description="`next` of the page before.")] = None,
) -> ChildPage:
    """List the first pass in the manifest's order, then the second."""
    _own_batch(id, user_id, services)
    found = services.ledger.batches.page(id, limit=limit + 1, after=_place(cursor) if cursor else None)
    page = found[:limit]
    assets = services.ledger.assets.of_jobs([job.id for job in page])
    return ChildPage(
        items=[child_document(job, assets.get(job.id, []), services.settings) for job in page],
        next=f"{page[-1].stage}-{page[-1].manifest_row}" if len(found) > limit else None,
    )


def read_batch(body: Any, asked: dict[str, Any]) -> tuple[BatchOptions, str | bytes | Sequence[Any]]:
    """Read the options and the rows. A JSON body has both; with CSV and JSON lines the query has the options."""
    if isinstance(body, bytes):
        return BatchOptions(**asked), body
    try:
        order = BatchOrder.model_validate(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in found]) from None
    return BatchOptions.model_validate(order.model_dump(exclude={"rows", "manifest"})), order.source()


def _digest(rows: Sequence[Any]) -> str:
    """So that the same key with another manifest is told from the same one again."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr((row.n, row.name, sorted(row.picture.items()), row.same_as)).encode())
    return digest.hexdigest()


def _own_batch(id: str, user_id: str, services: Services) -> None:
    if own_job(id, user_id, services).kind != BATCH:
        raise not_found("batch")


def _place(cursor: str) -> tuple[Stage, int]:
    stage, _, n = cursor.partition("-")
    if stage not in list(Stage) or not n.isdigit():
        raise BadInput("This is no cursor; take `next` of the page before", field="cursor")
    return Stage(stage), int(n)
