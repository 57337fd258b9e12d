"""`POST /v1/images`: an order for pictures.

Checked against the model's own input, put on record with its first request in one transaction, and answered. What
follows from it is the granter's: no flow run is made in a request.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.routes.ordering import DeskOf
from darkroom.deployments.gateway.schemas.jobs import Accepted
from darkroom.errors import BadInput
from darkroom.flows.orders.picture import KIND, Picture
from darkroom.flows.parts.picture_steps import require_logos
from darkroom.flows.parts.trained_style import Style, find_style
from darkroom.ledger import RequestSpec

router = APIRouter(tags=["Images"])

EXAMPLES = {
    "simple": {"summary": "A prompt", "value": {"prompt": "a fox in the snow, woodcut"}},
    "chosen": {
        "summary": "Model, size and its own arguments",
        "value": {
            "prompt": "a poster that says OPEN",
            "model": "openai/gpt-image-2",
            "image_size": {"width": 1024, "height": 1536},
            "arguments": {"quality": "low", "output_format": "webp"},
        },
    },
    "finished": {
        "summary": "… and what is done to it: larger, marked",
        "value": {
            "prompt": "a fox in the snow, woodcut",
            "seed": 7,
            "post": [
                {"step": "upscale", "model": "fal-ai/esrgan", "factor": 4},
                {"step": "watermark", "text": "© Fox & Co", "position": "bottom_left"},
            ],
        },
    },
    "trained": {
        "summary": "In a style, or of somebody, that was trained: `POST /v1/loras`",
        "value": {"prompt": "mochi_cat on a skateboard", "lora": "mochi_cat", "lora_scale": 0.9},
    },
    "again": {
        "summary": "The same picture again: a seed",
        "value": {"prompt": "a fox in the snow", "image_size": "square_hd", "seed": 7, "num_images": 2},
    },
}


class ImageOrder(Picture):
    """What the pictures show, and how they are made."""


Order = Annotated[ImageOrder, Body(openapi_examples=EXAMPLES)]


@router.post(
    "/v1/images",
    status_code=202,
    summary="Order pictures",
    response_description="On record. `Location` is where to follow it.",
    responses=problem_responses(401, 403, 413, 415, 422, 429),
)
def order_images(
    order: Order,
    desk: DeskOf,
) -> Accepted:
    """Answers at once; the pictures are made as soon as a slot is free, and then are in the job's `assets`.

    `lora` is one of yours by its trigger word (then the newest that is ready) or by its id (then that version). The
    picture is made with `fal-ai/flux-lora`; the trigger word is put in front of a prompt that lacks it.

    `post` are steps afterwards, by name or with their options: `upscale`, `remove_background`, `watermark`, in any
    order. The pictures of all steps are in `assets`, the last ones in `result.pictures`. A call that you have paid
    before, with the same options on the same picture, is not paid again; with a `seed` the generation is neither.

    Sent again with the same `Idempotency-Key` it gives the same job, also from several senders at once. Refused is an
    order beyond what may wait on your plan, and one that costs more than the plan's budget for a day.
    """
    ledger = desk.services.ledger
    style = find_style(ledger, desk.user_id, order.lora) if order.lora else None
    first = _first_call(order, style)
    require_logos(order.post, ledger.assets.get, user_id=desk.user_id)
    return desk.post(KIND, order, first=first, estimate_usd=order.estimate(first), tells_estimate=bool(order.post))


def _first_call(picture: Picture, style: Style | None) -> RequestSpec:
    """The model knows its fields as one flat input; here some of them are given inside `arguments`."""
    try:
        return picture.spec(style)
    except BadInput as error:
        if error.field.partition(".")[0] in picture.arguments:
            error.field = f"arguments.{error.field}"
        raise
