"""What everybody waits for and has waited for, the runs, what is billed otherwise than reckoned, and what has failed.

All of it is for the scope `admin`: `/v1/admin/queue`, `…/queue/lately`, `…/runs`, `…/drift` and `…/dead-letters`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Body, Depends, Query
from fastapi.responses import JSONResponse

from darkroom.deployments.gateway.auth import ActingCaller, acting_caller
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.routes.ordering import IdempotencyKey
from darkroom.deployments.gateway.schemas.dead_letters import (
    PriceDocument,
    ReplayedDocument,
    price_document,
    replayed_document,
    which,
)
from darkroom.deployments.gateway.schemas.operations import (
    CauseDocument,
    CauseList,
    CauseReplay,
    DriftList,
    QueueDocument,
    RunList,
    WaitedList,
    drift_document,
    queue_document,
    run_document,
    waited_document,
)
from darkroom.deployments.gateway.services import ServicesOf

LATELY = timedelta(hours=1)

router = APIRouter(
    prefix="/v1/admin",
    tags=["Admin"],
    dependencies=[Depends(acting_caller)],
    responses=problem_responses(401, 403, 422),
)


@router.get("/queue", summary="See who waits behind whom")
def get_queue(services: ServicesOf) -> QueueDocument:
    """Each account with its slots, breaker and throttle as they are now, and the first users of each lane in order."""
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
    """As `POST /v1/dead-letters/replay`, whosever they are. Each job is paid from its own user's budget, too."""
    chosen = which(order.filter, None)
    if order.budget_usd is None:
        return JSONResponse(price_document(services.ledger.dead_letters.price(chosen)).model_dump(mode="json"))
    key = None if idempotency_key is None else f"all {caller.user_id} {idempotency_key}"
    done = services.ledger.dead_letters.replay(chosen, budget_usd=order.budget_usd, key=key)
    after.add_task(services.act_on, done.implied)
    return replayed_document(done)
