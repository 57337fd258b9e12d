"""`POST /v1/debates`: a topic and two brands, and their mascots argue about it in a film.

The order is put on record with its first call, the script's, and answered with what the whole should cost at most.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.routes.ordering import DeskOf
from darkroom.deployments.gateway.schemas.jobs import Accepted
from darkroom.flows.orders.debate import KIND, Debate

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
    desk: DeskOf,
) -> Accepted:
    """A script is written, both mascots are painted and filmed, a voice reads, and all is put together and streamed.

    `estimate_usd` is what it should cost at most. Everything on the way is in the job's `assets`; `result` has `title`,
    `summary`, `script`, `seconds`, `video` (the asset with voice and captions), `playback_id` and `playback_url`. A
    debate that failed is put back with `POST /v1/jobs/{id}/replay`: what was made before is not made, or paid, again.
    """
    return desk.post(KIND, order, first=order.script_call(), estimate_usd=order.estimate())
