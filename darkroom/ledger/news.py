"""News: the one source of the stream, told in the transaction of what it tells, and numbered after the commit.

Whoever writes a row of `notification` takes no lock and no number, so a user's jobs do not wait for each other. A
number that was taken in the transaction could be passed over: two transactions commit in another order than the one in
which they took theirs, and a reader that has seen the later number never asks for the earlier one. So a row's `place`
is given once it is committed, by whoever reads next (`number`): one at a time, under an advisory lock that is held
until that has committed too. Whoever sees a place therefore sees all smaller ones, whatever is still on its way gets a
larger one, and "everything after N" misses nothing. Places grow over all users and have gaps for each of them.

Within a job the order is that in which things happened: a row's `id` is taken with the job's own row locked, and places
are given in the order of ids.

A trigger notifies the channel `CHANNEL` for each commit with news; polling is the backstop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from darkroom.ledger.part import Part

CHANNEL = "darkroom_news"
MOST_NUMBERED = 1000  # at once
MOST_FORGOTTEN = 10_000  # at once
ENDS = ("job.completed", "job.failed", "job.cancelled")
TOPICS = (
    "job.created",
    "job.running",
    "job.progress",
    *ENDS,
    "asset.stored",
    "batch.awaiting_choice",
    "wait.opened",
    "budget.reached",
    "callback.disabled",
)


@dataclass(frozen=True, kw_only=True)
class News:
    """One piece of news. `number`: its place in the stream. `user`: the service's own name of its end user."""

    number: int
    event: str
    user_id: str
    parent_id: str | None  # the service whose end user that is
    user: str | None
    job_id: str | None
    kind: str | None
    data: Mapping[str, Any] | None
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class JobEnd:
    """The end of a job, as an event is made of it. `depth`: of the job."""

    id: int
    event: str
    user_id: str
    job_id: str
    data: Mapping[str, Any] | None
    created_at: datetime
    kind: str
    deployment: str
    tags: Sequence[str]
    depth: int
    cost_usd: Decimal
    price_usd: Decimal


@dataclass(frozen=True, kw_only=True)
class Audience:
    """Whose news somebody follows. `service`: also that of all its end users. `topics`: none means all of them."""

    user_id: str
    service: bool = False
    job_id: str | None = None
    topics: frozenset[str] = frozenset()

    def hears(self, news: News) -> bool:
        return (
            (news.user_id == self.user_id or (self.service and news.parent_id == self.user_id))
            and self.job_id in (None, news.job_id)
            and (not self.topics or news.event in self.topics)
        )


class AllNews(Part):
    def number(self) -> bool:
        """Give places to what was committed without one. Return whether there may be more."""
        return bool(self._run("news_number", most=MOST_NUMBERED).scalar_one() == MOST_NUMBERED)

    def now(self) -> int:
        """Return the place behind which all news comes that is committed from now on."""
        while self.number():
            pass
        return self.newest()

    def newest(self) -> int:
        """Return the largest place that was given, or 0."""
        return int(self._run("news_newest").scalar_one())

    def after(self, place: int, *, limit: int) -> list[News]:
        """Return everybody's news after that place, in order."""
        return [News(**row._mapping) for row in self._run("news_after", place=place, limit=limit)]

    def of(self, audience: Audience, *, after: int, until: int, limit: int) -> list[News]:
        """Return what the audience hears after the one place and up to the other, in order."""
        rows = self._run(
            "news_of_service" if audience.service else "news_of_user",
            user_id=audience.user_id,
            job_id=audience.job_id,
            topics=sorted(audience.topics) or None,
            place=after,
            until=until,
            limit=limit,
        )
        return [News(**row._mapping) for row in rows]

    def to_ingest(self, *, limit: int) -> list[JobEnd]:
        """Return ends of jobs that are no events yet, oldest first."""
        # Numbered first: numbering writes the rows of `ingested`, too, and the two could lock them in opposite orders.
        while self.number():
            pass
        return [JobEnd(**row._mapping) for row in self._run("news_to_ingest", limit=limit)]

    def ingested(self, ids: Sequence[int]) -> None:
        self._run("news_ingested", ids=list(ids))

    def forget(self, *, older_than: timedelta) -> int:
        """Delete old news, a bounded number at once. Return how many."""
        before = self._now() - older_than
        return self._run("news_forget", before=before, most=MOST_FORGOTTEN).rowcount


def known_topics(topics: Sequence[str]) -> frozenset[str]:
    """Return the topics that are meant. `job` means all of `job.…`. Raises ValueError, naming one that is none."""
    found: set[str] = set()
    for each in topics:
        meant = {topic for topic in TOPICS if topic == each or topic.startswith(f"{each}.")}
        if not meant:
            raise ValueError(each)
        found |= meant
    return frozenset(found)
