"""News as it is sent: one JSON document, and the lines of server-sent events around it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field
from sse_starlette import ServerSentEvent

from darkroom.deployments.gateway.schemas.base import Document
from darkroom.ledger import News
from darkroom.media.links import asset_url
from darkroom.settings import Settings


class NewsDocument(Document):
    """Something that happened."""

    number: int = Field(description="Its place in the stream. They grow, with gaps.", examples=[1207])
    event: str = Field(examples=["job.completed"])
    user_id: str
    user: str | None = Field(description="Of an end user of a service: the service's own id of it.")
    job_id: str | None = Field(examples=["job_019aa1f0c5d2"])
    kind: str | None = Field(description="Of the job.", examples=["generate-image"])
    at: datetime
    data: dict[str, Any] = Field(
        description="By event: how far a job has come, its error, a file with a link that holds an hour."
    )


class StreamToken(Document):
    """A token by which a browser reads the stream of one user, and can do nothing else."""

    token: str
    expires_at: datetime
    url: str = Field(description="The stream with the token in it, for `new EventSource(url)`.")


def news_document(news: News, settings: Settings) -> NewsDocument:
    data = dict(news.data or {})
    if "asset_id" in data:
        # Not on record: it holds an hour, from when it is sent.
        data["url"] = asset_url(data["asset_id"], settings)
    return NewsDocument(
        number=news.number,
        event=news.event,
        user_id=news.user_id,
        user=news.user,
        job_id=news.job_id,
        kind=news.kind,
        at=news.created_at,
        data=data,
    )


def as_line(news: News, settings: Settings) -> bytes:
    """Return the bytes of one server-sent event: `id` is the number, `event` the name."""
    document = news_document(news, settings).model_dump_json()
    return ServerSentEvent(document, id=str(news.number), event=news.event).encode()
