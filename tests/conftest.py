"""Fixtures that tests of several kinds share. The databases are real: the Postgres that the local stack runs too."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from itertools import chain

import psycopg
import pytest
from distributing import BySharedFixture, shared_by
from ledger_databases import Databases, Db, running_postgres
from psycopg.rows import dict_row

from darkroom.engine.registry import REGISTRY
from darkroom.ledger import Ledger

# At a tenth a process counts as lost after 4.5 s without a sign of life, which is little where stacks share two cores.
TIME_SCALE = 0.2
KINDS = ("chaos", "acceptance", "integration", "unit")


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    with running_postgres() as databases:
        yield databases


@pytest.fixture
def ledger_url(databases: Databases) -> Iterator[str]:
    """A fresh ledger, migrated, with the plans and the account that the migration brings."""
    with databases.fresh() as url:
        yield url


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    ledger = Ledger(ledger_url)
    yield ledger
    ledger.close()


@pytest.fixture
def db(ledger_url: str) -> Iterator[Db]:
    """What is committed in that ledger, past its own words; rows are dictionaries."""
    with psycopg.connect(ledger_url, autocommit=True, row_factory=dict_row) as connection:
        yield connection


@pytest.fixture(autouse=True)
def pipelines_kept() -> Iterator[None]:
    """Keep the modules that others patch: a flow's file that a test loads again, as Prefect does, takes their place."""
    before = dict(REGISTRY)
    yield
    REGISTRY.update(before)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--time-scale",
        type=float,
        default=TIME_SCALE,
        help="of the limits that the stacks of acceptance and chaos keep; 1 is production's",
    )


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave all that is imported and collected out of Python's search for cycles: none of it goes before the end.

    The search is a quarter of what collecting costs, and each one later would go through half a million objects.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what mostly waits: the others keep the machine busy meanwhile. Of a kind, what few workers may run.

    Otherwise the order stays.
    """
    items.sort(key=lambda item: (KINDS.index(_kind(item.nodeid)), shared_by(item.nodeid.partition("::")[0]) is None))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Callable[..., None]) -> BySharedFixture | None:
    """Have few workers run what shares a stack, where whole files are distributed."""
    return BySharedFixture(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how long the tests of each kind took, waits included; several go side by side."""
    seconds: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    for report in chain.from_iterable(terminalreporter.stats.values()):
        if isinstance(report, pytest.TestReport):
            seconds[_kind(report.nodeid)] += report.duration
            tests[_kind(report.nodeid)] += report.when == "call"
    if len(seconds) > 1:
        for kind in KINDS:
            terminalreporter.write_line(f"{kind:12} {tests[kind]:5} tests, {seconds[kind]:5.0f} s")


def _kind(nodeid: str) -> str:
    folder = nodeid.removeprefix("tests/").partition("/")[0]
    return folder if folder in KINDS else KINDS[-1]


def pytest_configure() -> None:
    _keep_compiled()
    _be_interruptible()


def _keep_compiled() -> None:
    """Keep compiled sources where the environment forbids it: each process that a test starts would compile all anew.

    That is a sixth of what a gateway's start costs.
    """
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def _be_interruptible() -> None:
    """What a shell starts in the background ignores SIGINT, and so would every process that a test starts.

    Prefect's worker stops by one that it sends to itself.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
