"""Which of the rows in line fit: in order, below the account's slots and each endpoint's cap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

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
    line = [Candidate(ref=str(place), endpoint=endpoint) for place, endpoint in enumerate(case.line)]
    picked = pick(line, held=case.held, slots=case.slots, caps=case.caps)
    assert [each.ref for each in picked] == [str(place) for place in case.picked]


def test_the_rest_of_the_line_is_not_read_once_the_slots_are_given() -> None:
    """The line may be a thousand users long."""

    def line() -> Iterator[Candidate]:
        yield Candidate(ref="first", endpoint=DEV)
        yield Candidate(ref="second", endpoint=DEV)
        raise AssertionError("read on")

    assert [each.ref for each in pick(line(), held={}, slots=1, caps={})] == ["first"]
