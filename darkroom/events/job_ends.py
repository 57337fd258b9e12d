"""The ends of jobs as events: what starts on them, waits for them or is cancelled by them needs nothing of its own.

They come in as those of applications do, after the commit that ended the job. Nobody else can send events of these
names.

A job that such an event has started is one deeper than the one that had ended. Past `DEEPEST` the event is refused, so
that a flow which starts on its own failure comes to an end, and stands on record as the loop that it is.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from darkroom.events.ingest import EventIngest, Sender
from darkroom.events.types import EventData, Id, event
from darkroom.ledger import NOTHING, OPERATOR, Implied, JobEnd, Ledger

SOURCE = "darkroom"
AT_ONCE = 100

Code = Annotated[str, Field(max_length=200)]


class _Ended(EventData):
    job: Id
    kind: Id
    deployment: Id
    tags: Annotated[list[Code], Field(max_length=100, default_factory=list)]
    cost_usd: float  # of what was paid for it; a batch's is that of its rows
    price_usd: float | None = None  # with its plan's mark-up; none in events of before there were any


@event("job.completed")
class JobCompleted(_Ended):
    pass


@event("job.cancelled")
class JobCancelled(_Ended):
    pass


@event("job.failed")
class JobFailed(_Ended):
    error_class: Code | None = None  # "permanent"
    error_code: Code | None = None  # "content_policy"
    step: Code | None = None


def ingest_ends(ledger: Ledger, ingest: EventIngest) -> tuple[int, Implied]:
    """Make events of the oldest ends of jobs that are none yet. Return how many, and what they imply."""
    ends = ledger.news.to_ingest(limit=AT_ONCE)
    implied = NOTHING
    for depth in sorted({end.depth for end in ends}):
        sender = Sender(
            source=SOURCE,
            owner_id=OPERATOR,
            user_id=None,
            named=lambda ids: {id: id for id in ids},
            # Depth goes on through events that jobs send, pending runs and children.
            depth=depth + 1,
            system=True,
        )
        implied += ingest.take(sender, [_sent(end) for end in ends if end.depth == depth])[1]
    if ends:
        # Last: what is tried again is on record already, and is not taken twice.
        ledger.news.ingested([end.id for end in ends])
    return len(ends), implied


def _sent(end: JobEnd) -> dict[str, Any]:
    data = {
        "job": end.job_id,
        "kind": end.kind,
        "deployment": end.deployment,
        "tags": list(end.tags),
        "cost_usd": float(end.cost_usd),
        "price_usd": float(end.price_usd),
    }
    if end.event == "job.failed":
        error = (end.data or {}).get("error") or {}
        data |= {"error_class": error.get("class"), "error_code": error.get("code"), "step": error.get("step")}
    # The number of the news is its key: the event is there once, however often it is tried.
    return {"name": end.event, "data": data, "id": f"end-{end.id}", "ts": end.created_at, "user": end.user_id}
