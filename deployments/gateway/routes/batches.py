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

from fastapi import BackgroundTasks, Body, Query, Request
from pydantic import AwareDatetime, ConfigDict, Field

from darkroom.batches.winners import LONGEST, parse_winners
from darkroom.deployments.gateway.auth import UserId
from darkroom.deployments.gateway.batch_orders import options_of, own_rows, read_batch
from darkroom.deployments.gateway.limits import declared_charset
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.problems import not_found
from darkroom.deployments.gateway.routes.jobs import own_job
from darkroom.deployments.gateway.routes.ordering import OrderContextOf
from darkroom.deployments.gateway.routing import whole_router
from darkroom.deployments.gateway.schemas.batches import ManifestDocument, SelectionQuote, selection_quote
from darkroom.deployments.gateway.schemas.jobs import Accepted, ChildPage, JobDocument, child_documents, job_document
from darkroom.deployments.gateway.schemas.orders import shown_order
from darkroom.deployments.gateway.schemas.paging import no_cursor
from darkroom.deployments.gateway.services import Services, ServicesOf
from darkroom.errors import BadInput
from darkroom.flows.orders.generation import require_own_files
from darkroom.flows.parts.batch_order import IfNobody, plan_batch, price_of_finals
from darkroom.flows.parts.trained_style import find_style
from darkroom.ledger import BATCH, Batch, BatchPass, JobStatus
from darkroom.order import ExactNumbers

router = whole_router(tags=["Batches"])

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
# By hand: FastAPI describes a body in one form, and this one comes in four.
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
        description="As in Prefect's form: numbers on the contact sheet from 1 (a child's `number`), `all`, "
        "`all but 8` or `none`.",
        examples=["3, 7, 12-20", "all but 8"],
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
    body: Annotated[Any, Body()],  # JSON as it is parsed, and bytes of anything else
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
    ledger = context.services.ledger
    options, source, labels = read_batch(body, asked, ledger, user_id=context.user_id)
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
    rows = services.ledger.batches.rows(id, of=sorted(chosen))
    finals, usd = price_of_finals(rows, options_of(job), style=lambda name: find_style(services.ledger, user_id, name))
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


@router.get(
    "/v1/batches/{id}/manifest", summary="Look at a batch's manifest", responses=problem_responses(401, 403, 404)
)
def get_manifest(id: Id, user_id: UserId, services: ServicesOf) -> ManifestDocument:
    """Show the rows as they were given, without what the order's `defaults` say, which are in the job's `order`.

    To order them again with a change, send `rows_of` with the batch's id to `POST /v1/batches`, and what is to be
    different.
    """
    rows = own_rows(services.ledger, id, user_id=user_id)
    if rows is None:
        raise not_found("batch")
    return ManifestDocument(rows=[shown_order(row, whole=True) for row in rows])


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
    # Other than in `_chosen`: drafts that are on their way may yet come.
    failed = [each.n for each in drafts if each.status in (JobStatus.FAILED, JobStatus.CANCELLED)]
    return parse_winners(selection.numbers, rows=batch.rows, failed=failed, field="numbers")


def _digest(rows: Sequence[Any]) -> str:
    """Digest the manifest, so that the same key with another one is told from the same one again."""
    digest = hashlib.sha256()
    for row in rows:
        # Its columns in one order: the same manifest may come with them in another.
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
