"""`POST /v1/debates`: a topic and two brands, and their mascots argue about it in a film.

The order is put on record with its first call, the script's, and answered with what the whole should cost at most.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Body, Response

from deployments.gateway.auth import UserId
from deployments.gateway.documents import Accepted, accepted
from deployments.gateway.images import IdempotencyKey
from deployments.gateway.openapi import problem_responses
from deployments.gateway.services import ServicesOf
from flows.make_debate import KIND, Debate

router = APIRouter(tags=["Films"])

EXAMPLES = {
    "simple": {
        "summary": "A topic and two brands",
        "value": {"topic": "Is coffee or tea the better start of a day?", "brands": ["Foxbrew", "Kettle & Co"]},
    },
    "chosen": {
        "summary": "A shorter film, another voice, another style",
        "value": {
            "topic": "city or countryside",
            "brands": ["Metro Map", "Old Barn"],
            "duration": "5",
            "voice": "pNInz6obpgDQGcFmaJgB",
            "style": "stop-motion figures of felt",
        },
    },
}
Order = Annotated[Debate, Body(openapi_examples=EXAMPLES)]


@router.post(
    "/v1/debates",
    status_code=202,
    summary="Order a debate video",
    response_description="On record. `Location` is where to follow it.",
    responses=problem_responses(401, 403, 413, 415, 422, 429),
)
def order_debate(
    order: Order,
    user_id: UserId,
    services: ServicesOf,
    response: Response,
    after: BackgroundTasks,
    idempotency_key: IdempotencyKey = None,
) -> Accepted:
    """A script is written, both mascots are painted and filmed, a voice reads, and all is put together and streamed.

    `estimate_usd` is what it should cost at most. Everything on the way is in the job's `assets`; `result` has `title`,
    `summary`, `script`, `seconds`, `video` (the asset with voice and captions), `playback_id` and `playback_url`. A
    debate that failed is put back with `POST /v1/jobs/{id}/replay`: what was made before is not made, or paid, again.
    """
    first, estimate_usd = order.script_call(), order.estimate()
    posted = services.ledger.jobs.post(
        user_id=user_id,
        kind=KIND,
        parameters=order.model_dump(mode="json", exclude_defaults=True),
        first=first,
        estimate_usd=estimate_usd,
        idempotency_key=idempotency_key,
    )
    after.add_task(services.act_on, posted.implied)
    document = accepted(posted.job, estimate_usd=estimate_usd)
    response.headers["Location"] = document.links.job
    return document
