"""`POST /v1/imports`: a product's pictures, by their addresses on the web.

The order is put on record as it is, and a run takes it at once: which addresses are bad is found out by asking them,
and none of them keeps the others from coming.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.routes.ordering import DeskOf
from darkroom.deployments.gateway.schemas.jobs import Accepted
from darkroom.flows.orders.imports import KIND, Import

router = APIRouter(tags=["Images"])

EXAMPLES = {
    "simple": {
        "summary": "Some pictures",
        "value": {"urls": ["https://shop.example/fox-mug/front.jpg", "https://shop.example/fox-mug/side.jpg"]},
    },
    "smaller": {
        "summary": "Smaller, and of which product",
        "value": {
            "urls": ["https://shop.example/fox-mug/front.jpg"],
            "max_width": 1024,
            "quality": 80,
            "product": "Fox mug",
        },
    },
}
Order = Annotated[Import, Body(openapi_examples=EXAMPLES)]


@router.post(
    "/v1/imports",
    status_code=202,
    summary="Import pictures from the web",
    response_description="On record. `Location` is where to follow it.",
    responses=problem_responses(401, 403, 413, 415, 422, 429),
)
def order_import(
    order: Order,
    desk: DeskOf,
) -> Accepted:
    """Each address is fetched once, at most ten of yours at a time, made smaller and stored; it costs nothing.

    The job's `result` has the pictures that came (`imported`, and `images`: place, address and asset of each) and the
    addresses that were `refused`, with `code` and `reason`: `private_address`, `bad_url`, `unknown_host`, `not_found`,
    `wrong_type`, `too_large`, `too_many_pixels`, `too_many_redirects` and others. It fails, with `nothing_imported`,
    only if no picture came at all.
    """
    return desk.post(KIND, order)
