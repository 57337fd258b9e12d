"""`/v1/dead-letters`: failed jobs, found, requeued together under a budget, and put away. Everybody has their own."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import BackgroundTasks, Body, Depends, Query
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime

from darkroom.deployments.gateway.auth import UserId
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.routes.ordering import IdempotencyKey
from darkroom.deployments.gateway.routing import whole_router
from darkroom.deployments.gateway.schemas.dead_letters import (
    DeadLetterPage,
    DiscardedDocument,
    DiscardOrder,
    FilterBody,
    PriceDocument,
    ReplayedDocument,
    ReplayOrder,
    Selected,
    Word,
    discarded_document,
    letter_document,
    price_document,
    replayed_document,
    which,
)
from darkroom.deployments.gateway.schemas.paging import Cursor, cut, read_cursor
from darkroom.deployments.gateway.services import Services, ServicesOf
from darkroom.errors import BadInput
from darkroom.ledger import DeadLetterFilter

router = whole_router(prefix="/v1/dead-letters", tags=["Jobs"])

Limit = Annotated[int, Query(ge=1, le=100, description="Most failed jobs on the page.")]


def asked(
    kind: Annotated[Word, Query(examples=["generate-image"])] = None,
    error_class: Annotated[Word, Query(alias="class", description="retry, park, permanent, needs_human.")] = None,
    code: Annotated[Word, Query(description="E.g. content_policy_violation.")] = None,
    endpoint: Annotated[Word, Query(description="Of the call that failed.")] = None,
    failed_since: Annotated[AwareDatetime | None, Query(description="With a time zone.")] = None,
    failed_before: Annotated[AwareDatetime | None, Query(description="With a time zone.")] = None,
    discarded: Annotated[bool, Query(description="Those that were discarded, not the others.")] = False,
) -> FilterBody:
    return FilterBody(
        kind=kind,
        error_class=error_class,
        code=code,
        endpoint=endpoint,
        failed_since=failed_since,
        failed_before=failed_before,
        discarded=discarded,
    )


@router.get("", summary="List failed jobs", responses=problem_responses(401, 403, 422))
def list_dead_letters(
    given: Annotated[FilterBody, Depends(asked)],
    user_id: UserId,
    services: ServicesOf,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> DeadLetterPage:
    """Newest failure first: why each failed, what was paid, what of it serves again, and what another try costs."""
    return letter_page(services, which(given, user_id), limit=limit, cursor=cursor)


def letter_page(services: Services, asked: DeadLetterFilter, *, limit: int, cursor: str | None) -> DeadLetterPage:
    found = services.ledger.dead_letters.page(asked, limit=limit + 1, before=read_cursor(cursor))
    page, following = cut(found, limit, lambda letter: (letter.failed_at, letter.job_id))
    return DeadLetterPage(items=[letter_document(letter) for letter in page], next=following)


@router.post(
    "/replay",
    status_code=202,
    summary="Replay failed jobs under a budget",
    response_description="What was put back, and what was not.",
    response_model=ReplayedDocument,
    responses={
        200: {"model": PriceDocument, "description": "No budget was given: what it would cost. Nothing was put back."},
        **problem_responses(401, 403, 413, 415, 422),
    },
)
def replay_dead_letters(
    order: Annotated[ReplayOrder, Body()],
    user_id: UserId,
    services: ServicesOf,
    after: BackgroundTasks,
    idempotency_key: IdempotencyKey = None,
) -> Any:
    """Ask without `budget_usd` first: that tells the price, and does nothing.

    With it they are requeued, oldest failure first, as long as each fits in what is left of the budget. It holds for
    the steps that they reach later, too: a call beyond it fails its job (`over_budget`), which is listed here again.
    After a time-out send it again with the same `Idempotency-Key`: it goes on under the same budget. Discarded jobs are
    put back where they are named.
    """
    asked_for = chosen(order, user_id)
    if order.budget_usd is None:
        price = price_document(services.ledger.dead_letters.price(asked_for))
        # Status and document are others than those that the route declares.
        return JSONResponse(price.model_dump(mode="json"))
    key = None if idempotency_key is None else f"{user_id} {idempotency_key}"  # two users may choose the same key
    done = services.ledger.dead_letters.replay(asked_for, budget_usd=order.budget_usd, key=key)
    after.add_task(services.act_on, done.implied)
    return replayed_document(done)


@router.post("/discard", summary="Discard failed jobs", responses=problem_responses(401, 403, 413, 415, 422))
def discard_dead_letters(
    order: Annotated[DiscardOrder, Body()], user_id: UserId, services: ServicesOf
) -> DiscardedDocument:
    """List the failed jobs no more, and keep them out of every replay by a filter, of their batch or of their run.

    A replay that names one requeues it all the same, and takes the discard back.
    """
    done = services.ledger.dead_letters.discard(chosen(order, user_id), reason=order.reason)
    return discarded_document(done)


def chosen(order: Selected, user_id: str | None) -> DeadLetterFilter:
    """Return which failed jobs are meant, of a user's or of all. Raise BadInput where that is said in no way or two."""
    if (order.jobs is None) == (order.filter is None):
        raise BadInput("Give either jobs or filter.", field="jobs")
    if order.filter is not None:
        return which(order.filter, user_id)
    # Who names a job means it, discarded or not.
    return DeadLetterFilter(user_id=user_id, job_ids=tuple(order.jobs or ()), discarded=None)
