"""`/v1/batches`: a campaign's manifest comes in, its winners are chosen, it is paused and goes on.

A manifest is read and checked whole, in both passes, before anything is written: what is wrong is told by row and
column, and nothing was started. Rows are on record with their first calls in the answer's own transaction.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Body, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import AwareDatetime, ConfigDict, Field, ValidationError

from darkroom.batches.json_rows import DEEPEST, nested_deeper
from darkroom.batches.winners import LONGEST, parse_winners
from darkroom.deployments.gateway.auth import UserId
from darkroom.deployments.gateway.limits import declared_charset
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.problems import not_found
from darkroom.deployments.gateway.routes.jobs import own_job
from darkroom.deployments.gateway.routes.ordering import OrderContextOf
from darkroom.deployments.gateway.schemas.base import either
from darkroom.deployments.gateway.schemas.batches import SelectionQuote, selection_quote
from darkroom.deployments.gateway.schemas.jobs import Accepted, ChildPage, JobDocument, child_documents, job_document
from darkroom.deployments.gateway.schemas.labels import FIELDS, Labelled
from darkroom.deployments.gateway.schemas.paging import no_cursor
from darkroom.deployments.gateway.services import Services, ServicesOf
from darkroom.errors import BadInput
from darkroom.flows.orders.generation import require_own_files
from darkroom.flows.parts.batch_order import BatchOptions, IfNobody, plan_batch, price_of_finals
from darkroom.flows.parts.trained_style import find_style
from darkroom.ledger import BATCH, Batch, BatchPass, JobStatus, Labels
from darkroom.order import ExactNumbers

router = APIRouter(tags=["Batches"])

EXAMPLE = {
    "rows": [
        {"id": "sku-1", "prompt": "a red mug on oak"},
        {"id": "sku-2", "prompt": "a blue mug on oak", "image_size": "square_hd"},
    ],
    "defaults": {"model": "openai/gpt-image-2"},
    "answer_within_hours": 48,
    "if_nobody_answers": "none",
}
CSV = 'id,prompt,seed\nsku-1,"a red mug, on oak",7\n'
TEXT = {"type": "string", "minLength": 1}
BODIES = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/BatchOrder"},
                "examples": {"rows": {"summary": "Rows, and what is the same for all", "value": EXAMPLE}},
            },
            "text/csv": {"schema": TEXT, "example": CSV},
            "text/tab-separated-values": {"schema": TEXT, "example": "id\tprompt\nsku-1\ta red mug\n"},
            "application/x-ndjson": {"schema": TEXT | {"description": "An object to each line."}},
        },
    }
}


class BatchOrder(Labelled, BatchOptions):
    """Rows or a manifest, and what is the same for all."""

    model_config = ConfigDict(json_schema_extra=either("rows", "manifest"))

    rows: list[dict[str, Any]] | None = Field(
        None, description="Up to 10,000; each takes what a picture takes, or what its model does."
    )
    manifest: str | None = Field(None, description="The same as CSV with a header, or as JSON lines.")

    def source(self) -> str | list[dict[str, Any]]:
        if (self.rows is None) == (self.manifest is None):
            raise BadInput("Give either rows or manifest.", field="rows")
        return self.rows if self.rows is not None else str(self.manifest)


class BatchAccepted(Accepted):
    """The batch is on record and will be carried out."""

    warnings: list[str] = Field(
        [],
        description="How what is not usual in the manifest was understood, e.g. a character set that was guessed.",
    )


class Selection(ExactNumbers):
    """Which rows are rendered in the second pass: one of both fields."""

    model_config = ConfigDict(extra="forbid")

    winners: list[int] | None = Field(
        None,
        max_length=10_000,
        description="Rows by their place in the manifest from 0 (a child's `row`), in any order; an empty list chooses "
        "none.",
    )
    numbers: str | None = Field(
        None,
        max_length=LONGEST,
        description="As in Prefect's form: numbers on the contact sheet from 1 (a child's `number`), `all` or `none`.",
        examples=["3, 7, 12-20"],
    )


ROW = f"^(({'|'.join(BatchPass)})-[0-9]{{1,9}})?$"  # of the last row on a page
_ROW = re.compile(ROW)
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
    request: Request,
    body: Annotated[Any, Body()],
    context: OrderContextOf,
    deduplicate: Deduplicate = False,
    answer_within_hours: Hours = None,
    if_nobody_answers: Annotated[IfNobody, Query(description="With CSV and JSON lines.")] = "wait",
) -> BatchAccepted:
    """Order two passes: everything as a cheap draft, then what was chosen from the contact sheet, as it was asked for.

    The job says when it waits for a choice; `POST /v1/batches/{id}/selection` makes it. `estimate_usd` is for both
    passes with every row chosen. A manifest that is wrong is refused with all that is wrong in `errors`, by row and
    column, and nothing was started. What was not sure and was taken nevertheless is in `warnings`.
    """
    asked = {
        "deduplicate": deduplicate,
        "answer_within_hours": answer_within_hours,
        "if_nobody_answers": if_nobody_answers,
    }
    options, source, labels = read_batch(body, asked)
    ledger = context.services.ledger
    plan = plan_batch(
        source,
        options,
        style=lambda name: find_style(ledger, context.user_id, name),
        files=partial(require_own_files, ledger, user_id=context.user_id),
        charset=declared_charset(request.headers),
    )
    posted = ledger.jobs.post_batch(
        user_id=context.user_id,
        kind=BATCH,
        # The digest in place of the rows, which are on record for themselves: a repeated key is told by it.
        parameters=options.model_dump(mode="json", exclude_defaults=True) | {"manifest_sha256": _digest(plan.rows)},
        rows=plan.rows,
        drafts=plan.drafts,
        forecast=plan.forecast.document(),
        estimate_usd=plan.estimate_usd,
        labels=context.checked(labels),
        idempotency_key=context.idempotency_key,
    )
    answer = context.answer(posted, estimate_usd=plan.estimate_usd)
    return BatchAccepted(**dict(answer), warnings=list(plan.warnings))


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
    """Rows whose draft came, as `winners` or as `numbers`. The same choice again is the same as once."""
    _own_batch(id, user_id, services)
    winners = _chosen(selection, id, services)
    after.add_task(services.act_on, services.ledger.batches.choose(id, winners, via="api"))
    return job_document(own_job(id, user_id, services), services.ledger, services.settings)


@router.post(
    "/v1/batches/{id}/selection/quote",
    summary="Ask what a choice would cost",
    responses=problem_responses(401, 403, 404, 409, 422),
)
def quote_winners(id: Id, selection: Selection, user_id: UserId, services: ServicesOf) -> SelectionQuote:
    """Return what the finals of these rows would cost, and what the choice saves. Nothing is written.

    Also while drafts are on their way, and of any rows that are in the manifest.
    """
    job = own_job(id, user_id, services)
    batch = services.ledger.batches.get(id)
    if batch is None:
        raise not_found("batch")
    chosen = _asked_about(selection, batch, services)
    options = BatchOptions.model_validate(
        {name: value for name, value in (job.parameters or {}).items() if name in BatchOptions.model_fields}
    )
    rows = services.ledger.batches.rows(id, of=sorted(chosen))
    finals, usd = price_of_finals(rows, options, style=lambda name: find_style(services.ledger, user_id, name))
    return selection_quote(batch, winners=len(chosen), finals=finals, usd=usd)


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
    """Go on where it stood. A batch that is not paused stays as it is."""
    _own_batch(id, user_id, services)
    after.add_task(services.act_on, services.ledger.batches.go_on(id))
    return job_document(own_job(id, user_id, services), services.ledger, services.settings)


@router.get("/v1/jobs/{id}/children", summary="List a batch's rows", responses=problem_responses(401, 403, 404, 422))
def list_children(
    id: Id,
    user_id: UserId,
    services: ServicesOf,
    limit: Annotated[int, Query(ge=1, le=200, description="Most rows on the page.")] = 50,
    cursor: Annotated[
        str | None, Query(description="`next` of the page before.", json_schema_extra={"pattern": ROW})
    ] = None,
    stage: Annotated[BatchPass | None, Query(description="Only this pass.")] = None,
    finished_since: Annotated[
        AwareDatetime | None, Query(description="Only rows that ended then or later. With a time zone.")
    ] = None,
) -> ChildPage:
    """List the first pass in the manifest's order, then the second."""
    _own_batch(id, user_id, services)
    found = services.ledger.batches.page(
        id, limit=limit + 1, after=_place(cursor) if cursor else None, only=stage, finished_since=finished_since
    )
    page = found[:limit]
    return ChildPage(
        items=child_documents(page, services.ledger, services.settings),
        # By place, not by time: rows end in any order, and a page is to stay the page that it was.
        next=f"{page[-1].stage}-{page[-1].manifest_row}" if len(found) > limit else None,
    )


