"""One stack for all acceptance tests of a process, and what must hold after each of them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from project_copy import environment
from running import Stack, leaves_nothing, running_stack
from till import KEY, SIGNING_KEY, Till, open_till
from trial_project import trial_project
from web_shop import Shop, open_shop

from darkroom.clock import utc_now

# It only ends what hangs: the first test of a module waits for the module's whole scene, or for a stack to start.
SECONDS_PER_TEST = 900
PATIENCE = 2  # seconds: shorter than the default, so that waiting longer than it takes little time
FOLDER = Path(__file__).parent
OPEN = pytest.StashKey[ExitStack]()  # the stack of this process, while one runs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FOLDER in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SECONDS_PER_TEST))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None]:
    """End the stack after the last test of this folder: one that idles takes an eighth of a core from what follows."""
    yield
    if nextitem is None or FOLDER not in nextitem.path.parents:
        item.session.stash.setdefault(OPEN, ExitStack()).close()


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
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, shop: Shop, till: Till
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    project = trial_project(folder / "project")
    own = environment(project) | {
        "DARKROOM_TIME_SCALE": str(request.config.getoption("time_scale")),
        "DARKROOM_PATIENCE": str(PATIENCE),
        "DARKROOM_WEB_ALLOW": f"127.0.0.1:{shop.port}",
        "DARKROOM_PAYMENT_URL": till.charge_url,
        "DARKROOM_PAYMENT_KEY": KEY,
        "DARKROOM_NOTIFIER": till.news_url,
        "DARKROOM_NOTIFIER_SECRET": SIGNING_KEY,
    }
    with request.session.stash.setdefault(OPEN, ExitStack()) as opened:
        stack = opened.enter_context(running_stack(folder / "home", "--latency", "0.3", project=project, **own))
        opened.callback(leaves_nothing, stack)
        yield stack


@pytest.fixture
def stack(running: Stack) -> Iterator[Stack]:
    """The stack, in which a test leaves nothing behind."""
    began = utc_now() - timedelta(seconds=1)  # the ledger's rows bear another process' time
    yield running
    leaves_nothing(running, since=began)


@pytest.fixture
def prompt(request: pytest.FixtureRequest) -> str:
    """A prompt that no other test uses, so that rules and the provider's book tell them apart."""
    return f"a fox in {request.node.name}"


@pytest.fixture
def no_cron(stack: Stack) -> Iterator[str]:
    """No turn of reconcile comes by itself: what helps meanwhile is something else. Its deployment's id.

    Events, and a test itself, still start one; what the cron has planned is taken back.
    """
    with stack.without_cron() as deployment:
        yield deployment
