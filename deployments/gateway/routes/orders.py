"""`POST /v1/orders/{kind}`: any pipeline is ordered by its kind, and some at their own address.

An order is checked, put on record with its first paid call in one transaction, and answered. What follows from it is
the admitter's: no flow run is made in a request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Body, Path
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.problems import not_found
from darkroom.deployments.gateway.routes.ordering import OrderContextOf
from darkroom.deployments.gateway.routing import whole_router
from darkroom.deployments.gateway.schemas.jobs import Accepted
from darkroom.deployments.gateway.schemas.labels import labelled
from darkroom.errors import NeedsHuman
from darkroom.flows.orders import NAMED
from darkroom.order import Address, Order

router = whole_router()

ANSWERED: dict[str, Any] = {
    "status_code": 202,
    "response_description": "On record. `Location` is where to follow it.",
    "responses": problem_responses(401, 403, 413, 415, 422, 429),
}
Kind = Annotated[str, Path(max_length=100, description="The flow's name.", examples=["make-postcard"])]


@router.post(
    "/v1/orders/{kind}",
    tags=["Orders"],
    summary="Order any pipeline",
    **ANSWERED | {"responses": problem_responses(401, 403, 404, 413, 415, 422, 429)},
)
def order_by_kind(
    kind: Kind,
    body: Annotated[dict[str, Any], Body(description="The fields of its form in Prefect's UI, but `user`.")],
    context: OrderContextOf,
) -> Accepted:
    """Ours, those of your project, and those of installed packages; each with the fields that its order model has."""
    # Here, as it imports Prefect and the project's code: a gateway that is never asked for it does without.
    from darkroom.engine.registry import find

    try:
        order_model = labelled(find(kind).order)
    except NeedsHuman as missing:  # no pipeline has that name
        raise not_found("pipeline") from missing
    return context.submit(kind, read_order(order_model, body))


def read_order(order_model: type[Order], body: dict[str, Any], *, within: str = "") -> Order:
    """Read an order from a body that has no model of its own. `within`: the body's field that it is."""
    try:
        return order_model.model_validate(body)
    except ValidationError as error:
        # What came in is never repeated: it may be a prompt.
        found = error.errors(include_url=False, include_input=False)
        # As if FastAPI had read it, so that it is answered like any other order.
        raise RequestValidationError(
            [{**each, "loc": ("body", *([within] if within else []), *each["loc"])} for each in found]
        ) from None


def _named(address: Address, order_model: type[Order]) -> Callable[..., Accepted]:
    def take_order(order: Any, context: OrderContextOf) -> Accepted:
        return context.submit(address.kind, order)

    body = Body(openapi_examples=dict(address.examples))
    # By hand: annotations are text here, and a text cannot name what is known inside this function alone.
    take_order.__annotations__["order"] = Annotated[labelled(order_model), body]
    return take_order


for _order in NAMED:
    assert _order.over_http is not None
    router.add_api_route(
        _order.over_http.path,
        _named(_order.over_http, _order),
        methods=["POST"],
        name=_order.over_http.name,
        tags=[_order.over_http.tag],
        summary=_order.over_http.summary,
        description=_order.over_http.answers,
        **ANSWERED,
    )