def _chosen(selection: Selection, id: str, services: Services) -> Sequence[int]:
    """Return the rows from 0. Raise BadInput for both fields or none, and for numbers that name no draft."""
    if (selection.winners is None) == (selection.numbers is None):
        raise BadInput("winners: give either winners (rows from 0) or numbers (as on the sheet).", field="winners")
    if selection.winners is not None:
        return selection.winners
    batches = services.ledger.batches
    batch = batches.get(id)
    if batch is None or batch.asked_at is None:
        return ()  # which is refused as too early, whatever the numbers are
    failed = [draft.n for draft in batches.pictures(id, BatchPass.DRAFT) if draft.status is not JobStatus.COMPLETED]
    return parse_winners(str(selection.numbers), rows=batch.rows, failed=failed, field="numbers")


def _asked_about(selection: Selection, batch: Batch, services: Services) -> Sequence[int]:
    """Return the rows from 0 of which the price is asked. Those that failed are not in "all"."""
    if (selection.winners is None) == (selection.numbers is None):
        raise BadInput("winners: give either winners (rows from 0) or numbers (as on the sheet).", field="winners")
    if selection.numbers is None:
        return [n for n in set(selection.winners or ()) if 0 <= n < batch.rows]
    if not selection.numbers.strip():
        return ()
    drafts = services.ledger.batches.pictures(batch.job_id, BatchPass.DRAFT)
    failed = [each.n for each in drafts if each.status in (JobStatus.FAILED, JobStatus.CANCELLED)]
    return parse_winners(selection.numbers, rows=batch.rows, failed=failed, field="numbers")


