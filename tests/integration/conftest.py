"""Fixtures for tests against one real dependency."""

from __future__ import annotations

from collections.abc import Iterator

import fal_client
import pytest
from playwright.sync_api import Page, sync_playwright
from prefect_server import PrefectServer, running_prefect
from simulated_fal import Receiver, SimulatedFal, fal_client_with, receiving, start_simulator
from studio_browser import CHROMIUM, FLAGS


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
    """A Prefect server as the local stack runs it, provisioned; no worker takes anything."""
    with running_prefect() as server:
        yield server


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of Debian's chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser.new_page()
        browser.close()
