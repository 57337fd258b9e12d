"""`/v1/loras`: what trainings have made is listed, and named in orders for pictures."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from darkroom.deployments.gateway.auth import UserId
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.problems import not_found
from darkroom.deployments.gateway.routing import whole_router
from darkroom.deployments.gateway.schemas.paging import Cursor, Limit, created, cut, read_cursor
from darkroom.deployments.gateway.services import ServicesOf
from darkroom.ledger import Lora, LoraStatus
from darkroom.media.links import asset_url
from darkroom.settings import Settings

router = whole_router(prefix="/v1/loras", tags=["LoRAs"])


Word = Annotated[str | None, Query(max_length=40, description="Only the versions of this trigger word.")]


class LoraDocument(BaseModel):
    """A version of a trigger word. Named by the word, the newest that is ready is meant; by its id, this one."""

    model_config = ConfigDict(from_attributes=True)

    id: str = Field(examples=["lora_019aa1f0e2a1"])
    trigger_word: str = Field(examples=["mochi_cat"])
    version: int = Field(description="Counted from 1 for each trigger word of yours.")
    status: LoraStatus = Field(description="`trained`: its weights are there. `ready`: its test pictures too.")
    job_id: str = Field(description="The training.", examples=["job_019aa1f0c5d2"])
    weights_asset_id: str = Field(description="A file of safetensors.")
    config_asset_id: str
    sample_asset_id: str | None = Field(description="The test pictures side by side.")
    sample_url: str | None = Field(description="A link to them that needs no key and holds for an hour.")
    created_at: datetime


class LoraPage(BaseModel):
    items: list[LoraDocument]
    next: str | None = Field(description="The `cursor` of the next page; null on the last.")


@router.get("", summary="List LoRAs", responses=problem_responses(401, 403, 422))
def list_loras(
    user_id: UserId, services: ServicesOf, limit: Limit = 50, cursor: Cursor = None, trigger_word: Word = None
) -> LoraPage:
    """Newest first."""
    found = services.ledger.loras.page(user_id, limit=limit + 1, before=read_cursor(cursor), trigger_word=trigger_word)
    page, following = cut(found, limit, created)
    return LoraPage(items=[lora_document(lora, services.settings) for lora in page], next=following)


@router.get("/{id}", summary="Look at a LoRA", responses=problem_responses(401, 403, 404))
def get_lora(id: str, user_id: UserId, services: ServicesOf) -> LoraDocument:
    """Show the version with that id."""
    lora = services.ledger.loras.get(id)
    if lora is None or lora.user_id != user_id:
        raise not_found("LoRA")
    return lora_document(lora, services.settings)


def lora_document(lora: Lora, settings: Settings) -> LoraDocument:
    sample = None if lora.sample_asset_id is None else asset_url(lora.sample_asset_id, settings)
    return LoraDocument(**lora.model_dump(), sample_url=sample)
