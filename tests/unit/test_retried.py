"""Whether a run was started again by a person is read from the states it was in."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from darkroom.engine.runner import is_retried
from darkroom.orchestrator.run_states import RunState

TYPES = {
    "Recovering": "SCHEDULED",
    "AwaitingRetry": "SCHEDULED",
    "Resuming": "SCHEDULED",
    "Suspended": "PAUSED",
    "Retrying": "RUNNING",
}


@pytest.mark.parametrize(
    ("history", "retried"),
    [
        ("Scheduled Pending Running", False),
        ("Scheduled Pending Running Suspended Resuming Pending Running", False),
        ("Scheduled Pending Running Failed AwaitingRetry Pending Running", True),
        ("Scheduled Pending Running Completed Scheduled Pending Running", True),
        ("Scheduled Running Cancelled AwaitingRetry Running", True),
        ("Running Failed Running", True),
        ("Scheduled Pending Running Crashed Recovering Pending Running", False),
        ("Scheduled Running Failed AwaitingRetry Running Crashed Recovering Running", False),
        ("Scheduled Running Crashed Recovering Running Failed AwaitingRetry Running", True),
    ],
)
def test_a_retry_by_a_person_is_told_from_a_recovery(history: str, retried: bool) -> None:
    """Only a person decides that something is paid for once more."""
    states = [
        RunState(type=TYPES.get(name, name.upper()), name=name, timestamp=datetime.now(UTC)) for name in history.split()
    ]
    assert is_retried(states) is retried
