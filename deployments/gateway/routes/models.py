"""`/v1/models`: what can be ordered, by its cards, and what each accepts."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Path, Query

from darkroom.deployments.gateway.auth import UserId
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.problems import Problem
from darkroom.deployments.gateway.routing import whole_router
from darkroom.deployments.gateway.schemas.models import (
    CategoryDocument,
    CategoryList,
    ModelDocument,
    ModelPage,
    model_document,
    model_summary,
)
from darkroom.deployments.gateway.schemas.paging import Limit, no_cursor
from darkroom.deployments.gateway.services import ServicesOf
from darkroom.providers.shelf import shelf

router = whole_router(prefix="/v1/models", tags=["Models"])
# Beside it: below /v1/models everything is the name of an endpoint, with its slashes.
categories = whole_router(prefix="/v1/model-categories", tags=["Models"])

Words = Annotated[str | None, Query(max_length=100, description="A part of its endpoint, title or description.")]
Category = Annotated[str | None, Query(max_length=100, description="e.g. text-to-video")]
Endpoint = Annotated[str, Path(max_length=200, description="With its slashes.", examples=["fal-ai/nano-banana"])]
# The endpoint that was last on the page before.
CURSOR = r"^([A-Za-z0-9._/\-]{1,200})?$"
Cursor = Annotated[str | None, Query(description="`next` of the page before.", json_schema_extra={"pattern": CURSOR})]
_CURSOR = re.compile(CURSOR)


@router.get("", summary="List models", responses=problem_responses(401, 403, 422))
def list_models(
    _: UserId,  # for the key alone: models are everybody's
    services: ServicesOf,
    q: Words = None,
    category: Category = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> ModelPage:
    """List models by endpoint. One that is not here yet can be ordered all the same: it is fetched on its first use."""
    found = services.ledger.models.page(q=q, category=category, limit=limit + 1, after=_read(cursor))
    page = found[:limit]
    return ModelPage(
        items=[model_summary(each, allowed=shelf().allows(each)) for each in page],
        next=page[-1].card.endpoint if len(found) > limit else None,
    )


@categories.get("", summary="List the categories of models", responses=problem_responses(401, 403))
def list_categories(_: UserId, services: ServicesOf) -> CategoryList:
    """List categories by name, with how many models each has."""
    found = services.ledger.models.categories().items()
    return CategoryList(items=[CategoryDocument(category=name, models=models) for name, models in found])


@router.get("/{endpoint:path}", summary="Look at a model", responses=problem_responses(401, 403, 404))
def get_model(endpoint: Endpoint, _: UserId) -> ModelDocument:
    """Show its card: what it accepts and answers as JSON Schema, what it costs, and how long it takes."""
    found = shelf().newest(endpoint)
    if found is None:
        raise Problem(
            404,
            "There is no model of this name.",
            field="endpoint",
            remedy="GET /v1/models?q= finds it by a part of it.",
        )
    return model_document(found, allowed=shelf().allows(found))


def _read(cursor: str | None) -> str:
    """Return the endpoint that was last on the page before; none on the first page."""
    if not _CURSOR.fullmatch(cursor or ""):
        raise no_cursor()
    return cursor or ""
