"""How often a key may call: a minute's calls at once, then one by one, each key for itself."""

from __future__ import annotations

import pytest

from darkroom.deployments.gateway import rates
from darkroom.deployments.gateway.rates import Rates
from darkroom.deployments.gateway.scopes import ROUTES, WITHOUT_KEY, scope_of
from darkroom.ledger import Scope


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_calls_beyond_the_limit_wait_for_their_turn() -> None:
    """Headers tell how many are left, and when all are there again."""
    clock = Clock()
    rates = Rates(clock)
    told = [rates.count("ann", 3) for _ in range(4)]
    assert [each.taken for each in told] == [True, True, True, False]
    assert [each.headers["RateLimit"] for each in told] == [
        *('"key";r=2;t=20', '"key";r=1;t=40', '"key";r=0;t=60'),
        '"key";r=0;t=60',
    ]
    assert told[0].headers["RateLimit-Policy"] == '"key";q=3;w=60'
    assert told[-1].seconds == pytest.approx(20)
    assert rates.count("bob", 3).taken, "another key has its own"
    clock.now += 20
    assert [rates.count("ann", 3).taken for _ in range(2)] == [True, False]


def test_another_limit_counts_at_once() -> None:
    """An operator who changes the plan need not wait for a minute's end."""
    rates = Rates(Clock())
    assert [rates.count("ann", 1).taken for _ in range(2)] == [True, False]
    assert rates.count("ann", 10).taken


def test_keys_that_call_no_more_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is full again is: nobody gets a minute's calls twice by it."""
    monkeypatch.setattr(rates, "MOST_KEPT", 3)
    clock = Clock()
    counting = Rates(clock)
    for key in ("a", "b", "c"):
        counting.count(key, 1)
    clock.now += 59
    assert not counting.count("a", 1).taken
    clock.now += 2
    counting.count("c", 1)
    counting.count("d", 1)
    assert len(counting._buckets) == 2
    assert not counting.count("c", 1).taken


@pytest.mark.parametrize(
    ("call", "scope"),
    [
        ("GET /v1/jobs/job_1", Scope.READ),
        ("GET /v1/models/fal-ai/flux/dev", Scope.READ),
        ("HEAD /v1/assets/ast_1", Scope.READ),
        ("POST /v1/quotes", Scope.READ),
        ("POST /v1/jobs/job_1/cancel", Scope.ORDERS),
        ("POST /v1/events", Scope.EVENTS),
        ("POST /v1/admin/users", Scope.ADMIN),
        ("POST /v1/something-new", Scope.ADMIN),
        ("TRACE /v1/jobs", Scope.ADMIN),
    ],
)
def test_a_call_needs_the_scope_of_its_route(call: str, scope: Scope) -> None:
    """What nobody has declared is for operators."""
    assert scope_of(*call.split(" ")) is scope


def test_a_route_is_declared_once() -> None:
    """Of two the first would win."""
    declared = [route for routes in ROUTES.values() for route in routes]
    assert len({*declared, *WITHOUT_KEY}) == len(declared) + len(WITHOUT_KEY)
