"""`GET /v1/stream`: news as server-sent events, to whoever has a key, and to browsers with a token made for them.

What was told since the reader's last number is read from the ledger, what comes after is handed out by the feed
(`loops/news_feed.py`); together they are everything, each once. This is the one place of Darkroom that is `async` for
more than to save a thread: thousands of streams wait here.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import anyio
from fastapi import Body, Cookie, Depends, Header, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from darkroom.clock import utc_now
from darkroom.deployments.gateway.auth import Credentials, EndUser, UserId, acting_caller
from darkroom.deployments.gateway.loops.news_feed import MOST_READ, NewsFeed, Stream
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.problems import Problem
from darkroom.deployments.gateway.routes.jobs import own_job
from darkroom.deployments.gateway.routing import whole_router
from darkroom.deployments.gateway.schemas.news import NewsDocument, StreamToken
from darkroom.deployments.gateway.services import ServicesOf
from darkroom.deployments.gateway.stream_tokens import LIFETIME, LONGEST, ReadToken, read_token, write_token
from darkroom.errors import BadInput
from darkroom.ledger import Audience
from darkroom.ledger.keys import digest
from darkroom.ledger.news import TOPICS, known_topics
from darkroom.timing import Timing

router = whole_router(tags=["Stream"])

COOKIE = "darkroom_stream"
MOST_NUMBER = 2**63 - 1  # of a bigint of Postgres'
SECONDS_TO_SAY_SO = 2.0  # at the gateway's end; it has ten to finish
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": NewsDocument,
        "description": "Server-sent events: `id` is the number, `event` the name, `data` this document as JSON.",
        "content": {"text/event-stream": {"example": 'id: 1207\nevent: job.completed\ndata: {"number": 1207, …}\n\n'}},
    },
    **problem_responses(401, 403, 404, 422, 429),
}


class TokenOrder(BaseModel):
    model_config = ConfigDict(extra="forbid")

    job: str | None = Field(None, max_length=100, description="Only what is told of this job.")


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Who reads. `key`: digest of the key by which, or by whose token. `until`: when that token runs out."""

    user_id: str
    service: bool
    job_id: str | None
    key: str
    until: datetime | None
    by_link: bool = False


def authorized(
    request: Request,
    services: ServicesOf,
    credentials: Credentials,
    end_user: EndUser = None,
    token: Annotated[str | None, Query(max_length=LONGEST, description="Of `POST /v1/stream-tokens`.")] = None,
    cookie: Annotated[str | None, Cookie(alias=COOKIE, max_length=LONGEST, include_in_schema=False)] = None,
) -> Reader:
    """Return who reads, by key or token. Raise 401 where neither holds."""
    given = token or cookie
    if given is None or credentials is not None:  # a key goes before the cookie that comes along with it
        caller = acting_caller(request, services, credentials, end_user)
        assert credentials is not None
        key = digest(credentials.credentials)
        return Reader(user_id=caller.user_id, service=caller.service, job_id=None, key=key, until=None)
    found = read_token(given, services.settings, now=utc_now())
    # A token is not on record, so its end is that of the key that made it.
    if found is None or not services.ledger.users.holding([found.key]):
        raise Problem(
            401,
            "The token was not made here, or holds no longer.",
            field="token",
            remedy="Have your backend ask for another with `POST /v1/stream-tokens`.",
        )
    return Reader(
        user_id=found.user_id,
        service=False,
        job_id=found.job_id,
        key=found.key,
        until=found.expires_at,
        by_link=token is not None,
    )


@router.post(
    "/v1/stream-tokens",
    status_code=201,
    summary="Let a browser read the stream",
    responses=problem_responses(401, 403, 404, 415, 422),
)
def make_stream_token(
    user_id: UserId,
    services: ServicesOf,
    credentials: Credentials,
    order: Annotated[TokenOrder | None, Body()] = None,
) -> StreamToken:
    """Make a token, for your backend, which has the key.

    It reads one user's stream for an hour, and can do nothing else.

    With the key of a service and `Darkroom-User` it is for that end user. It ends sooner with the key that made it.
    """
    job_id = own_job(order.job, user_id, services).id if order is not None and order.job else None
    assert credentials is not None
    expires = int((utc_now() + LIFETIME).timestamp())
    token = ReadToken(user_id=user_id, job_id=job_id, expires=expires, key=digest(credentials.credentials))
    written = write_token(token, services.settings)
    url = f"{services.settings.browser_url}/v1/stream?token={written}"
    return StreamToken(token=written, expires_at=token.expires_at, url=url)


