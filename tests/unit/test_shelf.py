"""For how long a process goes by what it was told of a model, and what it does where nobody answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy.exc import OperationalError

from darkroom.errors import Park
from darkroom.ledger import Ledger
from darkroom.models import Card
from darkroom.providers import shelf as shelves
from darkroom.providers.fal.account import FalAccount
from darkroom.providers.shelf import Shelf, fetch_cost

FOX = Card(endpoint="fal-ai/fox", account_id="fal", title="Fox", category="text-to-image", unit="units")
ANSWER = Decimal("0.219")


@dataclass
class Clock:
    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Platform:
    """Says what a call costs, or does not answer, where an answer is an error."""

    answers: list[Decimal | Exception | None]
    asked: list[str] = field(default_factory=list)

    def usual_cost(self, endpoint: str) -> Decimal | None:
        self.asked.append(endpoint)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def opened(platform: Platform, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """A shelf that asks this platform as it would ask fal's."""

    @contextmanager
    def at_fal(cls: type[FalAccount]) -> Iterator[Platform]:
        yield platform

    monkeypatch.setattr(FalAccount, "platform", classmethod(at_fal))
    return Shelf(fetch_cost=fetch_cost, clock=clock)


@pytest.mark.parametrize("said", [ANSWER, None])
def test_what_the_platform_says_of_a_cost_holds_for_an_hour(
    said: Decimal | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also that it does not say."""
    platform, clock = Platform([said, Decimal(1)]), Clock()
    shelf = opened(platform, clock, monkeypatch)
    assert shelf.platform_cost(FOX) == said
    clock.seconds = 3599
    assert shelf.platform_cost(FOX) == said
    clock.seconds = 3600
    assert shelf.platform_cost(FOX) == Decimal(1)


def test_a_platform_that_did_not_answer_is_asked_again_in_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a short outage would make estimates guesses, or refusals, for an hour. What it had said before holds on."""
    platform, clock = Platform([Park("out"), ANSWER, Park("out"), Decimal(1)]), Clock()
    shelf = opened(platform, clock, monkeypatch)
    assert shelf.platform_cost(FOX) is None
    assert shelf.platform_cost(FOX) is None
    assert len(platform.asked) == 1, "not at once: others wait while it is asked"
    clock.seconds = 10
    assert shelf.platform_cost(FOX) == ANSWER
    clock.seconds = 3610
    assert shelf.platform_cost(FOX) == ANSWER
    clock.seconds = 3620
    assert shelf.platform_cost(FOX) == Decimal(1)


def test_a_ledger_that_was_out_is_asked_again_in_a_moment() -> None:
    """A usual time holds for minutes, and that the ledger did not answer does not."""
    answers: list[Any] = [OperationalError("SELECT", {}, Exception("out")), 60.0]

    def usual_seconds(endpoint: str) -> float:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return cast(float, answer)

    clock = Clock()
    ledger = cast(Ledger, SimpleNamespace(models=SimpleNamespace(usual_seconds=usual_seconds)))
    shelf = Shelf(ledger, clock=clock)
    assert shelf.usual_time(FOX.endpoint) is None
    clock.seconds = 10
    assert shelf.usual_time(FOX.endpoint) == timedelta(minutes=1)


def test_no_more_costs_are_kept_than_there_are_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may name a model: beyond that they are names which somebody made up, and each can be asked for again."""
    monkeypatch.setattr(shelves, "MOST_KEPT", 2)
    platform = Platform([ANSWER] * 9)
    shelf = opened(platform, Clock(), monkeypatch)
    asked = ("a", "b", "a", "c", "a")
    for name in asked:
        shelf.platform_cost(Card(endpoint=f"fal-ai/{name}", account_id="fal", title=name, category="text-to-image"))
    assert platform.asked == ["fal-ai/a", "fal-ai/b", "fal-ai/c", "fal-ai/a"]


def test_a_cost_that_is_known_waits_for_no_first_use() -> None:
    """A platform may take seconds over a model that nobody has asked for before."""
    asked, answered = threading.Event(), threading.Event()

    def fetch(endpoint: str) -> None:
        asked.set()
        answered.wait(30)

    shelf = Shelf(fetch=fetch, fetch_cost=lambda card: ANSWER)
    shelf.platform_cost(FOX)
    first_use = threading.Thread(target=shelf.newest, args=("fal-ai/new",))
    first_use.start()
    try:
        assert asked.wait(30)
        found: list[Decimal | None] = []
        known = threading.Thread(target=lambda: found.append(shelf.platform_cost(FOX)))
        known.start()
        known.join(5)
        assert found == [ANSWER]
    finally:
        answered.set()
        first_use.join()
        known.join()
