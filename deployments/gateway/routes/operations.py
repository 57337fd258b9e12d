"""What everybody waits for and has waited for, the runs, what is billed otherwise than reckoned, and what has failed.

All of it is for the scope `admin`: `/v1/admin/queue`, `…/queue/lately`, `…/runs`, `…/drift` and `…/dead-letters`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import BackgroundTasks, Body, Depends, Query
from fastapi.responses import JSONResponse

from darkroom.deployments.gateway.auth import ActingCaller, acting_caller
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.routes.dead_letters import Limit, asked, chosen, letter_page
from darkroom.deployments.gateway.routes.ordering import IdempotencyKey
from darkroom.deployments.gateway.routing import whole_router
from darkroom.deployments.gateway.schemas.dead_letters import (
    DeadLetterPage,
    DiscardedDocument,
    FilterBody,
    PriceDocument,
    ReplayedDocument,
    discarded_document,
    price_document,
    replayed_document,
    which,
)
from darkroom.deployments.gateway.schemas.operations import (
    CauseDiscard,
    CauseDocument,
    CauseList,
    CauseReplay,
    DriftList,
    OfAnybody,
    QueueDocument,
    RunList,
    WaitedList,
    drift_document,
    queue_document,
    run_document,
    waited_document,
)
from darkroom.deployments.gateway.schemas.paging import Cursor
from darkroom.deployments.gateway.services import Services, ServicesOf
from darkroom.ledger import DeadLetterFilter

LATELY = timedelta(hours=1)

router = whole_router(
    prefix="/v1/admin",
    tags=["Admin"],
    dependencies=[Depends(acting_caller)],  # most of the endpoints need not know who calls: this alone asks for the key
    responses=problem_responses(401, 403, 422),
)

UserQuery = Annotated[str | None, Query(max_length=200, description="Only of this user: an id, or a name.")]


@router.get("/queue", summary="See who waits behind whom")
def get_queue(services: ServicesOf) -> QueueDocument:
    """Show each account with its slots, breaker and throttle now, and the first users of each lane in order."""
    return queue_document(services.ledger.queue.now(), at=services.ledger.clock())


@router.get("/queue/lately", summary="See who has waited behind whom")
def get_queue_lately(services: ServicesOf) -> WaitedList:
    """Each user in each lane of the last hour, the longest wait first, at most fifty; with who was served meanwhile."""
    until = services.ledger.clock()
    found = services.ledger.queue.lately(until - LATELY)
    return WaitedList(since=until - LATELY, until=until, items=[waited_document(each) for each in found])


@router.get("/runs", summary="List runs")
def list_runs(
    services: ServicesOf,
    job: Annotated[str | None, Query(max_length=100, description="Only the run that has this job.")] = None,
) -> RunList:
    """Newest first, at most 200: those that are open, and those that were closed within the last hour."""
    # A run that is asked for by its job is shown however long ago it was closed.
    since = None if job is not None else services.ledger.clock() - LATELY
    found = services.ledger.queue.runs(since=since, job_id=job)
    return RunList(items=[run_document(each, services.settings) for each in found])


@router.get("/drift", summary="See which models are billed otherwise than reckoned")
def list_drift(
    services: ServicesOf,
    days: Annotated[int, Query(ge=1, le=366, description="Of calls that ended within so many days.")] = 30,
) -> DriftList:
    """By model, of calls of which cost and bill are known: the largest difference first."""
    until = services.ledger.clock()
    since = until - timedelta(days=days)
    found = [
        drift_document(account.id, each)
        for account in services.ledger.users.accounts()
        for each in services.ledger.bills.drift(account.id, since, until)
    ]
    found.sort(key=lambda each: abs(each.share or 0), reverse=True)
    return DriftList(since=since, until=until, items=found)


@router.get("/dead-letters", summary="See what jobs failed of")
def list_causes(services: ServicesOf) -> CauseList:
    """Everybody's failed jobs that are not discarded, by cause: the hundred most frequent, most frequent first."""
    return CauseList(items=[CauseDocument.model_validate(each) for each in services.ledger.causes.most_frequent()])


@router.post(
    "/dead-letters/replay",
    status_code=202,
    summary="Replay everybody's failed jobs under a budget",
    response_description="What was put back, and what was not.",
    response_model=ReplayedDocument,
    responses={
        200: {"model": PriceDocument, "description": "No budget was given: what it would cost. Nothing was put back."},
        **problem_responses(413, 415),
    },
)
def replay_causes(
    order: Annotated[CauseReplay, Body()],
    caller: ActingCaller,
    services: ServicesOf,
    after: BackgroundTasks,
    idempotency_key: IdempotencyKey = None,
) -> Any:
    """Replay as `POST /v1/dead-letters/replay` does, whosever they are.

    Each job is paid from its own user's budget, too.
    """
    asked_for = of_anybody(order, services)
    if order.budget_usd is None:
        # Status and document are others than those that the route declares.
        return JSONResponse(price_document(services.ledger.dead_letters.price(asked_for)).model_dump(mode="json"))
    # Apart from replays of the operator's own jobs.
    key = None if idempotency_key is None else f"all {caller.user_id} {idempotency_key}"
    done = services.ledger.dead_letters.replay(asked_for, budget_usd=order.budget_usd, key=key)
    after.add_task(services.act_on, done.implied)
    return replayed_document(done)


@router.get("/dead-letters/jobs", summary="List everybody's failed jobs")
def list_letters(
    given: Annotated[FilterBody, Depends(asked)],
    services: ServicesOf,
    user: UserQuery = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> DeadLetterPage:
    """As `GET /v1/dead-letters`, whosever they are."""
    return letter_page(services, which(given, id_of(user, services)), limit=limit, cursor=cursor)


@router.post("/dead-letters/discard", summary="Discard anybody's failed jobs", responses=problem_responses(413, 415))
def discard_letters(order: Annotated[CauseDiscard, Body()], services: ServicesOf) -> DiscardedDocument:
    """As `POST /v1/dead-letters/discard`, whosever they are."""
    done = services.ledger.dead_letters.discard(of_anybody(order, services), reason=order.reason)
    return discarded_document(done)


def of_anybody(order: OfAnybody, services: Services) -> DeadLetterFilter:
    """Return which failed jobs are meant, of all users' or of the one that is named."""
    user = None if order.filter is None else order.filter.user
    return chosen(order, id_of(user, services))


def id_of(user: str | None, services: Services) -> str | None:
    """Return the id of the user who is named; None where nobody is. Raise BadInput for one who is not there."""
    return None if user is None else services.ledger.users.find(user).id
