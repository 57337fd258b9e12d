"""What a person reads in Prefect of what a run waits for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from darkroom.engine.ui.wait_table import described, rows
from darkroom.ledger import Wait, WaitKind, WaitStatus

AT = datetime(2030, 1, 1, 12, tzinfo=UTC)
MATCH = "event.data.account == 'ann@example.org'"


def wait(**details: Any) -> Wait:
    given = {"id": "wait_1", "job_id": "job_1", "user_id": "u", "name": "sleep-1", "kind": WaitKind.SLEEP}
    nothing = dict.fromkeys(("event_name", "match", "child_job_id", "event_id", "settled_by", "settled_at"))
    return Wait.model_construct(
        **{**given, **nothing, "status": WaitStatus.OPEN, "until": AT, "created_at": AT, **details}
    )


EVENT = {"name": "profile", "kind": WaitKind.EVENT, "event_name": "user.profile_completed", "match": MATCH}
CHILD = {"name": "picture", "kind": WaitKind.CHILD, "child_job_id": "job_2", "until": None}


@pytest.mark.parametrize(
    ("details", "says"),
    [
        ({}, "Waits for 2030-01-01 12:00:00 UTC (step 'sleep-1')."),
        (EVENT, "Waits for an event 'user.profile_completed' until 2030-01-01 12:00:00 UTC (step 'profile')."),
        (CHILD, "Waits for the end of job_2 (step 'picture')."),
        ({"status": WaitStatus.TIMED_OUT}, "It waits for nothing any more."),
    ],
)
def test_a_sentence_says_what_is_waited_for(details: dict[str, Any], says: str) -> None:
    """It goes into the run's log, so no data of an event is in it."""
    assert described([wait(**details)], count=1) == says


def test_of_many_the_first_is_told_and_how_many_more() -> None:
    assert described([wait(), wait(**EVENT)], count=40).endswith("(step 'sleep-1'), and 39 more.")


@pytest.mark.parametrize(
    ("details", "now"),
    [
        ({}, "waits"),
        ({"status": WaitStatus.TIMED_OUT, "settled_by": "hand"}, "ended by hand, 2030-01-01 12:00:00 UTC"),
        ({"status": WaitStatus.RECEIVED, "settled_by": "event"}, "the event came, 2030-01-01 12:00:00 UTC"),
        ({"status": WaitStatus.SUPERSEDED, "settled_by": "time"}, "another came first, 2030-01-01 12:00:00 UTC"),
        ({"status": WaitStatus.CANCELLED}, "its job ended before, 2030-01-01 12:00:00 UTC"),
    ],
)
def test_a_row_says_what_became_of_a_wait(details: dict[str, Any], now: str) -> None:
    (row,) = rows([wait(**{"settled_at": AT, **details})])
    assert row["Now"] == now


def test_a_row_says_on_what_condition_an_event_is_waited_for() -> None:
    (row,) = rows([wait(**EVENT)])
    assert row["Waits for"] == f"an event 'user.profile_completed' with {MATCH}"
