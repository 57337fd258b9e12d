"""What was promised, and whether it was kept. Pure: results in, verdicts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.asleep import Asleep, Standing
from benchmarks.figures import Result, Spread
from benchmarks.meters import FLOW_PROCESSES, WORKER
from benchmarks.workloads import ALONE, BURST, LIMITED_FAST, LIMITED_SLOW, LINGERING, SUSPENDED

DARKROOM, STOCK = "darkroom", "stock"

# The kernel counts CPU in steps of 10 ms and memory in pages that come and go: less than this is not measurable.
CPU_NOISE_MS_PER_SECOND = 5.0
MEMORY_NOISE_MB = 5.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`met` is None where it was not measured."""

    target: str
    measured: str
    met: bool | None


@dataclass(frozen=True, kw_only=True)
class _Bound:
    workload: str
    figure: str
    bound: float
    words: str
    at_least: bool = False

    def held_against(self, seen: Spread | None) -> Verdict:
        words = f"{self.workload}: {self.words} {'≥' if self.at_least else '≤'} {self.bound:g}"
        if seen is None:
            return Verdict(target=words, measured="not measured", met=None)
        met = seen.median >= self.bound if self.at_least else seen.median <= self.bound
        return Verdict(target=words, measured=f"{seen.median:.4g}", met=met)


BOUNDS = (
    _Bound(workload=BURST, figure="pictures_per_second", bound=30, words="pictures per second", at_least=True),
    _Bound(workload=BURST, figure="cpu_ms", bound=45, words="CPU per picture, ms"),
    _Bound(workload=BURST, figure="next_line_ms_p95", bound=500, words="webhook to next line p95, ms"),
    _Bound(workload=BURST, figure="stored_ms_p95", bound=800, words="webhook to stored p95, ms"),
    _Bound(workload=BURST, figure="peak_memory_mb", bound=850, words="memory of the whole stack at its peak, MB"),
    _Bound(workload=ALONE, figure="overhead_ms_p50", bound=400, words="overhead p50, ms"),
    _Bound(workload=ALONE, figure="overhead_ms_p95", bound=600, words="overhead p95, ms"),
    _Bound(workload=LINGERING, figure="overhead_ms_p50", bound=100, words="overhead p50, ms"),
    _Bound(workload=SUSPENDED, figure="overhead_ms_p50", bound=1000, words="overhead p50, ms"),
    _Bound(workload=SUSPENDED, figure="overhead_ms_p95", bound=1500, words="overhead p95, ms"),
    _Bound(workload=ALONE, figure="next_line_ms_p50", bound=20, words="webhook to next line p50, ms"),
    _Bound(workload=SUSPENDED, figure="next_line_ms_p50", bound=600, words="webhook to next line p50, ms"),
    _Bound(workload=SUSPENDED, figure="next_line_ms_p95", bound=1000, words="webhook to next line p95, ms"),
    _Bound(workload=LIMITED_SLOW, figure="wall_to_ideal", bound=1.05, words="wall ÷ ideal"),
    _Bound(workload=LIMITED_FAST, figure="wall_to_ideal", bound=1.10, words="wall ÷ ideal"),
)


def verdicts(results: Sequence[Result], sleepers: Asleep | None) -> list[Verdict]:
    by_name = {(each.contestant, each.workload): each for each in results}
    own = {workload: each for (contestant, workload), each in by_name.items() if contestant == DARKROOM}
    return [
        _against_stock(own.get(SUSPENDED), by_name.get((STOCK, SUSPENDED))),
        *(bound.held_against(_figure(own, bound)) for bound in BOUNDS),
        *_of_sleepers(sleepers),
    ]


def worker_ms(result: Result) -> float:
    """CPU per picture of worker and flow processes."""
    return sum(result.cpu_ms[part].median for part in (WORKER, FLOW_PROCESSES))


def _figure(own: Mapping[str, Result], bound: _Bound) -> Spread | None:
    return own[bound.workload].figures[bound.figure] if bound.workload in own else None


def _against_stock(own: Result | None, stock: Result | None) -> Verdict:
    words = f"{SUSPENDED}: CPU of worker and flow processes ≤ 1/8 of the stock worker's"
    if own is None or stock is None:
        return Verdict(target=words, measured="not measured", met=None)
    ours, theirs = worker_ms(own), worker_ms(stock)
    return Verdict(
        target=words, measured=f"{ours:.0f} of {theirs:.0f} ms, 1/{theirs / ours:.1f}", met=ours <= theirs / 8
    )


def _of_sleepers(sleepers: Asleep | None) -> list[Verdict]:
    words = [
        "W4 suspended runs: no process",
        "W4 suspended runs: no memory of the worker's",
        "W4 suspended runs: no CPU of the worker's",
    ]
    if sleepers is None:
        return [Verdict(target=each, measured="not measured", met=None) for each in words]
    more = sleepers.with_them.flow_processes - sleepers.without.flow_processes
    memory_mb = sleepers.more(_memory, WORKER, FLOW_PROCESSES) / 1e6
    cpu_ms = sleepers.more(_cpu, WORKER, FLOW_PROCESSES)
    return [
        Verdict(target=words[0], measured=f"{more:+d} for {sleepers.runs} runs", met=more <= 0),
        Verdict(target=words[1], measured=f"{memory_mb:+.1f} MB in all", met=memory_mb <= MEMORY_NOISE_MB),
        Verdict(target=words[2], measured=f"{cpu_ms:+.1f} ms a second", met=cpu_ms <= CPU_NOISE_MS_PER_SECOND),
    ]


def _memory(standing: Standing) -> Mapping[str, float]:
    return standing.memory_bytes


def _cpu(standing: Standing) -> Mapping[str, float]:
    return standing.cpu_ms_per_second
