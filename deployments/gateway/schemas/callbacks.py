"""Callbacks as the API shows them, and what is sent to a user's application."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from darkroom.deployments.gateway.schemas.base import Document
from darkroom.deployments.gateway.schemas.jobs import job_document
from darkroom.deployments.gateway.schemas.news import news_document
from darkroom.ledger import Callback, CallbackEndpoint, Ledger, News
from darkroom.ledger.canonical_json import dumps
from darkroom.ledger.news import ENDS, TOPICS, known_topics
from darkroom.settings import Settings
from darkroom.shown_addresses import without_secrets

LONGEST_URL = 2000
THIN = ("number", "event", "user_id", "user", "job_id", "kind")

CallbackStatus = Literal["pending", "delivered", "dead"]


class EndpointOrder(BaseModel):
    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=LONGEST_URL, examples=["https://shop.example.com/darkroom"])
    events: list[str] = Field(
        list(ENDS),
        min_length=1,
        max_length=len(TOPICS),
        description="Which events: `job.completed`, or `job` for all of them. Without it: the ends of jobs.",
    )
    thin: bool = Field(False, description="Send ids only, and neither the event's data nor the job's document.")

    @field_validator("events")
    @classmethod
    def _known(cls, events: list[str]) -> list[str]:
        return known_events(events)


class EndpointDocument(Document):
    """Where your application is told."""

    url: str
    events: list[str] = Field(examples=[["job.completed"]])
    thin: bool
    secret: str | None = Field(
        None, description="It verifies the signatures. Shown this once; `rotate` makes another.", examples=["whsec_…"]
    )
    failing_since: datetime | None = Field(description="Nothing was delivered to it since then.")
    off_at: datetime | None = Field(description="When it was switched off. `PUT` it again to switch it on.")
    off_reason: str | None


class RotatedSecret(Document):
    """A new secret. The one before signs beside it for a day."""

    secret: str = Field(description="Shown this once.", examples=["whsec_…"])
    before_until: datetime | None = Field(description="Until when the one before signs, too.")


class CallbackDocument(Document):
    """One piece of news on its way to your application."""

    id: str = Field(description="The header `webhook-id`, the same however often it is sent.", examples=["msg_5f0c"])
    event: str = Field(examples=["job.completed"])
    number: int | None = Field(description="Its place in the stream; null for a test.")
    user_id: str
    job_id: str | None
    url: str = Field(
        description="Without passwords, signatures and the like in it.", examples=["https://shop.example.com/darkroom"]
    )
    status: CallbackStatus
    attempts: int
    next_at: datetime | None = Field(description="When it is sent next; null once it has ended.")
    last_status: int | None = Field(description="What your application answered.", examples=[500])
    last_answer: str | None = Field(description="The first 4 KiB of its answer.")
    last_error: str | None = Field(description="Why it does not count as delivered.")
    created_at: datetime
    tried_at: datetime | None
    delivered_at: datetime | None


class CallbackPage(Document):
    items: list[CallbackDocument]
    next: str | None = Field(description="The `cursor` of the next page; null on the last.")


class ResendOrder(BaseModel):
    model_config = ConfigDict(extra="forbid")

    since: AwareDatetime = Field(description="Those of news since then. With a time zone.")


class Resent(Document):
    resent: int = Field(description="How many are sent again.")


def known_events(events: Sequence[str]) -> list[str]:
    """Return the events that are meant, in the order in which the documentation has them."""
    try:
        found = known_topics(events)
    except ValueError:
        # Not as it is: before the words of a ValueError pydantic puts its own.
        raise PydanticCustomError(
            "event", "There is no such event. Use some of these: {known}", {"known": ", ".join(TOPICS)}
        ) from None
    return [topic for topic in TOPICS if topic in found]


def endpoint_document(endpoint: CallbackEndpoint, *, secret: str | None = None) -> EndpointDocument:
    return EndpointDocument(**endpoint.model_dump(), secret=secret)


def callback_document(callback: Callback) -> CallbackDocument:
    next_at = callback.next_at if callback.status == "pending" else None
    url = without_secrets(callback.url)  # of an order it may be, where it is shown without them, too
    return CallbackDocument(**callback.model_dump(exclude={"next_at", "url"}), next_at=next_at, url=url)


def callback_body(callback: Callback, ledger: Ledger, settings: Settings) -> bytes:
    """Return what is sent: the news as the stream has it, with the job as it is now and links that hold."""
    data = {} if callback.number is None else _data(callback, callback.number, ledger, settings)
    # Standard Webhooks: the body has when it happened, the header when it was sent.
    return dumps({"type": callback.event, "timestamp": callback.published_at.isoformat(), "data": data}).encode()


def _data(callback: Callback, number: int, ledger: Ledger, settings: Settings) -> dict[str, Any]:
    job = ledger.jobs.get(callback.job_id) if callback.job_id else None
    end_user = callback.user_id != callback.owner_id
    news = News(
        number=number,
        event=callback.event,
        user_id=callback.user_id,
        parent_id=callback.owner_id if end_user else None,
        user=ledger.users.find(callback.user_id).name if end_user else None,
        job_id=callback.job_id,
        kind=job.kind if job else None,
        data=callback.data,
        created_at=callback.published_at,
    )
    document = news_document(news, settings).model_dump(mode="json", by_alias=True)
    if callback.thin:
        return {name: document[name] for name in THIN}
    # As it is now: the news may be hours old when it is sent at last.
    whole = job_document(job, ledger, settings).model_dump(mode="json", by_alias=True) if job else None
    return document | {"job": whole}
