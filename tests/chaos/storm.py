"""The storm itself: orders, kills and the outage come in their time; then it is waited for until all is at rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import httpx
from acceptance.running import Stack
from support import free_port

from benchmarks.provider import Provider, running_provider
from chaos import aftermath
from chaos.aftermath import Aftermath
from chaos.customers import Customers
from chaos.machine import Machine
from chaos.scenario import Disaster, Kill, Outage, Scenario
from darkroom.ledger import OUTAGES, JobStatus

T = TypeVar("T")

PLAN = "storm"
REST_SECONDS = 200.0  # longer than anything promised: what is late shall be measured, not guessed
LOOK_EVERY_SECONDS = 1.0
FINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
OPEN_JOBS = [status.value for status in JobStatus if not status.terminal]
OPEN_REQUESTS = ["queued", "granted", "submitting", "in_flight", "unknown"]


def brew(scenario: Scenario, folder: Path) -> Aftermath:
    """Everything is in `folder`: the stack's home, its logs, the provider's keys."""
    with ExitStack() as on:
        options = ("--latency", f"{scenario.latency_seconds:g}", "--seed", str(scenario.seed))
        provider = on.enter_context(running_provider(folder / "provider", *options))
        ports = {name: free_port() for name in ("port", "prefect-port")} | {"simulator-port": provider.port}
        url = f"http://127.0.0.1:{ports['port']}"
        environment = {
            **provider.environment(),
            "DARKROOM_PUBLIC_URL": url,
            "DARKROOM_TIME_SCALE": f"{scenario.time_scale:g}",
            "DARKROOM_PATIENCE": f"{scenario.patience_seconds:g}",
        }
        machine = Machine(folder / "home", ports=ports, environment=environment, seed=scenario.seed)
        on.enter_context(machine)
        keys = _open_for_business(scenario, machine.stack)
        provider.rules(*scenario.rules())
        customers = on.enter_context(Customers(url, keys, seed=scenario.seed))
        storm = Storm(scenario, folder, machine=machine, provider=provider, customers=customers)
        storm.rage()
        return storm.settle()


def _open_for_business(scenario: Scenario, stack: Stack) -> dict[str, str]:
    """The keys of the users, whose plan lets three of them fill all slots."""
    stack.ledger.users.set_account("fal", slots=scenario.slots)
    stack.ledger.users.set_plan(PLAN, in_flight=scenario.in_flight, weight=Decimal(1))
    return {user: stack.ledger.users.add(user, plan=PLAN).key for user in scenario.users}


class Storm:
    def __init__(
        self, scenario: Scenario, folder: Path, *, machine: Machine, provider: Provider, customers: Customers
    ) -> None:
        self._scenario = scenario
        self._folder = folder
        self._machine = machine
        self._provider = provider
        self._customers = customers
        self._began = time.monotonic()
        self._began_at = datetime.now(UTC)

    def rage(self) -> None:
        """Orders come in their time, however long a victim has to be waited for."""
        with ThreadPoolExecutor(2) as both:
            orders = both.submit(self._in_time, self._scenario.orders(), self._customers.order)
            self._in_time(self._scenario.disasters(), self._strike)
            orders.result()

    def settle(self) -> Aftermath:
        """Waits for the end of every job, then for rest, each as long as can be borne; and looks."""
        answered = self._customers.answers()
        self._wait(
            lambda: not self._open_jobs(), seconds=self._began + self._scenario.longest_seconds - time.monotonic()
        )
        settled = self._wait(self._at_rest, seconds=REST_SECONDS)
        tables = aftermath.look(self._machine.stack)
        carrying, reconciles = aftermath.flow_runs(self._machine.stack)
        return Aftermath(
            scenario=self._scenario,
            folder=self._folder,
            began_at=self._began_at,
            answered=answered,
            kills=self._machine.kills,
            tables=tables,
            requests_at_provider=aftermath.in_book(self._provider),
            provider_stats=aftermath.stats(self._provider),
            looked_at=datetime.now(UTC),
            flow_runs=carrying,
            reconciles=reconciles,
            recoveries=aftermath.recoveries(self._machine.stack, carrying),
            carriers=[str(each) for each in self._machine.carriers()],
            settled_seconds=settled,
            files_at_provider=aftermath.files_at_provider(self._provider, tables["request"]),
        )

    def _in_time(self, timeline: Iterable[tuple[float, T]], happens: Callable[[T], None]) -> None:
        for at, event in timeline:
            time.sleep(max(0.0, self._began + at - time.monotonic()))
            happens(event)

    def _strike(self, disaster: Disaster) -> None:
        match disaster:
            case Kill(victim=victim):
                self._machine.kill(victim)
            case Outage(seconds=seconds, mode=mode):
                order = {"seconds": seconds, "mode": mode}
                self._provider.http.post("/_sim/outage", json=order).raise_for_status()

    def _open_jobs(self) -> bool:
        return aftermath.any_row(self._machine.stack, "SELECT FROM job WHERE status = ANY(%s)", OPEN_JOBS)

    def _at_rest(self) -> bool:
        stack = self._machine.stack
        return not (
            aftermath.any_row(stack, "SELECT FROM run WHERE closed_at IS NULL")
            or aftermath.any_row(stack, "SELECT FROM request WHERE status = ANY(%s)", OPEN_REQUESTS)
            or self._machine.carriers()
            or any(run["state_type"] not in FINAL for run in aftermath.flow_runs(self._machine.stack)[0])
        )

    def _wait(self, met: Callable[[], bool], *, seconds: float) -> float | None:
        """Seconds until it was met; None if that was not within so many."""
        began = time.monotonic()
        while (waited := time.monotonic() - began) < seconds:
            if _now(met):
                return waited
            time.sleep(LOOK_EVERY_SECONDS)
        return None


def _now(met: Callable[[], bool]) -> bool:
    """What cannot be asked just now is not met."""
    try:
        return met()
    except (*OUTAGES, httpx.HTTPError):
        return False
