"""A platform with 1,500 models: how long it takes to have all their cards, and to find one of them over HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import quantiles

import pytest
from integration.running_gateway import Customer, GivenBlocks, RunningGateway, recording_prefect, running_gateway
from integration.simulated_fal import SimulatedFal, start_simulator
from ledger_databases import Databases
from pydantic import SecretStr

from darkroom.ledger import Ledger
from darkroom.providers.fal import FalAccount
from darkroom.providers.fal.platform import FalPlatform
from darkroom.providers.syncing import Synced, sync_all
from darkroom.settings import Settings

MODELS = 1500
SYNC_SECONDS = 60.0
SEARCH_SECONDS = 0.05
SEARCHES = 200
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
    crowded: SimulatedFal, ledger: Ledger, gateway: RunningGateway
) -> None:
    """The second reading changes nothing; a search is a page of cards by a part of their names or words."""
    (first, seconds), (again, seconds_again) = timed_sync(ledger), timed_sync(ledger)
    ann = gateway.as_user(ledger.users.add("ann"))
    p95 = quantiles([search(ann, WORDS[n % len(WORDS)]) for n in range(SEARCHES)], n=20)[-1]
    print(f"\n{first.seen} models: {seconds:.1f} s, again {seconds_again:.1f} s; a search: p95 {p95 * 1000:.0f} ms")
    assert first.seen == again.seen >= MODELS
    assert again.changed == 0
    assert max(seconds, seconds_again) < SYNC_SECONDS
    assert p95 <= SEARCH_SECONDS


def timed_sync(ledger: Ledger) -> tuple[Synced, float]:
    began = time.perf_counter()
    return sync_all(ledger), time.perf_counter() - began


def search(customer: Customer, q: str) -> float:
    began = time.perf_counter()
    answer = customer.http.get("/v1/models", params={"q": q}, headers={"Authorization": f"Bearer {customer.key}"})
    assert answer.status_code == 200
    return time.perf_counter() - began
