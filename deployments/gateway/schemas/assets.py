"""Files as they are listed: each with what it was ordered by."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import Field

from darkroom.deployments.gateway.schemas.base import Document
from darkroom.deployments.gateway.schemas.jobs import AssetDocument, asset_document
from darkroom.ledger import ListedAsset
from darkroom.settings import Settings

LONGEST_PROMPT = 300  # characters, in lists


class AssetEntry(AssetDocument):
    """A file, and what it was ordered by."""

    job_id: str | None = Field(description="The job that made it; null where you have brought it.")
    step: str = Field(description="Of its job.", examples=["generate"])
    model: str | None = Field(description="Which model made it; null where none did.", examples=["fal-ai/flux/dev"])
    prompt: str | None = Field(description="Of its job, at most 300 characters of it; null where it has none.")
    tags: list[str] = Field(description="Of its job.", examples=[["spring"]])
    created_at: datetime


class AssetPage(Document):
    items: list[AssetEntry]
    next: str | None = Field(description="The `cursor` of the next page; null on the last.")


def asset_entries(found: Sequence[ListedAsset], settings: Settings) -> list[AssetEntry]:
    return [_entry(each, settings) for each in found]


def _entry(found: ListedAsset, settings: Settings) -> AssetEntry:
    asset, prompt = found.asset, found.prompt
    if prompt is not None and len(prompt) > LONGEST_PROMPT:
        prompt = f"{prompt[:LONGEST_PROMPT]}…"
    return AssetEntry(
        **asset_document(asset, settings).model_dump(),
        job_id=asset.job_id,
        step=asset.step,
        model=found.model,
        prompt=prompt,
        tags=list(found.tags),
        created_at=asset.created_at,
    )
