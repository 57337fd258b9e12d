"""The threads of a gateway: what fails is done again, and a wake ends a rest."""

from __future__ import annotations

from datetime import timedelta

import pytest
from support import wait_until

from darkroom.deployments.gateway.loops.loop import Loop
from darkroom.errors import Retry


class Counted(Loop):
    def __init__(self, *failures: Exception) -> None:
        super().__init__("counted", failing="Nothing is counted", after_failure=timedelta(milliseconds=1))
        self.failures, self.turns = [*failures], 0

    def _turn(self) -> float:
        self.turns += 1
        if self.failures:
            raise self.failures.pop()
        return 3600.0


def test_what_fails_is_logged_and_done_again(caplog: pytest.LogCaptureFixture) -> None:
    """Foreseen by its name alone, which tells nothing of anybody's; what nobody foresaw with where it was."""
    with Counted(Retry("of ann's fox"), ValueError("odd")) as loop:
        wait_until(lambda: loop.turns == 3)
    assert [(each.getMessage(), each.exc_info is None) for each in caplog.records] == [
        ("Nothing is counted", False),
        ("Nothing is counted: Retry", True),
    ]


def test_a_wake_ends_a_rest() -> None:
    """And the end of the gateway does, too."""
    with Counted() as loop:
        wait_until(lambda: loop.turns == 1)
        loop.wake()
        wait_until(lambda: loop.turns == 2)
    assert not loop._thread.is_alive()
