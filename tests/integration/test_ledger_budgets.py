"""Budgets: reserved with the slot, before anything is paid; what was not needed is given back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from interleaving import overlap
from ledger_clocks import Clock
from ledger_clocks import dated as dated
from ledger_databases import Db
from ledger_scenes import FAILURE, SUCCESS, post

from darkroom.errors import BadInput
from darkroom.ledger import Granted, Ledger, Outcome, Transition

PRICE = Decimal("0.025")


@pytest.fixture
def ann(ledger: Ledger) -> str:
    ledger.users.set_plan("thrifty", in_flight=10, weight=Decimal(1), daily_budget_usd=Decimal("0.10"))
    return ledger.users.add("ann", plan="thrifty").user_id


def settle(ledger: Ledger, granted: list[Granted], outcome: Outcome = SUCCESS) -> None:
    for each in granted:
        ledger.requests.settle(each.ref, outcome, via="poll")


def send(ledger: Ledger) -> list[Granted]:
    """Grant, and have the provider take what was granted."""
    granted = list(ledger.grants.grant())
    for each in granted:
        assert ledger.requests.begin_submit(each.ref, deadline=timedelta(hours=1)) is not None
        ledger.requests.accepted(each.ref, request_id=each.ref)
    return granted


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


@pytest.mark.parametrize("status", ["granted", "submitting", "in_flight", "unknown"])
def test_a_call_counts_with_its_estimate_however_far_it_has_come(ledger: Ledger, ann: str, status: str) -> None:
    """From its slot to its end, and also while nobody knows whether the provider has it."""
    post(ledger, ann, estimate_usd=4 * PRICE)
    (call,) = ledger.grants.grant()
    if status != "granted":
        assert ledger.requests.begin_submit(call.ref, deadline=timedelta(hours=1)) is not None
    if status == "in_flight":
        ledger.requests.accepted(call.ref, request_id=call.ref)
    if status == "unknown":
        ledger.requests.answer_lost(call.ref)
    assert ledger.requests.get(call.ref).status == status
    post(ledger, ann, estimate_usd=PRICE)
    assert ledger.grants.grant() == []


def test_who_waits_for_a_budget_holds_up_nobody(ledger: Ledger, ann: str) -> None:
    """Though there is one slot, and it is their turn."""
    ledger.users.set_account("fal", slots=1)
    post(ledger, ann, estimate_usd=4 * PRICE)
    settle(ledger, ledger.grants.grant(), replace(SUCCESS, cost_usd=4 * PRICE))
    post(ledger, ann, estimate_usd=PRICE)
    bob = ledger.users.add("bob").user_id
    settle(ledger, [posted_and_granted(ledger, bob)])
    assert posted_and_granted(ledger, bob)


def posted_and_granted(ledger: Ledger, user_id: str) -> Granted:
    job = post(ledger, user_id, estimate_usd=PRICE)
    (granted,) = ledger.grants.grant()
    assert granted.job_id == job.id
    return granted


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


def test_a_success_without_its_result_counts_with_its_estimate(ledger: Ledger, db: Db, ann: str) -> None:
    """Nobody knows yet what it cost, and no more is granted in its place: in the grant, what is shown, and the news."""
    for _ in range(6):
        post(ledger, ann, estimate_usd=PRICE)
    settle(ledger, granted := ledger.grants.grant(), Outcome(transition=Transition.SUCCEED))
    assert ledger.grants.grant() == []
    day, month = ledger.budgets.of(ann)
    assert (day.spent_usd, month.spent_usd, day.left_usd) == (4 * PRICE, 4 * PRICE, 0)
    ledger.budgets.publish()
    told = db.execute("SELECT data FROM notification WHERE event = 'budget.reached'").fetchone()
    assert told is not None and Decimal(str(told["data"]["spent_usd"])) == 4 * PRICE
    ledger.requests.fill_output(granted[0].ref, output={}, cost_usd=PRICE - Decimal("0.01"))
    assert ledger.grants.grant() == []
    ledger.requests.fill_output(granted[1].ref, output={}, cost_usd=Decimal(0))
    assert len(ledger.grants.grant()) == 1
    assert ledger.budgets.of(ann)[0].spent_usd == 3 * PRICE - Decimal("0.01")


def test_a_call_that_was_given_up_counts_with_its_estimate(ledger: Ledger, db: Db, ann: str) -> None:
    """It may have been paid: in the grant, what is shown, and the news, until its cost or its bill says otherwise."""
    for _ in range(6):
        post(ledger, ann, estimate_usd=PRICE)
    settle(ledger, granted := send(ledger), Outcome(transition=Transition.EXPIRE))
    assert ledger.grants.grant() == []
    assert [each.spent_usd for each in ledger.budgets.of(ann)] == [4 * PRICE, 4 * PRICE]
    ledger.budgets.publish()
    told = db.execute("SELECT data FROM notification WHERE event = 'budget.reached'").fetchone()
    assert told is not None and Decimal(str(told["data"]["spent_usd"])) == 4 * PRICE
    settle(ledger, granted[:1], replace(SUCCESS, cost_usd=Decimal("0.01")))
    db.execute("UPDATE request SET billed_usd = 0 WHERE ref = %s", [granted[1].ref])
    assert ledger.budgets.of(ann)[0].spent_usd == 2 * PRICE + Decimal("0.01")
    assert len(ledger.grants.grant()) == 1


@pytest.mark.parametrize("given_up", [Transition.EXPIRE, Transition.CANCEL])
def test_a_late_success_without_its_result_counts_with_its_estimate(
    ledger: Ledger, ann: str, given_up: Transition
) -> None:
    """Until it is fetched. A call whose cancel the provider has confirmed has cost nothing until then."""
    post(ledger, ann, estimate_usd=PRICE)
    settle(ledger, granted := send(ledger), Outcome(transition=given_up))
    assert ledger.budgets.of(ann)[0].spent_usd == (PRICE if given_up is Transition.EXPIRE else 0)
    settle(ledger, granted, Outcome(transition=Transition.SUCCEED))
    assert ledger.budgets.of(ann)[0].spent_usd == PRICE
    ledger.requests.fill_output(granted[0].ref, output={}, cost_usd=Decimal("0.01"))
    assert ledger.budgets.of(ann)[0].spent_usd == Decimal("0.01")


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


@pytest.fixture
def clock() -> Clock:
    return Clock(datetime(2026, 11, 30, 23, 50, tzinfo=UTC))


def test_a_month_is_a_budget_beside_the_day(dated: Ledger, clock: Clock) -> None:
    """The narrower one holds. A new day gives what the month has left, a new month all of it, at midnight UTC."""
    dated.users.set_plan(
        "thrifty", in_flight=10, weight=Decimal(1), daily_budget_usd=Decimal("0.10"), monthly_budget_usd=Decimal("0.15")
    )
    ann = dated.users.add("ann", plan="thrifty").user_id
    clock.now = datetime(2026, 11, 28, 12, tzinfo=UTC)
    for _ in range(12):
        post(dated, ann, estimate_usd=PRICE)
    settle(dated, first := dated.grants.grant())
    clock.now = datetime(2026, 11, 30, 23, 59, tzinfo=UTC)
    settle(dated, second := dated.grants.grant())
    day, month = dated.budgets.of(ann)
    assert (day.left_usd, month.left_usd) == (Decimal("0.05"), 0)
    assert month.resets_at == datetime(2026, 12, 1, tzinfo=UTC) == day.resets_at
    clock.now = datetime(2026, 12, 1, tzinfo=UTC)
    third = dated.grants.grant()
    assert [len(each) for each in (first, second, third)] == [4, 2, 4]
    assert dated.budgets.of(ann)[1].reserved_usd == Decimal("0.10")


def test_a_call_that_was_given_up_counts_for_the_rest_of_the_month(dated: Ledger, clock: Clock) -> None:
    """On days after that too, with its estimate, as nobody has said what it cost."""
    dated.users.set_plan("thrifty", in_flight=10, weight=Decimal(1), monthly_budget_usd=Decimal("0.10"))
    ann = dated.users.add("ann", plan="thrifty").user_id
    clock.now = datetime(2026, 11, 28, 12, tzinfo=UTC)
    for _ in range(6):
        post(dated, ann, estimate_usd=PRICE)
    settle(dated, send(dated), Outcome(transition=Transition.EXPIRE))
    clock.now = datetime(2026, 11, 30, 12, tzinfo=UTC)
    assert dated.grants.grant() == []
    clock.now = datetime(2026, 12, 1, tzinfo=UTC)
    assert len(dated.grants.grant()) == 2


def test_a_users_own_budget_goes_before_the_plans(ledger: Ledger, ann: str) -> None:
    """Whether larger or smaller, for the day or the month, until it is taken away; others stay with the plan's."""
    ledger.users.set_account("fal", slots=20)
    for _ in range(20):
        post(ledger, ann, estimate_usd=PRICE)
    ledger.users.set_budgets("ann", {"daily_budget_usd": Decimal("0.05")})
    assert len(ledger.grants.grant()) == 2
    ledger.users.set_budgets("ann", {"daily_budget_usd": Decimal(10), "monthly_budget_usd": Decimal("0.175")})
    assert len(ledger.grants.grant()) == 5
    (day, month), waiting = ledger.budgets.of(ann), post(ledger, ann, estimate_usd=PRICE)
    assert (day.is_own, day.budget_usd, month.is_own, month.left_usd) == (True, 10, True, 0)
    said = ledger.waiting_for(waiting, ledger.requests.of_job(waiting.id))
    assert said is not None
    assert said.startswith("budget: $0.175 of the user's own $0.175 a month are spent or reserved and it takes $0.025")
    bob = ledger.users.add("bob", plan="thrifty").user_id
    for _ in range(6):
        post(ledger, bob, estimate_usd=PRICE)
    assert len(ledger.grants.grant()) == 4
    ledger.users.set_budgets("ann", {"daily_budget_usd": None, "monthly_budget_usd": None})
    assert ledger.budgets.of(ann)[0].budget_usd == Decimal("0.10")


