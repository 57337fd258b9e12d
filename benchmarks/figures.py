"""From what was seen to figures. Pure functions: `tests/unit/test_benchmark_figures.py` holds cases against them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture's way, all on one clock. A time is None where the contestant does not record it."""

    began_at: datetime  # the driver began its POST
    webhook_at: datetime | None  # the provider began to send it
    next_line_at: datetime | None  # the first thing the flow did with the result
    stored_at: datetime | None
    finished_at: datetime


@dataclass(frozen=True, kw_only=True)
class Slice:
    """What was used for some of a round's pictures."""

    pictures: int
    cpu_seconds: Mapping[str, float]  # by part
    prefect_requests: Counter[str] | None  # by method and path


@dataclass(frozen=True, kw_only=True)
class Round:
    pictures: Sequence[Picture]
    latency_seconds: float  # the provider's, of each picture
    # What a machine that costs nothing would take. None where the driver rested in between.
    ideal_seconds: float | None
    in_line: bool  # its pictures waited for one another, so the time each took says nothing
    slices: Sequence[Slice]
    memory_at_rest_bytes: Mapping[str, int]  # by part, before the first order
    peak_memory_bytes: Mapping[str, int]  # by part, in the moment when their sum was highest
    provider_cpu_seconds: float
    driver_cpu_seconds: float
    other_cores: float  # what processes that are not ours used meanwhile

    @property
    def wall_seconds(self) -> float:
        first = min(picture.began_at for picture in self.pictures)
        return (max(picture.finished_at for picture in self.pictures) - first).total_seconds()


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A median and what it lies between."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Result:
    """One contestant's rounds of one workload."""

    contestant: str
    workload: str
    rounds: Sequence[Round]
    figures: Mapping[str, Spread | None] = field(default_factory=dict)
    cpu_ms: Mapping[str, Spread] = field(default_factory=dict)  # per picture, by part


def percentile(values: Iterable[float], percent: float) -> float:
    """Between the two nearest ranks in proportion."""
    ranked = sorted(values)
    place = (len(ranked) - 1) * percent / 100
    below, above = ranked[math.floor(place)], ranked[math.ceil(place)]
    return below + (above - below) * (place - math.floor(place))


def spread(values: Iterable[float]) -> Spread:
    seen = list(values)
    return Spread(median=median(seen), low=min(seen), high=max(seen))


def _spread_of(values: Iterable[float]) -> Spread | None:
    seen = list(values)
    return spread(seen) if seen else None


def overheads(round_: Round) -> list[float]:
    """Seconds from order to finished job beyond the provider's latency."""
    return [
        (picture.finished_at - picture.began_at).total_seconds() - round_.latency_seconds for picture in round_.pictures
    ]


def since_webhook(round_: Round, until: Callable[[Picture], datetime | None]) -> list[float]:
    """Seconds, of the pictures of which both times are known."""
    return [
        (end - picture.webhook_at).total_seconds()
        for picture in round_.pictures
        if picture.webhook_at is not None and (end := until(picture)) is not None
    ]


def result(contestant: str, workload: str, rounds: Sequence[Round]) -> Result:
    return Result(
        contestant=contestant, workload=workload, rounds=rounds, figures=_figures(rounds), cpu_ms=_cpu_ms(rounds)
    )


def _figures(rounds: Sequence[Round]) -> dict[str, Spread | None]:
    slices = [each for round_ in rounds for each in round_.slices]
    return {
        **_pace(rounds),
        **_of_pictures("overhead_ms", [each for each in rounds if not each.in_line], overheads),
        **_of_pictures("next_line_ms", rounds, lambda each: since_webhook(each, lambda one: one.next_line_at)),
        **_of_pictures("stored_ms", rounds, lambda each: since_webhook(each, lambda one: one.stored_at)),
        "cpu_ms": spread(1000 * sum(each.cpu_seconds.values()) / each.pictures for each in slices),
        "prefect_requests": _spread_of(
            each.prefect_requests.total() / each.pictures for each in slices if each.prefect_requests is not None
        ),
        "peak_memory_mb": spread(sum(each.peak_memory_bytes.values()) / 1e6 for each in rounds),
        "provider_cpu_ms": spread(1000 * each.provider_cpu_seconds / len(each.pictures) for each in rounds),
        "driver_cpu_ms": spread(1000 * each.driver_cpu_seconds / len(each.pictures) for each in rounds),
        "other_cores": spread(each.other_cores for each in rounds),
    }


def _pace(rounds: Sequence[Round]) -> dict[str, Spread | None]:
    timed = [(each, each.ideal_seconds) for each in rounds if each.ideal_seconds is not None]
    return {
        "pictures_per_second": _spread_of(len(each.pictures) / each.wall_seconds for each, _ in timed),
        "wall_to_ideal": _spread_of(each.wall_seconds / ideal for each, ideal in timed),
    }


def _of_pictures(
    name: str, rounds: Sequence[Round], seconds: Callable[[Round], list[float]]
) -> dict[str, Spread | None]:
    """p50 and p95 over the pictures of a round, in milliseconds; median and spread over the rounds."""
    seen = [values for round_ in rounds if (values := seconds(round_))]
    return {
        f"{name}_p{percent}": _spread_of(1000 * percentile(values, percent) for values in seen) for percent in (50, 95)
    }


def _cpu_ms(rounds: Sequence[Round]) -> dict[str, Spread]:
    slices = [each for round_ in rounds for each in round_.slices]
    parts = dict.fromkeys(part for each in slices for part in each.cpu_seconds)
    return {part: spread(1000 * each.cpu_seconds.get(part, 0.0) / each.pictures for each in slices) for part in parts}


def requests_per_picture(result: Result) -> dict[str, float]:
    """To Prefect's server, by method and path, the most frequent first."""
    slices = [each for round_ in result.rounds for each in round_.slices]
    all_of_them: Counter[str] = sum((each.prefect_requests or Counter() for each in slices), Counter())
    pictures = sum(each.pictures for each in slices)
    return {what: count / pictures for what, count in all_of_them.most_common()}


def largest(parts: Mapping[str, float]) -> tuple[str, float]:
    """The part with the largest share, and that share."""
    name = max(parts, key=lambda part: parts[part])
    return name, parts[name] / (sum(parts.values()) or 1.0)
