"""What is asked of each contestant, and what is seen meanwhile.

W1: pictures all at once, no limit. W2: one picture alone, again and again. W3: more orders than may be in flight at
once. (W4, runs that sleep, is in `asleep.py`.)
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import count

from support import wait_until

from benchmarks.contestants import Contestant, Way
from benchmarks.driver import Posted, post_all
from benchmarks.figures import Picture, Result, Round, Slice, result
from benchmarks.meters import Memory, cpu_seconds, machine_seconds, own_cpu_seconds, processes, sampled_memory
from benchmarks.provider import Provider

BURST = "W1 burst"
ALONE = "W2 alone, within the patience"
LINGERING = "W2 alone, while the user's run lingers"
SUSPENDED = "W2 alone, suspension forced"
LIMITED_FAST = "W3 10 in flight, 0.5 s"
LIMITED_SLOW = "W3 10 in flight, 2 s"
IN_FLIGHT = 10
LATENCY = 1.0  # seconds, where the workload does not name another

LONGEST_SECONDS = 240.0
_numbers = count(1)


def burst(contestant: Contestant, provider: Provider, *, pictures: int, rounds: int) -> Result:
    provider.takes(seconds=LATENCY)
    contestant.limit(None)
    seen = [_at_once(contestant, provider, pictures, latency=LATENCY, in_flight=pictures) for _ in range(rounds)]
    return result(contestant.name, BURST, seen)


def limited(contestant: Contestant, provider: Provider, *, pictures: int, latency: float) -> Result:
    provider.takes(seconds=latency)
    contestant.limit(IN_FLIGHT)
    seen = [_at_once(contestant, provider, pictures, latency=latency, in_flight=IN_FLIGHT)]
    return result(contestant.name, LIMITED_FAST if latency < 1 else LIMITED_SLOW, seen)


def alone(contestant: Contestant, provider: Provider, *, pictures: int, workload: str) -> Result:
    """Each when no trace of the one before is left; while the run lingers: each as soon as the last is finished."""
    provider.takes(seconds=LATENCY)
    contestant.limit(None)
    _warm_up(contestant, workload)
    seen = _one_by_one(contestant, provider, pictures, rests=workload != LINGERING)
    return result(contestant.name, workload, [seen])


def _warm_up(contestant: Contestant, workload: str) -> None:
    """A run that lingers there has to be; otherwise the first picture is a first one for everybody."""
    if workload == LINGERING:
        post_all(contestant.door, ["warm up"])
        _finished(contestant)


def _at_once(contestant: Contestant, provider: Provider, pictures: int, *, latency: float, in_flight: int) -> Round:
    marker = f"bench {next(_numbers)}."
    with _watched(contestant, provider) as watch:
        posted = post_all(contestant.door, [f"{marker}{n}" for n in range(pictures)])
        _at_rest(contestant)
        watch.cut(pictures)
    ideal = math.ceil(pictures / in_flight) * latency
    seen = _pictures(contestant, provider, posted, marker)
    return watch.round(seen, latency=latency, ideal=ideal, in_line=pictures > in_flight)


def _one_by_one(contestant: Contestant, provider: Provider, pictures: int, *, rests: bool) -> Round:
    until = _at_rest if rests else _finished
    marker = f"bench {next(_numbers)}."
    posted: list[Posted] = []
    with _watched(contestant, provider) as watch:
        for n in range(pictures):
            posted += post_all(contestant.door, [f"{marker}{n}"])
            time.sleep(LATENCY)  # nothing is finished before: no need to ask
            until(contestant)
            if rests:
                watch.cut(1)
        if not rests:
            watch.cut(pictures)
    seen = _pictures(contestant, provider, posted, marker)
    return watch.round(seen, latency=LATENCY, ideal=None if rests else pictures * LATENCY)


def _finished(contestant: Contestant) -> None:
    wait_until(lambda: not contestant.open(), timeout=LONGEST_SECONDS, every=0.02, what="every picture")


def _at_rest(contestant: Contestant) -> None:
    wait_until(contestant.at_rest, timeout=LONGEST_SECONDS, every=0.2, what="every picture, and rest")
    time.sleep(contestant.settle_seconds)


class Watch:
    """What is used from its making on, cut into slices."""

    def __init__(self, contestant: Contestant, provider: Provider, memory: Memory) -> None:
        self._contestant = contestant
        self._provider = provider
        self._memory = memory
        self._slices: list[Slice] = []
        self._began = self._seconds()
        self._cpu, self._requests = self._parts(), contestant.prefect_requests()
        self._ended = self._began

    def cut(self, pictures: int) -> None:
        cpu, requests = self._parts(), self._contestant.prefect_requests()
        more = None if requests is None or self._requests is None else requests - self._requests
        used = {part: cpu[part] - self._cpu.get(part, 0.0) for part in cpu}
        self._slices.append(Slice(pictures=pictures, cpu_seconds=used, prefect_requests=more))
        self._cpu, self._requests = cpu, requests

    def end(self) -> None:
        self._ended = self._seconds()

    def round(
        self, pictures: Sequence[Picture], *, latency: float, ideal: float | None, in_line: bool = False
    ) -> Round:
        wall, machine, provider, driver = (end - start for start, end in zip(self._began, self._ended, strict=True))
        ours = provider + driver + sum(sum(each.cpu_seconds.values()) for each in self._slices)
        return Round(
            pictures=pictures,
            latency_seconds=latency,
            ideal_seconds=ideal,
            in_line=in_line,
            slices=self._slices,
            memory_at_rest_bytes=self._memory.first,
            peak_memory_bytes=self._memory.peak,
            provider_cpu_seconds=provider,
            driver_cpu_seconds=driver,
            other_cores=max(0.0, machine - ours) / wall,
        )

    def _parts(self) -> dict[str, float]:
        return cpu_seconds(processes(), self._contestant.processes())

    def _seconds(self) -> tuple[float, float, float, float]:
        provider = cpu_seconds(processes(), {"provider": self._provider.pid})["provider"]
        return time.monotonic(), machine_seconds(), provider, own_cpu_seconds()


@contextmanager
def _watched(contestant: Contestant, provider: Provider) -> Iterator[Watch]:
    with sampled_memory(contestant.processes) as memory:
        watch = Watch(contestant, provider, memory)
        yield watch
        watch.end()


def _pictures(contestant: Contestant, provider: Provider, posted: Sequence[Posted], marker: str) -> list[Picture]:
    ways = {way.id: way for way in contestant.ways([each.job_id for each in posted])}
    _require_all(contestant, posted, ways.values())
    sent = provider.webhooks_sent(marker)
    return [_picture(each, ways[each.job_id], sent) for each in posted]


def _picture(posted: Posted, way: Way, sent: Mapping[str, datetime]) -> Picture:
    assert way.finished_at is not None
    return Picture(
        began_at=posted.began_at,
        webhook_at=sent.get(way.request_id or ""),
        next_line_at=way.next_line_at,
        stored_at=way.stored_at,
        finished_at=way.finished_at,
    )


def _require_all(contestant: Contestant, posted: Sequence[Posted], ways: Collection[Way]) -> None:
    failures = [way.error or "not finished" for way in ways if not way.completed]
    if failures or len(ways) != len(posted):
        raise RuntimeError(f"{contestant.name}: {len(failures)} of {len(posted)} pictures failed: {failures[:1]}")
