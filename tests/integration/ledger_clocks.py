"""A ledger by whose clock it is as late as a test says. The fixture `clock` is the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

import pytest

from darkroom.ledger import Ledger


@dataclass
class Clock:
    """Stands still at what it is set to."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def dated(ledger_url: str, clock: Clock) -> Iterator[Ledger]:
    with closing(Ledger(ledger_url, clock=clock)) as ledger:
        yield ledger
