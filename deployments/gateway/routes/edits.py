"""`POST /v1/edits`: steps on a picture that is there.

Checked as far as it can be without doing anything, put on record with what has to be waited for first, and answered.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.routes.ordering import DeskOf
from darkroom.deployments.gateway.schemas.jobs import Accepted
from darkroom.deployments.gateway.services import Services
from darkroom.flows.orders.edit import KIND, Edit
from darkroom.flows.parts.picture_steps import require_logos, require_picture
from darkroom.ledger import Asset

router = APIRouter(tags=["Images"])

EXAMPLES = {
    "larger": {"summary": "Larger", "value": {"image": "ast_019aa1f0d8b4", "post": ["upscale"]}},
    "product": {
        "summary": "A product's picture from the web, cut out and marked with a logo",
        "value": {
            "image": "https://shop.example/fox-mug/front.jpg",
            "post": [
                "remove_background",
                {"step": "upscale", "model": "fal-ai/esrgan", "factor": 2},
                {"step": "watermark", "logo": "ast_019aa1f0c111", "position": "top_right", "opacity": 0.5},
            ],
        },
    },
}
Order = Annotated[Edit, Body(openapi_examples=EXAMPLES)]


@router.post(
    "/v1/edits",
    status_code=202,
    summary="Edit a picture",
    response_description="On record. `Location` is where to follow it.",
    responses=problem_responses(401, 403, 413, 415, 422, 429),
)
def order_edit(
    order: Order,
    desk: DeskOf,
) -> Accepted:
    """Larger, without its background, marked: in the order in which the steps are given.

    The picture of each step is in the job's `assets`, the last one in `result.pictures`. If a step fails those before
    it are kept, and a replay goes on from there. A call that you have paid before, with the same options on the same
    picture, is not paid again: to try another watermark costs nothing.
    """
    picture = _picture(order, desk.services, user_id=desk.user_id)
    require_logos(order.post, desk.services.ledger.assets.get, user_id=desk.user_id)
    return desk.post(KIND, order, first=order.first_call(picture), estimate_usd=order.estimate(picture))


def _picture(order: Edit, services: Services, *, user_id: str) -> Asset | None:
    if order.asset_id is None:
        return None
    return require_picture(services.ledger.assets.get(order.asset_id), user_id=user_id, field="image")
