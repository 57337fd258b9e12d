"""Fixtures for tests against one real dependency."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fal_client
import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page
from prefect_server import PrefectServer, running_prefect
from running_gateway import RecordingPrefect, RunningGateway, gateway_alone, recording_prefect
from simulated_fal import Receiver, SimulatedFal, fal_client_with, receiving, start_simulator
from studio_browser import chromium_started
from support import SLOW

from darkroom.ledger import Ledger
from darkroom.media.store import LocalFolder, MediaStore


@pytest.fixture(scope="session")
def simulator_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedFal]:
    options = ["--latency", "0.05", "--latency-of", "fal-ai/flux-lora-fast-training=0.2", "--webhook-retry", "0.1"]
    simulator = start_simulator(tmp_path_factory.mktemp("simulator"), *options, "--concurrency", "2")
    yield simulator
    simulator.stop()


@pytest.fixture
def simulator(simulator_process: SimulatedFal, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedFal]:
    """A fal with two slots and quick answers; this process's clients reach it under fal's own addresses."""
    for name, value in simulator_process.environment().items():
        monkeypatch.setenv(name, value)
    # Its authority alone: to load all public ones costs every client of every test 50 ms.
    monkeypatch.setenv("SSL_CERT_FILE", str(simulator_process.home / "ca.pem"))
    yield simulator_process
    simulator_process.reset()


@pytest.fixture
def fal(simulator: SimulatedFal) -> Iterator[fal_client.SyncClient]:
    """fal's own client, as it comes."""
    with fal_client_with("sim:key") as client:
        yield client


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def prefect() -> Iterator[PrefectServer]:
    """A Prefect server as the local stack runs it, provisioned; workers take what is in their own queues alone."""
    with running_prefect() as server:
        yield server


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """Debian's, for the tests of a file, of which none runs a coroutine itself."""
    with chromium_started() as chromium:
        yield chromium


@pytest.fixture
def ann(ledger: Ledger) -> str:
    """The id of a user who may have much under way."""
    return ledger.users.add("ann", plan="studio").user_id


@pytest.fixture
def prefect_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordingPrefect]:
    """A Prefect that writes down what it is asked."""
    with recording_prefect() as prefect:
        monkeypatch.setenv("PREFECT_API_URL", prefect.url)
        yield prefect


@pytest.fixture
def store(tmp_path: Path) -> MediaStore:
    return MediaStore(LocalFolder(str(tmp_path)))


@pytest.fixture
def gateway(ledger_url: str, tmp_path: Path, store: MediaStore) -> Iterator[RunningGateway]:
    """A gateway that no Prefect and no provider answers."""
    with gateway_alone(ledger_url, tmp_path, media=store) as gateway:
        yield gateway


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of Debian's chromium."""
    with chromium_started() as chromium:
        page = chromium.new_page()
        page.set_default_timeout(SLOW * 30_000)
        yield page
