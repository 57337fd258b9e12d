"""`/v1/pipelines`: what `POST /v1/orders/{kind}` takes, with the form of each as JSON Schema."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

from fastapi import Path
from pydantic import Field

from darkroom.deployments.gateway.auth import UserId
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.problems import not_found
from darkroom.deployments.gateway.routing import whole_router
from darkroom.deployments.gateway.schemas.base import Document
from darkroom.deployments.gateway.schemas.labels import labelled
from darkroom.errors import NeedsHuman
from darkroom.flows.orders import NAMED
from darkroom.ledger import BATCH
from darkroom.order import Order

router = whole_router(prefix="/v1/pipelines", tags=["Orders"])

# These are described without the registry, which imports Prefect.
BY_KIND = {each.over_http.kind: each for each in NAMED if each.over_http is not None}
Kind = Annotated[str, Path(max_length=100, description="The pipeline's name.", examples=["edit-image"])]


class PipelineSummary(Document):
    kind: str = Field(description="What `POST /v1/orders/{kind}` takes.", examples=["edit-image"])
    title: str = Field(examples=["Edit a picture"])
    description: str


class PipelineDocument(PipelineSummary):
    order_schema: dict[str, Any] = Field(description="JSON Schema of the order's body.")


class PipelineList(Document):
    items: list[PipelineSummary]


@router.get("", summary="List pipelines", responses=problem_responses(401, 403))
def list_pipelines(_: UserId) -> PipelineList:
    """Darkroom's, your project's, and those of installed packages, by name. Batches have their own address."""
    # Here, as it imports Prefect and the project's code: a gateway that is never asked for it does without.
    from darkroom.engine.registry import all_pipelines

    found = sorted(all_pipelines().items())
    return PipelineList(items=[_summary(kind, each.order, each.function) for kind, each in found if kind != BATCH])


@router.get("/{kind}", summary="Look at a pipeline", responses=problem_responses(401, 403, 404))
def get_pipeline(kind: Kind, _: UserId) -> PipelineDocument:
    """Return what its order is made of, as JSON Schema: the fields of its body."""
    order, function = _find(kind)
    summary = _summary(kind, order, function)
    return PipelineDocument(**vars(summary), order_schema=labelled(order).model_json_schema())


def _find(kind: str) -> tuple[type[Order], object]:
    """Return the order of that kind and what is to be said of it. Raise Problem where there is none."""
    if kind in BY_KIND:
        return BY_KIND[kind], BY_KIND[kind]
    # Here for the same reason.
    from darkroom.engine.registry import find

    try:
        found = find(kind)
    except NeedsHuman as missing:
        raise not_found("pipeline") from missing
    return found.order, found.function


def _summary(kind: str, order: type[Order], function: object) -> PipelineSummary:
    if order.over_http is not None and order.over_http.kind == kind:
        title = order.over_http.summary
    else:
        title = kind.replace("-", " ").capitalize()
    return PipelineSummary(kind=kind, title=title, description=inspect.getdoc(function) or "")
