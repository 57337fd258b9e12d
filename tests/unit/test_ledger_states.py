"""The state machine of a paid request, case by case: every status, everything that can happen."""

from __future__ import annotations

import pytest

from darkroom.ledger.statuses import (
    TERMINAL,
    RequestStatus,
    Transition,
    next_status,
    statuses_before,
)

# One line for each status, one word for each transition; a dot is a transition that changes nothing.
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
    (RequestStatus(status), Transition(transition), None if then == "." else RequestStatus(then))
    for status, *thens in LINES
    for transition, then in zip(HEAD, thens, strict=True)
]


def test_the_table_names_every_status_and_every_transition() -> None:
    """What is added to the machine has to be decided here."""
    assert [(status, transition) for status, transition, _ in CASES] == [
        (status, transition) for status in RequestStatus for transition in Transition
    ]


@pytest.mark.parametrize(("status", "transition", "then"), CASES, ids=lambda value: value and str(value))
def test_a_transition_leads_where_the_table_says(
    status: RequestStatus, transition: Transition, then: RequestStatus | None
) -> None:
    """One next status for each pair, or none."""
    assert next_status(status, transition) is then


def test_what_a_transition_changes_is_told_from_the_same_table() -> None:
    """Statements that change a row without reading it first ask for that."""
    for transition in Transition:
        before = [status.value for status, each, then in CASES if each is transition and then is not None]
        assert statuses_before(transition) == before


def test_the_first_ending_wins() -> None:
    """Nothing leads out of a terminal status, but a replay that takes up what came late."""
    out = {(transition, then) for status, transition, then in CASES if status.terminal and then is not None}
    assert out == {(Transition.ADOPT, RequestStatus.SUCCEEDED)}


def test_a_slot_is_held_from_the_grant_to_the_end() -> None:
    """A status is in the queue, holds a slot, or has ended; and only a grant takes a slot."""
    holds_slot = set(RequestStatus) - TERMINAL - {RequestStatus.QUEUED}
    takes = {transition for status, transition, then in CASES if then in holds_slot and status not in holds_slot}
    assert takes == {Transition.GRANT}


def test_a_row_goes_back_to_the_queue_only_when_refused_for_sure() -> None:
    """A lost answer never does: the provider may have the job."""
    back = [(status, transition) for status, transition, then in CASES if then is RequestStatus.QUEUED]
    assert back == [(RequestStatus.GRANTED, Transition.REFUSE), (RequestStatus.SUBMITTING, Transition.REFUSE)]