def test_an_order_beyond_a_whole_month_is_refused(ledger: Ledger, ann: str) -> None:
    """It would wait for ever; by whose budget is said."""
    ledger.users.set_budgets("ann", {"daily_budget_usd": Decimal(9), "monthly_budget_usd": Decimal(2)})
    with pytest.raises(BadInput, match="about 3 USD, and you have a budget of 2 USD a month") as refused:
        post(ledger, ann, estimate_usd=Decimal(3))
    assert refused.value.code == "over_budget"
    post(ledger, ann, estimate_usd=Decimal(2))


def test_a_bill_corrects_the_month(dated: Ledger, db: Db, clock: Clock) -> None:
    """One that comes days later too: what was cheaper than reckoned can be spent, what was dearer cannot."""
    ann = dated.users.add("ann").user_id
    dated.users.set_budgets("ann", {"monthly_budget_usd": Decimal("0.10")})
    clock.now = datetime(2026, 11, 3, tzinfo=UTC)
    for _ in range(9):
        post(dated, ann, estimate_usd=PRICE)
    settle(dated, dated.grants.grant())
    clock.now = datetime(2026, 11, 9, tzinfo=UTC)
    db.execute("UPDATE request SET billed_usd = 0.01 WHERE finished_at IS NOT NULL")
    assert dated.budgets.of(ann)[1].spent_usd == Decimal("0.03")
    settle(dated, dated.grants.grant())
    db.execute("UPDATE request SET billed_usd = 0.02 WHERE finished_at IS NOT NULL")
    assert dated.budgets.of(ann)[1].left_usd == 0
    assert dated.grants.grant() == []
