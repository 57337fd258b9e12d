"""Tags, metadata, and where its news goes: fields that every order takes over HTTP, and that no pipeline sees.

They are of the job and not of the work: nothing is made otherwise by them. So they are in no form, no run's parameters
and no paid call, and an order's model knows nothing of them.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, JsonValue, StringConstraints, ValidationInfo, create_model, field_validator
from pydantic_core import PydanticCustomError

from darkroom.deployments.gateway.schemas.callbacks import LONGEST_URL, known_events
from darkroom.ledger import Labels
from darkroom.ledger.canonical_json import dumps
from darkroom.ledger.news import ENDS, TOPICS
from darkroom.order import Order

MOST_TAGS = 20
LONGEST_TAG = 100
LARGEST_METADATA = 4096  # bytes of JSON

Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_TAG, pattern=r"\S")]


class Labelled(BaseModel):
    tags: list[Tag] = Field(
        [], max_length=MOST_TAGS, description="Your own words to find it by, up to 20.", examples=[["spring", "shop-7"]]
    )
    metadata: dict[str, JsonValue] | None = Field(
        None, description="Anything of your own to know it by, up to 4 KiB.", examples=[{"order": "o-1"}]
    )
    callback_url: str | None = Field(
        None,
        max_length=LONGEST_URL,
        description="Where your application is told of this job, signed as Standard Webhooks has it.",
        examples=["https://shop.example.com/darkroom"],
    )
    callback_events: list[str] = Field(
        list(ENDS),
        min_length=1,
        max_length=len(TOPICS),
        description="Which events go there: `job.completed`, or `job` for all of them. Without it: its end.",
    )

    @field_validator("tags")
    @classmethod
    def _each_once(cls, tags: list[str]) -> list[str]:
        if bad := next((tag for tag in tags if not tag.isprintable()), None):
            raise PydanticCustomError("tag", "Tag {n} is not printable", {"n": tags.index(bad) + 1})
        return list(dict.fromkeys(tags))

    @field_validator("metadata")
    @classmethod
    def _not_too_large(cls, metadata: dict[str, Any] | None) -> dict[str, Any] | None:
        if metadata is not None and len(dumps(metadata).encode()) > LARGEST_METADATA:
            raise PydanticCustomError("metadata", "It is larger than 4 KiB of JSON; keep it with you, and send its id")
        return metadata

    @field_validator("callback_events")
    @classmethod
    def _known(cls, events: list[str], others: ValidationInfo) -> list[str]:
        # An address that was refused is not among them, and is told of already.
        if others.data.get("callback_url", "") is None:
            raise PydanticCustomError("events", "It says what goes to a callback_url, and there is none; give one")
        return known_events(events)

    def labels(self) -> Labels:
        called: dict[str, Any] = {}
        if self.callback_url is not None:
            called = {"callback_url": self.callback_url, "callback_events": tuple(self.callback_events)}
        return Labels(tags=tuple(self.tags), metadata=self.metadata, **called)


FIELDS = frozenset(Labelled.model_fields)
_MADE: dict[type[Order], type[Order]] = {}


class _LabelledOrder(Labelled, Order):
    def parameters(self) -> dict[str, Any]:
        return {name: value for name, value in super().parameters().items() if name not in FIELDS}


def labelled(order: type[Order]) -> type[Order]:
    """Return the order as HTTP takes it. One that has a field of such a name keeps it, and has no labels."""
    if FIELDS & set(order.model_fields):
        return order
    if order not in _MADE:
        # In this order of bases: the parameters without labels go before the order's own.
        _MADE[order] = create_model(order.__name__, __base__=(_LabelledOrder, order), __doc__=order.__doc__)
    return _MADE[order]


def labels_of(order: BaseModel) -> Labels:
    return order.labels() if isinstance(order, Labelled) else Labels()