def read_batch(body: Any, asked: dict[str, Any]) -> tuple[BatchOptions, str | bytes | Sequence[Any], Labels]:
    """Read the options, the rows and the labels: a JSON object has them all.

    With rows alone the query has the options, and there are no labels.
    """
    if isinstance(body, bytes | list):
        return BatchOptions(**asked), body, Labels()
    _require_shallow(body)
    try:
        order = BatchOrder.model_validate(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        # As if FastAPI had read it, so that it is answered like any other order.
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in found]) from None
    options = BatchOptions.model_validate(order.model_dump(exclude={"rows", "manifest", *FIELDS}))
    return options, order.source(), order.labels()


def _require_shallow(body: Any) -> None:
    """Bound the options before anything that calls itself looks into them; rows are by whoever reads them."""
    if not isinstance(body, dict):
        return
    for name in body.keys() - {"rows"}:
        if nested_deeper(body[name], DEEPEST):
            field = name if name in BatchOrder.model_fields else "body"
            raise BadInput(f"{field}: it is nested more than {DEEPEST} levels deep. Write it flatter.", field=field)


def _digest(rows: Sequence[Any]) -> str:
    """Digest the manifest, so that the same key with another one is told from the same one again."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr((row.n, row.name, sorted(row.picture.items()), row.same_as)).encode())
    return digest.hexdigest()


def _own_batch(id: str, user_id: str, services: Services) -> None:
    if own_job(id, user_id, services).kind != BATCH:
        raise not_found("batch")


def _place(cursor: str) -> tuple[BatchPass, int]:
    if not _ROW.fullmatch(cursor):
        raise no_cursor()
    stage, _, n = cursor.partition("-")
    return BatchPass(stage), int(n)
