"""The events that applications may send: each name with the model of its data, in versions.

Those of Darkroom's own flows; a project's stand in its own modules. A class registers itself by
`@event("order.placed")`; its fields are what a sender has to give and what conditions and flows can rely on. A change
that senders have to know of is a new class with the next `v`: those who name the old one in `v` go on being understood;
who names none means the newest.

What is not declared here is refused as it comes in, by field. Data is put on record as the model writes it, with its
defaults.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from darkroom.errors import BadInput
from darkroom.events.mail_addresses import LONGEST, MAIL_ADDRESS
from darkroom.orchestrator import RESUME_EVENTS
from darkroom.orchestrator.project_file import import_flows
from darkroom.providers.web.model import LONGEST_URL

LONGEST_NAME = 100
# Two words or more: `order.placed`, `user.profile_completed`.
NAME = r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$"
FEED = "darkroom."  # what their names begin with in Prefect's feed


class EventData(BaseModel):
    """What the data of every event has in common: nothing is let through that is not declared."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


T = TypeVar("T", bound=type[EventData])
# Data is on record as its model writes it, so lengths are bounded here.
Id = Annotated[str, Field(min_length=1, max_length=200)]
Address = Annotated[str, Field(min_length=3, max_length=LONGEST, pattern=MAIL_ADDRESS)]
# A whole number, which conditions can compare.
Cents = Annotated[int, Field(ge=0, le=100_000_000)]
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$")]
# Begins with a letter: a card's number does not pass for one.
PAYMENT_METHOD = r"^[A-Za-z][A-Za-z0-9_-]{2,199}$"
PaymentMethod = Annotated[str, Field(max_length=200, pattern=PAYMENT_METHOD)]

_TYPES: dict[str, dict[int, type[EventData]]] = {}


def event(name: str, *, v: int = 1) -> Callable[[T], T]:
    """Register the class below as the data of that event, in that version."""
    if not re.match(NAME, name) or len(name) > LONGEST_NAME:
        raise ValueError(f"{name!r} is no name for an event: write words with a dot between, like order.placed")
    # Prefect's automation resumes runs on events of these names.
    if FEED + name in RESUME_EVENTS:
        raise ValueError(f"An event {name!r} would be taken for Darkroom's own in Prefect's feed: choose another name")
    if v < 1:
        raise ValueError(f"{v} is no version of the event {name!r}: count them from 1")

    def register(model: T) -> T:
        there = _TYPES.get(name, {}).get(v)
        # A file that is imported again, under another name, says the same again.
        if there is not None and (_file(there), there.__qualname__) != (_file(model), model.__qualname__):
            raise ValueError(f"Version {v} of the event {name!r} is registered already, by {there.__qualname__}")
        _TYPES.setdefault(name, {})[v] = model
        return model

    return register


def _file(model: type[EventData]) -> str | None:
    return getattr(sys.modules.get(model.__module__), "__file__", None)


def find_type(name: str, v: int | None = None) -> tuple[int, type[EventData]]:
    """Return the version, or the newest, and its model. Raises `BadInput` for one that is not registered."""
    broken = [] if name in _TYPES else import_flows()  # the project's own are registered by its modules
    versions = _TYPES.get(name)
    if versions is None:
        known = f"No event of this name is registered. Use one of these: {', '.join(sorted(_TYPES))}."
        raise BadInput(" ".join([known, *broken]), field="name")
    chosen = max(versions) if v is None else v
    if chosen not in versions:
        known = ", ".join(str(each) for each in sorted(versions))
        raise BadInput(f"The event {name} has no version {chosen}. Use one of these: {known}.", field="v")
    return chosen, versions[chosen]


@event("user.signed_up")
class UserSignedUp(EventData):
    account: Id
    email: Address
    name: Annotated[str | None, Field(max_length=200)] = None
    plan: Annotated[str, Field(min_length=1, max_length=50)] = "free"


@event("user.profile_completed")
class UserProfileCompleted(EventData):
    account: Id


@event("profile.changed")
class ProfileChanged(EventData):
    """As it is now, whole: who is told of the last change only misses nothing."""

    account: Id
    name: Annotated[str, Field(min_length=1, max_length=200)]
    picture_url: Annotated[str, Field(min_length=1, max_length=LONGEST_URL)] | None = None


@event("profile.synced")
class ProfileSynced(EventData):
    account: Id
    picture: Id | None = None  # of the file in the media store


class OrderItem(EventData):
    """An article of an order."""

    model_config = ConfigDict(title="Article")

    # Also a part of a form in Prefect's UI, which has to be told the order.
    sku: Id = Field(title="Id", description="Your application's.", json_schema_extra={"position": 0})
    quantity: int = Field(title="Quantity", ge=1, le=10_000, json_schema_extra={"position": 1})
    price_cents: Cents = Field(title="Price of one", description="In hundredths.", json_schema_extra={"position": 2})


Ordered = Annotated[list[OrderItem], Field(min_length=1, max_length=200)]


@event("order.placed")
class OrderPlaced(EventData):
    order: Id
    total_cents: Cents
    currency: Currency = "USD"
    email: Address | None = None
    # Of an order that is charged here.
    items: Annotated[list[OrderItem], Field(max_length=200)] = []
    payment_method: Annotated[str, Field(max_length=200, pattern=f"^$|{PAYMENT_METHOD}")] = ""


@event("order.confirmed")
class OrderConfirmed(EventData):
    order: Id
    charge: Id


# Each with the fields of the flow that the items are handed to.
Items = Annotated[list[dict[str, JsonValue]], Field(min_length=1, max_length=200)]


@event("upload.received")
class UploadReceived(EventData):
    upload: Id
    items: Items
    email: Address | None = None
