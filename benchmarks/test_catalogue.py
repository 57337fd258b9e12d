"""A platform with 1,500 models: how long it takes to have all their cards, and what it costs to list them over HTTP.

A request is measured by the CPU that it takes, of Postgres and of this process, which is gateway and client at once:
on a machine that does other things the time on the wall says how much those are.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import psycopg
import pytest
from integration.running_gateway import Customer, GivenBlocks, RunningGateway, recording_prefect, running_gateway
from integration.simulated_fal import SimulatedFal, start_simulator
from ledger_databases import Databases
from pydantic import SecretStr

from benchmarks.meters import processes
from darkroom.ledger import Ledger
from darkroom.providers.fal import FalAccount
from darkroom.providers.fal.platform import FalPlatform
from darkroom.providers.syncing import Synced, sync_all
from darkroom.settings import Settings

MODELS = 1500
SYNC_SECONDS = 60.0
REQUEST_SECONDS = 0.05
REQUESTS = 200
WORDS = ("model-1", "text-to-video", "number 7", "flux", "kling", "nothing like it", "compute", "a")


@pytest.fixture
def crowded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedFal]:
    """A fal that sells so many."""
    simulator = start_simulator(tmp_path / "fal", "--crowd", str(MODELS))
    for name, value in simulator.environment().items():
        monkeypatch.setenv(name, value)

    @contextmanager
    def platform(cls: type[FalAccount]) -> Iterator[FalPlatform]:
        with closing(FalPlatform("sim:key")) as platform:
            yield platform

    monkeypatch.setattr(FalAccount, "platform", classmethod(platform))
    yield simulator
    simulator.stop()


@pytest.fixture
def ledger_url(databases: Databases) -> Iterator[str]:
    with databases.fresh() as url:
        yield url


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    with closing(Ledger(ledger_url)) as ledger:
        yield ledger


@pytest.fixture
def gateway(ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningGateway]:
    with recording_prefect() as prefect:
        monkeypatch.setenv("PREFECT_API_URL", prefect.url)
        settings = Settings(
            home=tmp_path, ledger_url=ledger_url, signing_key=SecretStr("k"), store=str(tmp_path / "media")
        )
        with running_gateway(settings, blocks=GivenBlocks()) as gateway:
            yield gateway


@pytest.mark.timeout(300)
def test_all_cards_are_synced_in_a_minute_and_one_is_found_in_a_moment(
    crowded: SimulatedFal, ledger: Ledger, ledger_url: str, gateway: RunningGateway
) -> None:
    """The second reading changes nothing; a search is a page of cards by a part of their names or words.

    So is the whole list, a page of it, as the Studio shows it.
    """
    (first, seconds), (again, seconds_again) = timed_sync(ledger), timed_sync(ledger)
    ann = gateway.as_user(ledger.users.add("ann"))
    print(f"\n{first.seen} models: {seconds:.1f} s, again {seconds_again:.1f} s")
    searched = measured(ann, ledger_url, "a search", [{"q": word} for word in WORDS])
    listed = measured(ann, ledger_url, "a page of all", [{"limit": "50"}, {"limit": "200"}])
    assert first.seen == again.seen >= MODELS
    assert again.changed == 0
    assert max(seconds, seconds_again) < SYNC_SECONDS
    assert max(searched, listed) <= REQUEST_SECONDS


def timed_sync(ledger: Ledger) -> tuple[Synced, float]:
    began = time.perf_counter()
    return sync_all(ledger), time.perf_counter() - began


def measured(customer: Customer, ledger_url: str, what: str, asked: Sequence[Mapping[str, str]]) -> float:
    """Return the seconds of CPU that 19 in 20 requests take at most, and with them what Postgres takes for one."""
    with psycopg.connect(ledger_url, autocommit=True) as database:
        before = postgres_seconds(database)
        spent, on_the_wall = zip(*(listing(customer, asked[n % len(asked)]) for n in range(REQUESTS)), strict=True)
        postgres = (postgres_seconds(database) - before) / REQUESTS
    cpu, wall = quantiles(spent, n=20)[-1], quantiles(on_the_wall, n=20)[-1]
    print(f"{what}: p95 {cpu * 1000:.1f} ms of CPU, {postgres * 1000:.1f} ms in Postgres; wall {wall * 1000:.0f} ms")
    return cpu + postgres


def listing(customer: Customer, params: Mapping[str, str]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    answer = customer.http.get("/v1/models", params=params, headers={"Authorization": f"Bearer {customer.key}"})
    assert answer.status_code == 200
    return time.process_time() - cpu, time.perf_counter() - wall


def postgres_seconds(database: psycopg.Connection[Any]) -> float:
    """Return the CPU that the database's processes have taken so far; its connections stay open meanwhile."""
    pids = database.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database()").fetchall()
    known = processes()
    return sum(known[pid].own_seconds for (pid,) in pids if pid in known)
