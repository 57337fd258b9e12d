"""Which turns of `reconcile` the worker leaves out: those that nobody would miss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import psycopg
import pytest
from prefect.client.schemas.objects import CreatedBy, FlowRun

from darkroom.deployments.worker.idle_turns import IdleTurns
from darkroom.engine.reconcile_due import DueDuties, Duty
from darkroom.errors import Retry
from darkroom.ledger import Ledger
from darkroom.timing import UNSCALED

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DEPLOYMENT = uuid4()
BY_AUTOMATION = {"auto_scheduled": False, "created_by": CreatedBy(type="AUTOMATION")}


@dataclass
class Books:
    """In place of the ledger and of what is found in it: whether anything is due, and the time."""

    now: datetime = NOON
    due: bool | Exception = False

    def clock(self) -> datetime:
        return self.now

    def found(self) -> Iterator[Duty]:
        if isinstance(self.due, Exception):
            raise self.due
        yield from [Duty.RUNS] * self.due


def turn(**changes: Any) -> FlowRun:
    made = {"id": uuid4(), "flow_id": uuid4(), "deployment_id": DEPLOYMENT, "auto_scheduled": True}
    return FlowRun(**made | {"expected_start_time": NOON} | changes)


def begun(books: Books) -> IdleTurns:
    turns = IdleTurns(cast(Ledger, books), cast(DueDuties, books), timing=UNSCALED)
    turns.note(turn(), flow="reconcile", deployment="every-minute")
    return turns


def at_noon(books: Books) -> IdleTurns:
    """A worker that has run the turn of noon to its end."""
    turns = begun(books)
    turns.completed(NOON)
    return turns


def asked(turns: IdleTurns, books: Books, minutes: float, *, late: timedelta = timedelta(seconds=1)) -> bool:
    slot = NOON + minutes * MINUTE
    books.now = slot + late
    return turns.is_needless(turn(expected_start_time=slot))


def test_turns_are_left_out_while_nothing_is_due_but_one_in_ten() -> None:
    """Nine are taken out again, the tenth is run; and so on after it."""
    books = Books()
    turns = at_noon(books)
    assert [asked(turns, books, n) for n in range(1, 11)] == [True] * 9 + [False]
    turns.completed(NOON + 10 * MINUTE)
    assert asked(turns, books, 11)


def test_the_first_minute_with_something_due_has_its_turn() -> None:
    """It is asked for each slot, so what is lost is found as soon as ever."""
    books = Books()
    turns = at_noon(books)
    assert asked(turns, books, 1)
    books.due = True
    assert not asked(turns, books, 2)


@pytest.mark.parametrize("error", [psycopg.OperationalError("it is out"), Retry("Prefect is out"), KeyError("a model")])
def test_what_cannot_be_asked_does_not_stop_a_turn(error: Exception) -> None:
    """The turn fails then, and is seen; whatever else goes wrong in asking is no reason to leave one out."""
    books = Books(due=error)
    assert not asked(at_noon(books), books, 1)


@pytest.mark.parametrize(
    ("minutes", "late"),
    [(3, timedelta(seconds=1)), (-1, timedelta(minutes=2)), (1, timedelta(minutes=1))],
    ids=["after slots that did not come", "of a slot before the last", "that comes late"],
)
def test_a_turn_out_of_line_is_run(minutes: float, late: timedelta) -> None:
    """Something was out, and slots of other deployments may have been missed."""
    books = Books()
    assert not asked(at_noon(books), books, minutes, late=late)


def test_a_worker_that_has_just_begun_runs_the_next_turn() -> None:
    """It cannot know what was missed before."""
    books = Books()
    turns = begun(books)
    assert [asked(turns, books, n) for n in range(3)] == [False] * 3


def test_a_turn_that_an_automation_begins_is_run_if_anything_is_due() -> None:
    """A run has ended badly, and may have said so in the ledger itself. It has no slot, and moves none."""
    books = Books(due=True)
    turns = begun(books)
    assert turns.may_be_needless(turn(**BY_AUTOMATION))
    assert not turns.is_needless(turn(**BY_AUTOMATION))
    books.due = False
    assert turns.is_needless(turn(**BY_AUTOMATION))
    assert not asked(turns, books, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"auto_scheduled": False},
        {"run_count": 1},
        {"deployment_id": UUID(int=1)},
        BY_AUTOMATION | {"run_count": 1},
        BY_AUTOMATION | {"deployment_id": UUID(int=1)},
    ],
    ids=["begun by a person", "begun before", "of another deployment", "begun before by one", "another's by one"],
)
def test_only_turns_that_nobody_has_asked_for_are_left_out(changes: dict[str, Any]) -> None:
    """What a person asks for is run, whatever is due."""
    turns = at_noon(Books())
    assert turns.may_be_needless(turn())
    assert not turns.may_be_needless(turn(**changes))
    assert not turns.is_needless(turn(**changes))
