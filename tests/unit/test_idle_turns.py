"""Which turns of `reconcile` the worker leaves out: those that nobody would miss."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import psycopg
import pytest
from prefect.client.schemas.objects import FlowRun

from darkroom.deployments.worker.idle_turns import IdleTurns
from darkroom.ledger import Ledger
from darkroom.timing import UNSCALED

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DEPLOYMENT = uuid4()


@dataclass
class Books:
    """In place of the ledger: whether anything is open, and the time."""

    now: datetime = NOON
    open: bool | Exception = False
    housekeeping: Any = field(init=False)

    def __post_init__(self) -> None:
        self.housekeeping = self

    def clock(self) -> datetime:
        return self.now

    def anything_open(self) -> bool:
        if isinstance(self.open, Exception):
            raise self.open
        return self.open


def turn(**changes: Any) -> FlowRun:
    made = {"id": uuid4(), "flow_id": uuid4(), "deployment_id": DEPLOYMENT, "auto_scheduled": True}
    return FlowRun(**made | {"expected_start_time": NOON} | changes)


def at_noon(books: Books) -> IdleTurns:
    """A worker that has run the turn of noon to its end."""
    turns = IdleTurns(cast(Ledger, books), timing=UNSCALED)
    turns.note(turn(), flow="reconcile", deployment="every-minute")
    turns.completed(NOON)
    return turns


def asked(turns: IdleTurns, books: Books, minutes: float, *, late: timedelta = timedelta(seconds=1)) -> bool:
    slot = NOON + minutes * MINUTE
    books.now = slot + late
    return turns.is_needless(slot)


def test_turns_are_left_out_while_nothing_is_open_but_one_in_ten() -> None:
    """Nine are taken out again, the tenth is run; and so on after it."""
    books = Books()
    turns = at_noon(books)
    assert [asked(turns, books, n) for n in range(1, 11)] == [True] * 9 + [False]
    turns.completed(NOON + 10 * MINUTE)
    assert asked(turns, books, 11)


def test_the_first_minute_with_something_open_has_its_turn() -> None:
    """It is asked for each slot, so what is lost is found as soon as ever."""
    books = Books()
    turns = at_noon(books)
    assert asked(turns, books, 1)
    books.open = True
    assert not asked(turns, books, 2)


def test_a_ledger_that_cannot_be_asked_does_not_stop_a_turn() -> None:
    """The turn fails then, and is seen."""
    books = Books(open=psycopg.OperationalError("it is out"))
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
    turns = IdleTurns(cast(Ledger, books), timing=UNSCALED)
    turns.note(turn(), flow="reconcile", deployment="every-minute")
    assert [asked(turns, books, n) for n in range(3)] == [False] * 3


@pytest.mark.parametrize(
    "changes",
    [{"auto_scheduled": False}, {"run_count": 1}, {"deployment_id": UUID(int=1)}],
    ids=["begun by a person", "begun before", "of another deployment"],
)
def test_only_turns_that_cron_has_made_are_asked_about(changes: dict[str, Any]) -> None:
    """What a person asks for is run, whatever is open."""
    turns = at_noon(Books())
    assert turns.slot(turn()) == NOON
    assert turns.slot(turn(**changes)) is None
