"""One stack for all acceptance tests, and what must hold after each of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from running import BUSY, Stack, leaves_nothing, running_stack
from till import KEY, SIGNING_KEY, Till, open_till
from web_shop import Shop, open_shop

# A lost webhook is adopted by a cron deployment that comes every minute, and a stack takes its time to start.
SECONDS_PER_TEST = BUSY * 300
PATIENCE = 2  # seconds: shorter than the default, so that waiting longer than it takes little time


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SECONDS_PER_TEST))


@pytest.fixture(scope="session")
def shop() -> Iterator[Shop]:
    """A web server of this machine, which the stack may fetch from though its address is private."""
    with open_shop() as shop:
        yield shop


@pytest.fixture(scope="session")
def till() -> Iterator[Till]:
    """The payment provider that the stack charges at, and where its news goes."""
    with open_till() as till:
        yield till


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory, shop: Shop, till: Till) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("stack") / "home"
    environment = {
        "DARKROOM_PATIENCE": str(PATIENCE),
        "DARKROOM_WEB_ALLOW": f"127.0.0.1:{shop.port}",
        "DARKROOM_PAYMENT_URL": till.charge_url,
        "DARKROOM_PAYMENT_KEY": KEY,
        "DARKROOM_NOTIFIER": till.news_url,
        "DARKROOM_NOTIFIER_SECRET": SIGNING_KEY,
    }
    with running_stack(home, "--latency", "0.3", **environment) as stack:
        yield stack


@pytest.fixture
def stack(running: Stack) -> Iterator[Stack]:
    """The stack, in which a test leaves nothing behind."""
    yield running
    leaves_nothing(running)


@pytest.fixture
def prompt(request: pytest.FixtureRequest) -> str:
    """A prompt that no other test uses, so that rules and the provider's book tell them apart."""
    return f"a fox in {request.node.name}"
