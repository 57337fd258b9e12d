"""The JSON of models: their cards, as the API shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from darkroom.deployments.gateway.schemas.base import Document, Usd
from darkroom.ledger import KnownModel, ModelCard
from darkroom.models import Card
from darkroom.providers.shelf import Found


class ModelSummary(Document):
    endpoint: str = Field(description="What an order names.", examples=["fal-ai/nano-banana"])
    title: str = Field(examples=["Nano Banana"])
    category: str = Field(description="The platform's word.", examples=["text-to-image"])
    kind: str = Field(description="`inference` or `training`.", examples=["inference"])
    status: str = Field(description="`active` or `deprecated`.", examples=["active"])
    description: str
    unit: str | None = Field(description="What is counted, in the platform's word; null: unknown.", examples=["images"])
    unit_price_usd: Usd | None = Field(description="Of one unit; null: unknown.", examples=[0.039])
    call_usd: Usd | None = Field(description="What the operator says that a call costs.")
    usual_seconds: float | None = Field(description="How long a call usually takes.")
    allowed: bool = Field(description="Whether it can be ordered here.")
    fetched_at: datetime | None = Field(description="When the card was last seen like this.")
    packaged: bool = Field(description="It came with Darkroom, and the platform has not been asked yet.")


class ModelDocument(ModelSummary):
    input_schema: dict[str, Any] | None = Field(description="JSON Schema of the input.")
    output_schema: dict[str, Any] | None = Field(description="JSON Schema of the answer.")


class ModelPage(Document):
    items: list[ModelSummary]
    next: str | None = Field(description="The `cursor` of the next page; null on the last.")


class CategoryDocument(Document):
    category: str = Field(description="The platform's word.", examples=["text-to-image"])
    models: int = Field(description="How many it has.", examples=[12])


class CategoryList(Document):
    items: list[CategoryDocument]


def model_summary(found: Found | KnownModel, *, allowed: bool) -> ModelSummary:
    return ModelSummary(**_facts(found.card), call_usd=found.call_usd, allowed=allowed)


def model_document(found: Found, *, allowed: bool) -> ModelDocument:
    card = found.card
    return ModelDocument(
        **_facts(card),
        call_usd=found.call_usd,
        allowed=allowed,
        input_schema=None if card.input_schema is None else dict(card.input_schema),
        output_schema=None if card.output_schema is None else dict(card.output_schema),
    )


_FACTS = tuple(ModelSummary.model_fields.keys() - {"unit_price_usd", "call_usd", "allowed"})


def _facts(card: Card | ModelCard) -> dict[str, Any]:
    # All sums are in USD: a price in another currency is as good as none.
    in_usd = card.unit_price if card.currency == "USD" else None
    return {name: getattr(card, name) for name in _FACTS} | {"unit_price_usd": in_usd}
