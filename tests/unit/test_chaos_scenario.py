"""What the storm is made of: it follows from the seed, and is as bad as it is said to be."""

from __future__ import annotations

from collections import Counter

from chaos.scenario import PARTS, WEBHOOKS, Kill, Outage, Scenario

from darkroom.deployments.simulator.faults import Rule, RuleBook

THOROUGH = Scenario(jobs=200, seed=7)
SHORT = Scenario(jobs=20, seed=7)


def test_a_seed_makes_the_same_storm_again() -> None:
    """And another seed another one."""
    again, other = Scenario(jobs=200, seed=7), Scenario(jobs=200, seed=8)
    assert THOROUGH.orders() == again.orders() != other.orders()
    assert THOROUGH.disasters() == again.disasters() != other.disasters()


def test_each_part_is_killed_three_times_in_a_thorough_storm_and_once_in_a_short_one() -> None:
    """Whatever the order in which they die."""
    for scenario, times in ((THOROUGH, 3), (SHORT, 1)):
        killed = Counter(each.victim for _, each in scenario.disasters() if isinstance(each, Kill))
        assert all(killed[part] == times for part in PARTS)


def test_everything_happens_within_the_time_and_in_order() -> None:
    """All orders, and one outage."""
    for timeline in (THOROUGH.orders(), THOROUGH.disasters()):
        moments = [at for at, _ in timeline]
        assert moments == sorted(moments)
        assert 0 <= moments[0] <= moments[-1] <= THOROUGH.seconds
    assert sum(isinstance(each, Outage) for _, each in THOROUGH.disasters()) == 1
    assert {order.number for _, order in THOROUGH.orders()} == set(range(200))


def test_the_simulator_misbehaves_in_the_shares_that_are_named() -> None:
    """Within a dimension too, where one fault leaves fewer requests for the next."""
    book = RuleBook(seed=1)
    for rule in THOROUGH.rules():
        book.add(Rule(**rule))
    drawn = Counter(book.faults_for(endpoint="x", text="", submit_number=n).webhook.value for n in range(4000))
    for fault, share in WEBHOOKS.items():
        assert 0.9 * share < drawn[fault] / 4000 < 1.1 * share
