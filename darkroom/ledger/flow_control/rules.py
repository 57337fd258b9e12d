"""Flow control as pure functions: what an event does to a pending run, and which of those that wait may begin.

A pending run passes its limits in a fixed order. Those that wait for the same limits under the same keys are a line
(`gate_key`): one that may not begin holds up those behind it, and no others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from darkroom.ledger.event_tables import PendingRun
from darkroom.ledger.flow_control.terms import MOST_EVENTS, Over, Terms, WhenRunning

MOST_BYTES = 256 << 10  # of JSON that the events of one run give it; Prefect takes 512 KiB


@dataclass(frozen=True, kw_only=True)
class Running:
    """A job that flow control has let begin and that has not ended."""

    job_id: str
    singleton_key: str | None
    concurrency_key: str | None
    cancelling: bool


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What is known of the keys of those that wait.

    `begun`: when the last ones of a rate key began, newest first. `paced`: the next even place of a throttle key.
    """

    running: Sequence[Running] = ()
    begun: Mapping[str, Sequence[datetime]] = field(default_factory=dict)
    paced: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Begin:
    pending: PendingRun
    paced_until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Drop:
    pending: PendingRun
    reason: str


@dataclass(frozen=True, kw_only=True)
class Hold:
    """`until`: when it may begin; None: when something ends. `cancels`: a job that is to end for it."""

    pending: PendingRun
    reason: str
    until: datetime | None = None
    cancels: tuple[str, ...] = ()


Decision = Begin | Drop | Hold


def has_capacity(pending: PendingRun, *, bytes: int) -> bool:
    """Return whether one more event, with so many bytes of parameters, can join those that it has collected."""
    if not pending.takes_all or pending.events == 0:
        return True
    return pending.events < MOST_EVENTS and pending.bytes + bytes <= MOST_BYTES


def is_full(pending: PendingRun, terms: Terms) -> bool:
    return terms.batch is not None and pending.events >= terms.batch.size


def collects_until(pending: PendingRun, terms: Terms, *, now: datetime) -> datetime:
    """Return when it goes on if nothing more comes, given that an event has just come."""
    longest = [each.longest for each in (terms.debounce, terms.batch) if each is not None and each.longest is not None]
    ends = [pending.created_at + each for each in longest]
    if terms.debounce is not None:
        ends.append(now + terms.debounce.period)
    return min(ends)


def decide(waiting: Sequence[PendingRun], standing: Standing, terms: Terms, *, now: datetime) -> list[Decision]:
    """Decide on each that is first in its line at its turn; those behind one that is held have no decision."""
    counted = _Counted(standing, now=now)
    superseded = _superseded(waiting, terms)
    decisions: list[Decision] = []
    held: set[str] = set()
    for pending in sorted(waiting, key=lambda each: (each.ranked_at, each.id)):
        if pending.id in superseded:
            decisions.append(Drop(pending=pending, reason="a later one of its key took its place (singleton: cancel)"))
            continue
        if pending.gate_key in held:
            continue
        decision = counted.decide(pending, terms)
        decisions.append(decision)
        if isinstance(decision, Hold):
            held.add(pending.gate_key)
    return decisions


def _superseded(waiting: Sequence[PendingRun], terms: Terms) -> set[str]:
    """Return those that a newer one of their key replaces.

    Where the new one takes the old one's place, only the newest of each key still counts.
    """
    if terms.singleton is None or terms.singleton.when_running is not WhenRunning.CANCEL:
        return set()
    newest: dict[str, PendingRun] = {}
    for pending in sorted(waiting, key=lambda each: (each.created_at, each.id)):
        if pending.singleton_key is not None:
            newest[pending.singleton_key] = pending
    kept = {pending.id for pending in newest.values()}
    return {pending.id for pending in waiting if pending.singleton_key is not None and pending.id not in kept}


