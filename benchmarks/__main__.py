"""`PYTHONPATH=tests python -m benchmarks --into DIR`: everything, in one go. `QUICK=1`: in five minutes, not twenty.

Ends with 0 if everything could be measured, whatever the figures are.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import report
from benchmarks.asleep import Asleep, asleep
from benchmarks.contestants import Contestant, running_darkroom, running_floor
from benchmarks.fairness import Beside, beside
from benchmarks.figures import Result
from benchmarks.plan import FULL, QUICK, Plan
from benchmarks.provider import Provider, running_provider
from benchmarks.targets import DARKROOM, STOCK, verdicts
from benchmarks.webhooks import Webhooks, webhooks
from benchmarks.workloads import ALONE, LINGERING, SUSPENDED, alone, burst, limited

FLOOR = "floor"


class Bench:
    def __init__(self, plan: Plan, provider: Provider, home: Path) -> None:
        self._plan = plan
        self._provider = provider
        self._home = home
        self.results: list[Result] = []
        self.sleepers: Asleep | None = None
        self.taken: Webhooks | None = None
        self.two_users: Beside | None = None

    def floor(self) -> None:
        with running_floor(self._home / "floor", self._provider) as pool:
            self._burst(pool)
            self._one_by_one(pool, ALONE)
            if self._plan.floor_limited:
                self._limited(pool)

    def darkroom(self) -> None:
        home = self._home / "warm"
        with running_darkroom(DARKROOM, home, self._provider, worker="warm") as stack:
            self._one_by_one(stack, ALONE)
            self._one_by_one(stack, LINGERING)
            self._burst(stack)
            self._limited(stack)
        with running_darkroom(DARKROOM, home, self._provider, worker="warm", patience_seconds=0) as stack:
            self._one_by_one(stack, SUSPENDED)
            self._say("W4")
            plan = self._plan
            self.sleepers = asleep(stack, self._provider, runs=plan.asleep_runs, seconds=plan.asleep_seconds)

    def stock(self) -> None:
        home, plan = self._home / "stock", self._plan
        if plan.stock_within_patience:
            with running_darkroom(STOCK, home, self._provider, worker="process") as stack:
                self._keep(alone(stack, self._provider, pictures=plan.stock_alone_pictures, workload=ALONE))
                self._keep(burst(stack, self._provider, pictures=plan.stock_burst_pictures, rounds=1))
        with running_darkroom(STOCK, home, self._provider, worker="process", patience_seconds=0) as stack:
            self._keep(alone(stack, self._provider, pictures=plan.stock_alone_pictures, workload=SUSPENDED))

    def webhooks(self) -> None:
        plan = self._plan
        self._say("W5")
        self.taken = webhooks(
            self._home / "webhooks", self._provider, requests=plan.webhooks, rounds=plan.webhook_rounds
        )

    def fairness(self) -> None:
        with running_darkroom(DARKROOM, self._home / "fairness", self._provider, worker="warm") as stack:
            self._say("W6")
            self.two_users = beside(stack, self._provider, pictures=self._plan.beside_pictures)

    def _one_by_one(self, contestant: Contestant, workload: str) -> None:
        self._keep(alone(contestant, self._provider, pictures=self._plan.alone_pictures, workload=workload))

    def _burst(self, contestant: Contestant) -> None:
        plan = self._plan
        self._keep(burst(contestant, self._provider, pictures=plan.burst_pictures, rounds=plan.burst_rounds))

    def _limited(self, contestant: Contestant) -> None:
        plan = self._plan
        for pictures, latency in ((plan.limited_fast_pictures, 0.5), (plan.limited_slow_pictures, 2.0)):
            self._keep(limited(contestant, self._provider, pictures=pictures, latency=latency))

    def _keep(self, result: Result) -> None:
        self.results.append(result)
        self._say(f"{result.workload}, {result.contestant}: CPU {report.cell(result.figures['cpu_ms'])} ms a picture")

    def _say(self, what: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


CONTESTANTS = (DARKROOM, STOCK, FLOOR)
PARTS = (*CONTESTANTS, "webhooks", "fairness")


def main() -> None:
    arguments = _arguments()
    began = time.monotonic()
    with _folder(arguments.home) as home, running_provider(home / "provider") as provider:
        bench = Bench(QUICK if os.environ.get("QUICK") else FULL, provider, home)
        failed = [name for name in arguments.only or PARTS if not _measured(getattr(bench, name))]
    made = _report(bench, seconds=time.monotonic() - began)
    made.write(arguments.into)
    print(made.markdown())
    sys.exit(f"could not be measured: {', '.join(failed)}" if failed else 0)


def _measured(contest: Callable[[], None]) -> bool:
    """What cannot be measured does not take the figures of the others with it."""
    try:
        contest()
    except Exception:
        traceback.print_exc()
        return False
    return True


@contextmanager
def _folder(chosen: Path | None) -> Iterator[Path]:
    if chosen is not None:
        yield chosen.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="darkroom-bench-") as folder:
        yield Path(folder)


def _report(bench: Bench, *, seconds: float) -> report.Report:
    results = sorted(bench.results, key=lambda each: (each.workload, CONTESTANTS.index(each.contestant)))
    return report.Report(
        at=report.now(),
        machine=report.machine(),
        versions=report.versions(),
        results=results,
        sleepers=bench.sleepers,
        verdicts=verdicts(results, bench.sleepers),
        seconds=seconds,
        webhooks=bench.taken,
        beside=bench.two_users,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="How fast Darkroom is, what it costs.")
    parser.add_argument("--into", type=Path, default=Path("build/bench"), help="folder for bench.md and bench.json")
    parser.add_argument("--home", type=Path, help="new folder for the stacks, which stays; without it: one that goes")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part; may be repeated")
    return parser.parse_args()


if __name__ == "__main__":
    main()
