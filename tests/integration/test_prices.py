"""Mark-ups: what those who sell on ask for a call, on record from the order on, and the same wherever it is told."""

from __future__ import annotations

from decimal import Decimal

import pytest
from ledger_scenes import SUCCESS, post, spec

from darkroom.clock import midnight, utc_now
from darkroom.ledger import BATCH, Child, Job, Ledger, ManifestRow, Outcome, Transition
from darkroom.ledger.pricing import price


@pytest.fixture
def ann(ledger: Ledger) -> str:
    ledger.users.set_plan("resold", in_flight=10, weight=Decimal(1), markup=Decimal("1.3333"))
    return ledger.users.add("ann", plan="resold").user_id


def paid(ledger: Ledger, job: Job, *costs: str) -> None:
    """Have the job's calls cost so much, one after the other."""
    for n, usd in enumerate(costs):
        if n:
            ledger.requests.reserve_all(job.id, [spec(step=f"step {n}")])
        ledger.grants.grant()
        outcome = Outcome(transition=Transition.SUCCEED, output={}, cost_usd=Decimal(usd))
        ledger.requests.settle(ledger.requests.of_job(job.id)[n].ref, outcome, via="poll")


@pytest.mark.parametrize(
    ("usd", "markup", "expected"),
    [("0.025", "1.3", "0.0325"), ("0.000001", "1.5", "0.000002"), ("0.000001", "1.4", "0.000001"), ("0", "9", "0")],
)
def test_a_price_is_rounded_to_the_nearest_millionth(ledger: Ledger, usd: str, markup: str, expected: str) -> None:
    """Half of one up; the statements round in the same way."""
    assert price(Decimal(usd), Decimal(markup)) == Decimal(expected)
    ledger.users.set_plan("resold", in_flight=10, weight=Decimal(1), markup=Decimal(markup))
    job = post(ledger, ledger.users.add("bob", plan="resold").user_id)
    paid(ledger, job, usd)
    assert ledger.jobs.usage([job.id])[job.id].price_usd == Decimal(expected)


def test_the_price_of_a_job_is_that_of_its_calls_and_adds_up_to_the_months(ledger: Ledger, ann: str) -> None:
    """To the last digit: each call is rounded, and nothing after it."""
    jobs = [post(ledger, ann) for _ in range(3)]
    for job in jobs:
        paid(ledger, job, "0.000002", "0.000002", "0.039")
    calls = [row.price_usd for job in jobs for row in ledger.requests.of_job(job.id)]
    assert calls == [Decimal("0.000003"), Decimal("0.000003"), Decimal("0.051999")] * 3
    of_jobs = [figures.price_usd for figures in ledger.jobs.usage([job.id for job in jobs]).values()]
    assert of_jobs == [Decimal("0.052005")] * 3
    now = utc_now()
    for group in ("user", "model", "day", "tag"):
        usage = ledger.spending.between(midnight(now), now, group_by=group, user_id=ann)
        assert usage.total.price_usd == Decimal("0.156015") == sum(each.price_usd for each in usage.items)


def test_another_mark_up_changes_nothing_for_what_was_ordered(ledger: Ledger, ann: str) -> None:
    """It was sold at that price; later calls of the job go by it too. What costs are is not touched."""
    before = post(ledger, ann)
    ledger.users.set_plan("resold", in_flight=10, weight=Decimal(1), markup=Decimal(2))
    after = post(ledger, ann)
    for job in (before, after):
        paid(ledger, job, "0.01", "0.01")
    found = ledger.jobs.usage([before.id, after.id])
    assert [found[job.id].price_usd for job in (before, after)] == [Decimal("0.026666"), Decimal("0.04")]
    assert {each.cost_usd for each in found.values()} == {Decimal("0.02")}


def test_the_rows_of_a_batch_have_its_mark_up(ledger: Ledger, ann: str) -> None:
    """And its price is theirs."""
    rows = [ManifestRow(n=n, name=None, picture={"prompt": str(n)}) for n in range(3)]
    drafts = [Child(n=n, parameters={}, first=spec()) for n in range(3)]
    batch = ledger.jobs.post_batch(
        user_id=ann,
        kind=BATCH,
        parameters={},
        rows=rows,
        drafts=drafts,
        forecast={"draft": "0.075", "final_all": "0"},
        estimate_usd=Decimal("0.075"),
    ).job
    for granted in ledger.grants.grant():
        ledger.requests.settle(granted.ref, SUCCESS, via="poll")
    figures = ledger.jobs.usage([batch.id])[batch.id]
    assert figures.price_usd == 3 * price(figures.cost_usd / 3, Decimal("1.3333")) > figures.cost_usd > 0