@router.get(
    "/v1/stream",
    summary="Follow what happens",
    response_class=EventSourceResponse,
    response_model=None,
    responses=ANSWERS,
)
async def follow(
    services: ServicesOf,
    reader: Annotated[Reader, Depends(authorized)],
    after: Annotated[
        int | None, Query(ge=0, le=MOST_NUMBER, description="Everything after this number; 0: all that is kept.")
    ] = None,
    job: Annotated[str | None, Query(max_length=100, description="Only what is told of this job.")] = None,
    topic: Annotated[
        list[str] | None,
        Query(max_length=len(TOPICS), description="Only these events: `job.completed`, or `job` for all of them."),
    ] = None,
    last_event_id: Annotated[
        str | None,
        Header(alias="Last-Event-ID", max_length=30, description="The last number you had; goes before `after`."),
    ] = None,
) -> EventSourceResponse:
    """Server-sent events, from any number on: nothing is missed, and nothing is told twice.

    Without a number it begins now. Open it again with the last `id` that you had, as every browser's `EventSource` does
    by itself. A reader that is too slow is cut off, and misses nothing by that either. With the key of a service it is
    the news of all its end users, or of the one in `Darkroom-User`.
    """
    audience = Audience(
        user_id=reader.user_id, service=reader.service, job_id=_job(reader, job), topics=_topics(topic or [])
    )
    number = _number(last_event_id)
    stream = await services.news.open(audience, key=reader.key, until=reader.until)
    return StreamResponse(
        services.news,
        stream,
        # A browser that comes again sends both: its address is the one by which it came first.
        after if number is None else number,
        by_link=reader.by_link,
        timing=services.ledger.timing,
    )


class StreamResponse(EventSourceResponse):
    """The lines of a stream, which is closed however this ends, also where nobody has taken the first of them."""

    def __init__(self, feed: NewsFeed, stream: Stream, after: int | None, *, by_link: bool, timing: Timing) -> None:
        self._feed, self._stream, self._going = feed, stream, anyio.Event()
        super().__init__(
            _lines(feed, stream, after, timing),
            # The token is in the address, so the page that has it may read the answer, wherever it is from.
            headers={"Access-Control-Allow-Origin": "*"} if by_link else None,
            ping=timing.stream_heartbeat.total_seconds(),
            ping_message_factory=lambda: ServerSentEvent(comment="here"),
            send_timeout=timing.stream_stuck.total_seconds(),
            # A task beside the lines, which wait for the stream and hear of the server's end by its end alone.
            data_sender_callable=self._end_with_the_gateway,
            shutdown_event=self._going,
            shutdown_grace_period=SECONDS_TO_SAY_SO,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with suppress(SendTimeoutError):  # a reader that takes nothing is cut off, which is no error here
                await super().__call__(scope, receive, send)
        finally:
            self._feed.close(self._stream)

    async def _end_with_the_gateway(self) -> None:
        await self._going.wait()
        self._stream.end("this gateway goes")


async def _lines(feed: NewsFeed, stream: Stream, after: int | None, timing: Timing) -> AsyncIterator[bytes]:
    """Yield what was told after the reader's last number, then what comes, each once; and at the end why."""
    again = timing.stream_again.total_seconds()
    last = stream.since if after is None else after
    # When to come back comes first: a gateway that is killed has no last word.
    yield ServerSentEvent(comment="open", retry=round(1000 * again)).encode()
    while last < stream.since and stream.ended is None:
        page = await run_in_threadpool(feed.written, stream.audience, after=last, until=stream.since)
        if page:
            yield b"".join(line.sent for line in page)
        last = page[-1].news.number if len(page) == MOST_READ else stream.since
    while lines := await stream.lines():
        if fresh := [line.sent for line in lines if line.news.number > last]:
            yield b"".join(fresh)
    # Not all at once: whoever takes over would open thousands in one moment.
    yield ServerSentEvent(comment=stream.ended, retry=round(1000 * again * random.uniform(1, 3))).encode()


def _job(reader: Reader, job: str | None) -> str | None:
    """Return the one job whose news it is. Another user's is never heard: the audience is the reader's own news."""
    if job is not None and reader.job_id not in (None, job):
        raise Problem(403, "This token reads another job.", field="job", remedy="Leave `job` out.")
    return reader.job_id or job


def _topics(given: list[str]) -> frozenset[str]:
    try:
        return known_topics(given)
    except ValueError:
        raise BadInput(f"There is no such event. Use some of these: {', '.join(TOPICS)}.", field="topic") from None


def _number(last_event_id: str | None) -> int | None:
    if not last_event_id:
        return None
    # `isdigit` alone is true of `²`, too.
    if last_event_id.isascii() and last_event_id.isdigit() and int(last_event_id) <= MOST_NUMBER:
        return int(last_event_id)
    raise BadInput("It is no number. Send the `id` of the last event that you had.", field="Last-Event-ID")
