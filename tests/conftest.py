"""Fixtures that tests of several kinds share. The databases are real: the Postgres that the local stack runs too."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import psycopg
import pytest
from ledger_databases import Databases, Db, running_postgres
from psycopg.rows import dict_row

from blocks.ledger import Ledger

# Half of what this is has been seen to hold on a quiet machine; then a process that gets no CPU counts as lost.
TIME_SCALE = 0.2


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    with running_postgres() as server:
        yield Databases(server)


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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--time-scale",
        type=float,
        default=TIME_SCALE,
        help="of the limits that the stacks of acceptance and chaos keep; 1 is production's",
    )


def pytest_configure() -> None:
    """What a shell starts in the background ignores SIGINT, and so would every process that a test starts.

    Prefect's worker stops by one that it sends to itself.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
