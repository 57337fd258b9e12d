"""One ledger, one folder of files and one gateway for all tests of a module, each of which has users of its own.

A module imports the fixtures that it wants in place of those that every test has its own of.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_databases import Databases
from running_gateway import RunningGateway, gateway_alone
from studio_browser import Visitor, visiting

from darkroom.ledger import Ledger, NewKey, new_id
from darkroom.media.store import LocalFolder, MediaStore


@pytest.fixture(scope="module")
def ledger_url(databases: Databases) -> Iterator[str]:
    with databases.fresh() as url:
        yield url


@pytest.fixture(scope="module")
def ledger(ledger_url: str) -> Iterator[Ledger]:
    ledger = Ledger(ledger_url)
    yield ledger
    ledger.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def store(home: Path) -> MediaStore:
    return MediaStore(LocalFolder(str(home)))


@pytest.fixture(scope="module")
def gateway(ledger_url: str, home: Path) -> Iterator[RunningGateway]:
    with gateway_alone(ledger_url, home, media=MediaStore(LocalFolder(str(home)))) as gateway:
        yield gateway


@pytest.fixture
def ann(ledger: Ledger) -> NewKey:
    return ledger.users.add(new_id("ann_"), plan="studio")


@pytest.fixture
def visitor(gateway: RunningGateway, ann: NewKey) -> Iterator[Visitor]:
    """Ann, before the Studio."""
    with visiting(gateway, ann.key) as visitor:
        yield visitor
