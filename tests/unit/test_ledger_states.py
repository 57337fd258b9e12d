"""The state machine of a paid request, case by case: every status, everything that can happen."""

from __future__ import annotations

import pytest

from darkroom.ledger.statuses import (
    ACTIONABLE,
    HOLDS_SLOT,
    TERMINAL,
    Happening,
    RequestStatus,
    next_status,
    statuses_before,
)

# One line for each status, one word for each happening; a dot is a happening that changes nothing.
TABLE = """
             grant    submit      accept     refuse  lose     succeed    fail    cancel     expire   adopt
queued       granted  .           .          .       .        succeeded  failed  cancelled  .        .
granted      .        submitting  .          queued  .        succeeded  failed  cancelled  .        .
submitting   .        .           in_flight  queued  unknown  succeeded  failed  cancelled  expired  .
in_flight    .        .           .          .       .        succeeded  failed  cancelled  expired  .
unknown      .        .           in_flight  .       .        succeeded  failed  cancelled  expired  .
succeeded    .        .           .          .       .        .          .       .          .        .
failed       .        .           .          .       .        .          .       .          .        .
cancelled    .        .           .          .       .        .          .       .          .        succeeded
expired      .        .           .          .       .        .          .       .          .        succeeded
"""
HEAD, *LINES = [line.split() for line in TABLE.strip().splitlines()]
CASES = [
    (RequestStatus(status), Happening(happening), None if then == "." else RequestStatus(then))
    for status, *thens in LINES
    for happening, then in zip(HEAD, thens, strict=True)
]


def test_the_table_names_every_status_and_every_happening() -> None:
    """What is added to the machine has to be decided here."""
    assert [(status, happening) for status, happening, _ in CASES] == [
        (status, happening) for status in RequestStatus for happening in Happening
    ]


@pytest.mark.parametrize(("status", "happening", "then"), CASES, ids=lambda value: value and str(value))
def test_a_happening_leads_where_the_table_says(
    status: RequestStatus, happening: Happening, then: RequestStatus | None
) -> None:
    """One next status for each pair, or none."""
    assert next_status(status, happening) is then


def test_what_a_happening_changes_is_told_from_the_same_table() -> None:
    """Statements that change a row without reading it first ask for that."""
    for happening in Happening:
        before = [status.value for status, each, then in CASES if each is happening and then is not None]
        assert statuses_before(happening) == before


def test_the_first_ending_wins() -> None:
    """Nothing leads out of a terminal status, but a replay that takes up what came late."""
    out = {(happening, then) for status, happening, then in CASES if status.terminal and then is not None}
    assert out == {(Happening.ADOPT, RequestStatus.SUCCEEDED)}


def test_a_slot_is_held_from_the_grant_to_the_end() -> None:
    """A status is in the queue, holds a slot, or has ended; and only a grant takes a slot."""
    assert HOLDS_SLOT | TERMINAL | {RequestStatus.QUEUED} == set(RequestStatus)
    assert not HOLDS_SLOT & TERMINAL
    takes = {happening for status, happening, then in CASES if then in HOLDS_SLOT and status not in HOLDS_SLOT}
    assert takes == {Happening.GRANT}


def test_a_row_goes_back_to_the_queue_only_when_refused_for_sure() -> None:
    """A lost answer never does: the provider may have the job."""
    back = [(status, happening) for status, happening, then in CASES if then is RequestStatus.QUEUED]
    assert back == [(RequestStatus.GRANTED, Happening.REFUSE), (RequestStatus.SUBMITTING, Happening.REFUSE)]


def test_a_run_can_act_on_a_grant_and_on_an_ending() -> None:
    """What the provider is busy with gives a run nothing to do."""
    assert {RequestStatus.GRANTED, *TERMINAL} == ACTIONABLE
