"""How a run meets outages: those of which the ledger knows nothing are not met at the speed of the machine."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import psycopg
from prefect.logging import disable_run_logger

from darkroom.engine.runner import Runner
from darkroom.timing import Timing

POLL_SECONDS = 0.02


class MeetsOutages(Runner):
    """A run whose first rounds each end in an outage, while the ledger answers."""

    def __init__(self, outages: int) -> None:
        ledger: Any = SimpleNamespace(answers=lambda: True)
        self._ledger, self._timing, self._poll_seconds = ledger, Timing(), POLL_SECONDS
        self._calls: Any = SimpleNamespace(forget=lambda: None)
        self._reports: Any = SimpleNamespace(show_waits=lambda _: None)
        self._run_id = "run_1"
        self._left = outages

    def _round(self) -> bool:
        self._left -= 1
        if self._left >= 0:
            raise psycopg.OperationalError("a database of the pipeline's own is out")
        return True


def test_outages_that_the_ledger_does_not_know_are_met_ever_more_slowly() -> None:
    """A pipeline's own database raises the same: without a pause its step was begun ten thousand times a second."""
    began = time.monotonic()
    with disable_run_logger():
        MeetsOutages(4).carry()
    assert time.monotonic() - began >= (1 + 2 + 4 + 8) * POLL_SECONDS
