"""`GET /v1/assets`: a user's files, newest first; and `DELETE /v1/assets/{id}`, the end of one."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from fastapi import Query
from pydantic import AwareDatetime

from darkroom.deployments.gateway.auth import UserId
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.problems import not_found
from darkroom.deployments.gateway.routes.jobs import Tags, Text
from darkroom.deployments.gateway.routing import whole_router
from darkroom.deployments.gateway.schemas.assets import AssetPage, asset_entries
from darkroom.deployments.gateway.schemas.paging import Cursor, Limit, cut, read_cursor
from darkroom.deployments.gateway.services import ServicesOf
from darkroom.deployments.gateway.thumbnails import remove_thumbnails
from darkroom.ledger import AssetFilter, Search

router = whole_router(prefix="/v1/assets", tags=["Assets"])


class AssetKind(StrEnum):
    """What a file is, by its type."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    OTHER = "other"  # 3D, archives, weights, text


Kind = Annotated[AssetKind | None, Query(description="Only pictures, films, sound, or the rest: 3D, archives, text.")]
ModelName = Annotated[
    str | None, Query(max_length=200, description="Only files that this model made.", examples=["fal-ai/flux/dev"])
]
StoredSince = Annotated[
    AwareDatetime | None,
    Query(
        alias="since",
        description="Only files stored then or later. With a time zone.",
        examples=["2030-01-01T12:00:00Z"],
    ),
]
OfJob = Annotated[str | None, Query(max_length=100, description="Only files of this job; of a batch, of its rows too.")]


@router.get("", summary="List files", responses=problem_responses(401, 403, 422))
def list_assets(
    user_id: UserId,
    services: ServicesOf,
    limit: Limit = 50,
    cursor: Cursor = None,
    kind: Kind = None,
    model: ModelName = None,
    job: OfJob = None,
    since: StoredSince = None,
    tags: Tags = None,
    text: Text = None,
) -> AssetPage:
    """Newest first: what your jobs have made, and what you have brought."""
    search = Search(tags=tuple(tags or ()), text=text)
    only = AssetFilter(kind=kind, model=model, job_id=job, since=since, search=search)
    found = services.ledger.assets.page(user_id, limit=limit + 1, before=read_cursor(cursor), only=only)
    page, following = cut(found, limit, lambda each: (each.asset.created_at, each.asset.id))
    return AssetPage(items=asset_entries(page, services.settings), next=following)


@router.delete("/{id}", status_code=204, summary="Delete a file", responses=problem_responses(401, 403, 404, 409))
def delete_asset(id: str, user_id: UserId, services: ServicesOf) -> None:
    """Remove a file from the media store, with its small pictures; lists and jobs do not show it any more.

    What a job that has not ended needs stays, and so does what a LoRA is made of. The bytes stay where another of your
    files is the same. To ask again is the same as to ask once.
    """
    deleted = services.ledger.assets.delete(id, user_id=user_id)
    if deleted is None:
        raise not_found("asset")
    # After it is on record: what fails here is done by asking again.
    if deleted.remove_file:
        services.blocks.store().remove(deleted.asset.key)
    if deleted.remove_thumbnails:
        remove_thumbnails(deleted.asset, services.blocks.store())
