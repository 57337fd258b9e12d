"""A plan's daily budget: reserved with the slot, before anything is paid; what was not needed is given back."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from interleaving import overlap
from ledger_databases import Db
from ledger_scenes import FAILURE, SUCCESS, post

from darkroom.ledger import Granted, Ledger, Outcome, Transition

PRICE = Decimal("0.025")


@pytest.fixture
def ann(ledger: Ledger) -> str:
    ledger.users.set_plan("thrifty", in_flight=10, weight=Decimal(1), daily_budget_usd=Decimal("0.10"))
    return ledger.users.add("ann", plan="thrifty").user_id


def settle(ledger: Ledger, granted: list[Granted], outcome: Outcome = SUCCESS) -> None:
    for each in granted:
        ledger.requests.settle(each.ref, outcome, via="poll")


def test_no_more_is_granted_than_the_day_allows(ledger: Ledger, ann: str) -> None:
    """Four at 2.5 cents on a budget of ten; the fifth waits and says why. Others are not concerned."""
    jobs = [post(ledger, ann, estimate_usd=PRICE) for _ in range(6)]
    assert len(ledger.grants.grant()) == 4
    assert ledger.grants.grant() == []
    waiting = next(job for job in jobs if ledger.requests.of_job(job.id)[0].granted_at is None)
    said = ledger.waiting_for(waiting, ledger.requests.of_job(waiting.id))
    assert said is not None
    assert said.startswith("budget: $0.10 of the plan's $0.10 a day are spent or reserved and it takes $0.025")
    other = post(ledger, ledger.users.add("bob").user_id, estimate_usd=PRICE)
    assert [each.job_id for each in ledger.grants.grant()] == [other.id]


def test_what_was_paid_counts_for_the_rest_of_the_day(ledger: Ledger, db: Db, ann: str) -> None:
    """Until midnight UTC, whether the slots are free or not."""
    for _ in range(6):
        post(ledger, ann, estimate_usd=PRICE)
    settle(ledger, ledger.grants.grant())
    assert ledger.grants.grant() == []
    db.execute("UPDATE request SET finished_at = finished_at - interval '1 day' WHERE finished_at IS NOT NULL")
    assert len(ledger.grants.grant()) == 2


def test_what_failed_costs_nothing(ledger: Ledger, ann: str) -> None:
    """Its reservation ends with it."""
    for _ in range(6):
        post(ledger, ann, estimate_usd=PRICE)
    settle(ledger, ledger.grants.grant(), FAILURE)
    assert len(ledger.grants.grant()) == 2


def test_the_real_price_takes_the_place_of_the_estimate(ledger: Ledger, ann: str) -> None:
    """Two that were cheaper than expected leave room for a third."""
    for _ in range(3):
        post(ledger, ann, estimate_usd=Decimal("0.05"))
    granted = ledger.grants.grant()
    assert len(granted) == 2
    settle(ledger, granted, Outcome(transition=Transition.SUCCEED, output={}, cost_usd=Decimal("0.01")))
    assert len(ledger.grants.grant()) == 1


def test_what_costs_nothing_goes_on_though_the_budget_is_overspent(ledger: Ledger, ann: str) -> None:
    """A picture turned out dearer than was expected; an import of pictures from the web does not wait for tomorrow."""
    post(ledger, ann, estimate_usd=PRICE)
    settle(ledger, ledger.grants.grant(), Outcome(transition=Transition.SUCCEED, output={}, cost_usd=Decimal("0.30")))
    post(ledger, ann, estimate_usd=PRICE)
    free = post(ledger, ann, estimate_usd=Decimal(0), account_id="web")
    assert [each.job_id for each in ledger.grants.grant()] == [free.id]


def test_two_grants_at_once_reserve_no_more_than_there_is(ledger: Ledger, db: Db, ann: str) -> None:
    """The reservation is the granted row itself, written under the account's lock."""
    for _ in range(3):
        post(ledger, ann, estimate_usd=Decimal("0.06"))
    one, two = overlap(db, ledger.grants.grant, ledger.grants.grant, at="UPDATE ON request")
    assert len(one + two) == 1


def test_a_budget_that_is_raised_holds_from_the_next_grant_on(ledger: Ledger, ann: str) -> None:
    """And so does one that is taken away."""
    for _ in range(20):
        post(ledger, ann, estimate_usd=PRICE)
    assert len(ledger.grants.grant()) == 4
    ledger.users.set_plan("thrifty", in_flight=10, weight=Decimal(1), daily_budget_usd=Decimal("0.15"))
    assert len(ledger.grants.grant()) == 2
    ledger.users.set_plan("thrifty", in_flight=10, weight=Decimal(1))
    assert len(ledger.grants.grant()) == 4


def test_a_row_that_is_not_due_reserves_nothing(ledger: Ledger, db: Db, ann: str) -> None:
    """Nor does it keep the budget from those that are."""
    later = db.execute("SELECT now() + interval '1 hour' AS at").fetchone()
    assert later is not None
    post(ledger, ann, estimate_usd=Decimal("0.10"), not_before=later["at"] + timedelta(hours=1))
    due = post(ledger, ann, estimate_usd=Decimal("0.10"))
    assert [each.job_id for each in ledger.grants.grant()] == [due.id]