class _Counted:
    """What stands, with what this turn lets begin."""

    def __init__(self, standing: Standing, *, now: datetime) -> None:
        self._now = now
        self._running = list(standing.running)
        self._begun = {key: list(times) for key, times in standing.begun.items()}
        self._paced = dict(standing.paced)

    def decide(self, pending: PendingRun, terms: Terms) -> Decision:
        stopped = (
            # What drops it first, then what it waits for: nothing waits that will be dropped.
            self._refused(pending, terms)
            or self._alone(pending, terms)
            or self._crowded(pending, terms)
            or self._queued(pending, terms)
            or self._throttled(pending, terms)
        )
        return stopped or self._begin(pending, terms)

    def _refused(self, pending: PendingRun, terms: Terms) -> Decision | None:
        if terms.rate_limit is None or terms.rate_limit.over is not Over.REFUSE or self._within_rate(pending, terms):
            return None
        limit, period = terms.rate_limit.limit, _said(terms.rate_limit.period)
        return Drop(pending=pending, reason=f"{limit} of its key have begun within {period}, the most (rate limit)")

    def _alone(self, pending: PendingRun, terms: Terms) -> Decision | None:
        if terms.singleton is None or pending.singleton_key is None:
            return None
        others = [each for each in self._running if each.singleton_key == pending.singleton_key]
        if not others:
            return None
        other = others[0].job_id
        match terms.singleton.when_running:
            case WhenRunning.SKIP:
                return Drop(pending=pending, reason=f"{other} of its key is under way (singleton: skip)")
            case WhenRunning.CANCEL:
                cancels = tuple(each.job_id for each in others if not each.cancelling)
                return Hold(pending=pending, reason=f"{other} is cancelled for it (singleton: cancel)", cancels=cancels)
            case WhenRunning.QUEUE:
                return Hold(pending=pending, reason=f"{other} of its key is under way (singleton: queue)")

    def _crowded(self, pending: PendingRun, terms: Terms) -> Decision | None:
        if terms.concurrency is None or pending.concurrency_key is None:
            return None
        running = sum(each.concurrency_key == pending.concurrency_key for each in self._running)
        if running < terms.concurrency.limit:
            return None
        return Hold(pending=pending, reason=f"{running} of its key are under way, the most (concurrency)")

    def _queued(self, pending: PendingRun, terms: Terms) -> Decision | None:
        if terms.rate_limit is None or self._within_rate(pending, terms):
            return None
        limit, period = terms.rate_limit.limit, terms.rate_limit.period
        # Newest first: one more may begin when the last of so many is out of the period.
        until = self._begun[str(pending.rate_key)][limit - 1] + period
        reason = f"{limit} of its key have begun within {_said(period)}, the most (rate limit)"
        return Hold(pending=pending, reason=reason, until=until)

    def _within_rate(self, pending: PendingRun, terms: Terms) -> bool:
        if terms.rate_limit is None or pending.rate_key is None:
            return True
        since = self._now - terms.rate_limit.period
        return sum(at > since for at in self._begun.get(pending.rate_key, ())) < terms.rate_limit.limit

    def _throttled(self, pending: PendingRun, terms: Terms) -> Decision | None:
        """Hold back what the generic cell rate algorithm does not let begin yet.

        Each begins its share of the period later, `burst` of them before that.
        """
        if terms.throttle is None or pending.throttle_key is None:
            return None
        place = self._paced.get(pending.throttle_key, self._now)
        until = place - (terms.throttle.burst - 1) * _share(terms)
        if until <= self._now:
            return None
        rate = f"{terms.throttle.limit} of its key begin each {_said(terms.throttle.period)}"
        return Hold(pending=pending, reason=f"{rate} (throttle)", until=until)

    def _begin(self, pending: PendingRun, terms: Terms) -> Begin:
        if pending.rate_key is not None:
            self._begun.setdefault(pending.rate_key, []).insert(0, self._now)
        self._running.append(
            Running(
                # Its job is not made yet; the reasons of those behind it name it so.
                job_id=f"the run of {pending.id}",
                singleton_key=pending.singleton_key,
                concurrency_key=pending.concurrency_key,
                cancelling=True,  # not in this turn: it has only just begun
            )
        )
        if terms.throttle is None or pending.throttle_key is None:
            return Begin(pending=pending)
        # From now at the earliest: a time in which none came is not made up for.
        place = max(self._paced.get(pending.throttle_key, self._now), self._now) + _share(terms)
        self._paced[pending.throttle_key] = place
        return Begin(pending=pending, paced_until=place)


def _share(terms: Terms) -> timedelta:
    assert terms.throttle is not None
    return terms.throttle.period / terms.throttle.limit


def _said(period: timedelta) -> str:
    """Write a period for people: "90 s", "5 min", "2 h"."""
    seconds = period.total_seconds()
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:.13g} s"  # to the microsecond, as far as periods go
