"""Flow control as it is declared beside a deployment, and what it makes of one event.

`Terms` are data: what `flow_control` in prefect.yaml says, without its expressions. `Held` is what those expressions
gave for one event: under which keys it is collected and counted.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from darkroom.durations import duration

MOST_EVENTS = 10_000  # that one run is given
MOST_RUNS = 100_000  # that a limit can be
SHORTEST_PERIOD = timedelta(milliseconds=10)
LONGEST_PERIOD = timedelta(days=31)
MOST_PRIORITY = 600  # seconds, either way


class Keep(StrEnum):
    LAST = "last"  # the run is given what the last event says
    ALL = "all"  # … a list of what each says


class Over(StrEnum):
    """The outcome of a start beyond a rate limit."""

    REFUSE = "refuse"
    QUEUE = "queue"


class WhenRunning(StrEnum):
    """The outcome of a start while another of its key is under way."""

    SKIP = "skip"  # the new one is dropped
    CANCEL = "cancel"  # the old one is cancelled, and the new one begins when it has ended
    QUEUE = "queue"  # the new one waits


def _read(value: object) -> object:
    """Read a period as people write it, or as it stands on record (ISO 8601). A number without a unit is neither."""
    if isinstance(value, timedelta) or (isinstance(value, str) and value.startswith("P")):
        return value
    return duration(str(value))


Period = Annotated[timedelta, BeforeValidator(_read), Field(ge=SHORTEST_PERIOD, le=LONGEST_PERIOD)]
Runs = Annotated[int, Field(ge=1, le=MOST_RUNS)]


class _Terms(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Debounce(_Terms):
    """Begins once no event has come for `period`, and `longest` after the first at the latest."""

    period: Period
    longest: Period | None = None
    keep: Keep = Keep.LAST

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.longest is not None and self.longest < self.period:
            raise ValueError("longest is shorter than period")
        return self


class Batch(_Terms):
    """Begins with `size` events, and `longest` after the first at the latest. The run is given all of them."""

    size: int = Field(ge=1, le=MOST_EVENTS)
    longest: Period


class Throttle(_Terms):
    """Begins evenly, `limit` in each `period`, so many at once at most; the others wait."""

    limit: Runs
    period: Period
    burst: Runs = 1

    @model_validator(mode="after")
    def _in_proportion(self) -> Self:
        if self.burst > self.limit:
            raise ValueError("burst is more than limit")
        return self


class RateLimit(_Terms):
    """At most `limit` begin within any `period`."""

    limit: Runs
    period: Period
    over: Over = Over.REFUSE


class Singleton(_Terms):
    """Of each key one is under way at most."""

    when_running: WhenRunning = WhenRunning.SKIP


class Concurrency(_Terms):
    """Of each key so many are under way at most; the others wait."""

    limit: Runs


class Terms(_Terms):
    """All that holds together: events gather first (debounce, batch), then a start passes every other limit."""

    debounce: Debounce | None = None
    batch: Batch | None = None
    rate_limit: RateLimit | None = None
    throttle: Throttle | None = None
    singleton: Singleton | None = None
    concurrency: Concurrency | None = None

    @property
    def collects(self) -> bool:
        return self.debounce is not None or self.batch is not None

    @property
    def takes_all(self) -> bool:
        """Return whether a run is given a list of what its events say."""
        return self.batch is not None or (self.debounce is not None and self.debounce.keep is Keep.ALL)


class Held(_Terms):
    """What flow control makes of one event. A key of None: that limit is not declared; "": it has no key, so all count.

    `gather_key`: events with the same one, of the same user, become one start. `priority`: seconds that it stands
    before its time among those that wait, from -600 to 600.
    """

    terms: Terms
    gather_key: str | None = None
    rate_key: str | None = None
    throttle_key: str | None = None
    singleton_key: str | None = None
    concurrency_key: str | None = None
    priority: int = Field(0, ge=-MOST_PRIORITY, le=MOST_PRIORITY)
