"""Which of the rows in line fit: in order, below the account's slots, each endpoint's cap, each user's plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from darkroom.ledger.admission import Candidate, pick

DEV, GPT = "fal-ai/flux/dev", "openai/gpt-image-2"


@dataclass(frozen=True, kw_only=True)
class Case:
    line: list[str]  # the endpoints of those in line
    picked: list[int]  # their places
    slots: int = 10
    held: dict[str, int] = field(default_factory=dict)
    caps: dict[str, int] = field(default_factory=dict)


CASES = {
    "nobody is in line": Case(line=[], picked=[]),
    "everybody fits": Case(line=[DEV, GPT], picked=[0, 1]),
    "the first take the last slots": Case(line=[DEV, DEV, DEV], slots=2, picked=[0, 1]),
    "held slots count": Case(line=[DEV, DEV, DEV], slots=3, held={GPT: 2}, picked=[0]),
    "all slots are held": Case(line=[DEV], slots=2, held={DEV: 1, GPT: 1}, picked=[]),
    "more are held than there are, after the account was made smaller": Case(
        line=[DEV], slots=2, held={DEV: 5}, picked=[]
    ),
    "no slots at all": Case(line=[DEV], slots=0, picked=[]),
    "an endpoint's cap passes over its rows, not over the others": Case(
        line=[GPT, GPT, DEV], caps={GPT: 1}, picked=[0, 2]
    ),
    "held slots count for the cap": Case(line=[GPT, DEV], held={GPT: 1}, caps={GPT: 1}, picked=[1]),
    "a cap of nothing shuts an endpoint": Case(line=[GPT, DEV], caps={GPT: 0}, picked=[1]),
    "a cap above the slots does not widen them": Case(line=[GPT, GPT], slots=1, caps={GPT: 5}, picked=[0]),
    "the account's slots bind across endpoints": Case(line=[GPT, DEV, GPT], slots=2, caps={GPT: 5}, picked=[0, 1]),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_those_who_fit_are_picked_in_order(case: Case) -> None:
    """Never more than the account's slots, never more than an endpoint's cap, nobody before his turn."""
    line = [Candidate(ref=str(place), endpoint=endpoint, capacity=10) for place, endpoint in enumerate(case.line)]
    picked = pick(line, held=case.held, slots=case.slots, caps=case.caps)
    assert [each.ref for each in picked] == [str(place) for place in case.picked]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of users, each with what it costs: "ann 0.9"."""

    line: list[str]
    picked: list[int]
    capacity: dict[str, int] = field(default_factory=dict)
    budget: dict[str, str] = field(default_factory=dict)


ROWS = {
    "a user's last slot is given once, wherever their rows stand": Rows(
        line=["ann 0", "bob 0", "ann 0"], capacity={"ann": 1}, picked=[0, 1]
    ),
    "each has their own": Rows(
        line=["ann 0", "ann 0", "ann 0", "bob 0", "bob 0"], capacity={"ann": 2, "bob": 1}, picked=[0, 1, 3]
    ),
    "none is left": Rows(line=["ann 0", "bob 0"], capacity={"ann": 0}, picked=[1]),
    "a budget is spent once": Rows(line=["ann 0.9", "bob 0.9", "ann 0.9"], budget={"ann": "1"}, picked=[0, 1]),
    "a budget may be spent to its end": Rows(
        line=["ann 0.5", "ann 0.5", "ann 0.1"], budget={"ann": "1"}, picked=[0, 1]
    ),
    "a cheaper row does not overtake its user's dearer one": Rows(
        line=["ann 0.9", "ann 0.9", "ann 0.1", "bob 0.1"], budget={"ann": "1"}, picked=[0, 3]
    ),
    "what costs nothing goes on beyond the budget": Rows(line=["ann 0"], budget={"ann": "-3"}, picked=[0]),
    "nothing is left of the budget": Rows(line=["ann 0.1"], budget={"ann": "-3"}, picked=[]),
}


@pytest.mark.parametrize("case", ROWS.values(), ids=ROWS.keys())
def test_nobody_is_given_more_than_plan_and_budget_allow(case: Rows) -> None:
    """The line is made of two, each of which is within them by itself."""
    line = []
    for place, row in enumerate(case.line):
        user_id, usd = row.split()
        budget = Decimal(case.budget[user_id]) if user_id in case.budget else None
        limits: dict[str, Any] = {"capacity": case.capacity.get(user_id, 10), "budget": budget}
        line.append(Candidate(ref=str(place), endpoint=DEV, user_id=user_id, estimate_usd=Decimal(usd), **limits))
    picked = pick(line, held={}, slots=10, caps={})
    assert [each.ref for each in picked] == [str(place) for place in case.picked]


def test_a_row_that_its_endpoint_has_no_room_for_takes_nothing_of_its_users() -> None:
    """Their next one is for another."""
    mine: dict[str, Any] = {"user_id": "ann", "capacity": 1, "budget": Decimal(1), "estimate_usd": Decimal(1)}
    line = [Candidate(ref="full", endpoint=GPT, **mine), Candidate(ref="free", endpoint=DEV, **mine)]
    assert [each.ref for each in pick(line, held={}, slots=10, caps={GPT: 0})] == ["free"]


def test_the_rest_of_the_line_is_not_read_once_the_slots_are_given() -> None:
    """The line may be a thousand users long."""

    def line() -> Iterator[Candidate]:
        yield Candidate(ref="first", endpoint=DEV, capacity=2)
        yield Candidate(ref="second", endpoint=DEV, capacity=2)
        raise AssertionError("read on")

    assert [each.ref for each in pick(line(), held={}, slots=1, caps={})] == ["first"]
