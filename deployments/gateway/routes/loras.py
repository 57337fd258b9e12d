"""`/v1/loras`: LoRAs are ordered with pictures, and what came of it is listed and named in orders for pictures.

What can be known of an order without looking at the pictures is checked here; the pictures themselves are the run's,
which names every one that is no good. Nothing is paid before.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field

from darkroom.deployments.gateway.auth import UserId
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.problems import not_found
from darkroom.deployments.gateway.routes.ordering import DeskOf
from darkroom.deployments.gateway.schemas.jobs import Accepted
from darkroom.deployments.gateway.schemas.paging import Cursor, Limit, created, cut, read_cursor
from darkroom.deployments.gateway.services import Services, ServicesOf
from darkroom.errors import BadInput
from darkroom.flows.orders.training import KIND, Training, is_asset
from darkroom.ledger import Lora, LoraStatus
from darkroom.media.links import asset_url
from darkroom.settings import Settings

router = APIRouter(prefix="/v1/loras", tags=["LoRAs"])

EXAMPLES = {
    "uploads": {
        "summary": "Somebody or something, from uploads",
        "value": {
            "trigger_word": "mochi_cat",
            "images": ["ast_019aa1f0c101", "ast_019aa1f0c102", "ast_019aa1f0c103", "ast_019aa1f0c104"],
            "captions": {"0": "mochi_cat asleep on a sofa"},
        },
    },
    "style": {
        "summary": "A style, from a zip of pictures and captions",
        "value": {
            "trigger_word": "ukiyo-9",
            "archive": "https://files.example/prints.zip",
            "style": True,
            "steps": 1500,
            "test_prompts": ["a bicycle, in the style of ukiyo-9"],
        },
    },
}
Order = Annotated[Training, Body(openapi_examples=EXAMPLES)]


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


@router.post(
    "",
    status_code=202,
    summary="Train a LoRA",
    response_description="On record. `Location` is where to follow it; `estimate_usd` is the most it should cost.",
    responses=problem_responses(401, 403, 413, 415, 422, 429),
)
def order_lora(
    order: Order,
    desk: DeskOf,
) -> Accepted:
    """From 4 to 50 pictures of at least 256 pixels a side, uploaded (`POST /v1/uploads`) or on the web.

    They are brought and checked before anything is paid: if one is no good, the job fails and its error names all that
    are. The training takes 15 to 30 minutes, and the job's `progress` tells how far it has come. Then the weights and
    four test pictures are in the job's `assets`, and `result` has the `lora_id`, the `trigger_word` and its `version`:
    name either in `POST /v1/images` as `lora`.

    Captions in the archive, or in `captions`, say what each picture shows beside what is to be learned; the trigger
    word is put in front of those that lack it. With none at all the trainer writes its own.
    """
    order.check()
    _require_own_files(order, desk.services, user_id=desk.user_id)
    return desk.post(KIND, order, estimate_usd=order.estimate())


@router.get("", summary="List LoRAs", responses=problem_responses(401, 403, 422))
def list_loras(user_id: UserId, services: ServicesOf, limit: Limit = 50, cursor: Cursor = None) -> LoraPage:
    """Newest first."""
    found = services.ledger.loras.page(user_id, limit=limit + 1, before=read_cursor(cursor))
    page, following = cut(found, limit, created)
    return LoraPage(items=[lora_document(lora, services.settings) for lora in page], next=following)


@router.get("/{id}", summary="Look at a LoRA", responses=problem_responses(401, 403, 404))
def get_lora(id: str, user_id: UserId, services: ServicesOf) -> LoraDocument:
    """By its id."""
    lora = services.ledger.loras.get(id)
    if lora is None or lora.user_id != user_id:
        raise not_found("LoRA")
    return lora_document(lora, services.settings)


def lora_document(lora: Lora, settings: Settings) -> LoraDocument:
    sample = None if lora.sample_asset_id is None else asset_url(lora.sample_asset_id, settings)
    return LoraDocument(**lora.model_dump(), sample_url=sample)


def _require_own_files(order: Training, services: Services, *, user_id: str) -> None:
    """The run would find it out as well; but here it costs nobody a minute."""
    for field, source in order.given().sources.items():
        asset = services.ledger.assets.get(source) if is_asset(source) else None
        if is_asset(source) and (asset is None or asset.user_id != user_id):
            raise BadInput("You have no file of this id. Bring it with POST /v1/uploads.", field=field)
