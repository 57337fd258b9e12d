"""Money and Operators as a browser without scripts gets them: who sees what, what is shown once, what is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest
from ledger_scenes import FAILURE, SUCCESS, granted_picture, post
from running_gateway import RunningGateway
from shared_gateway import ann as ann
from shared_gateway import gateway as gateway
from shared_gateway import home as home
from shared_gateway import ledger_url as ledger_url
from shared_gateway import visitor as visitor
from studio_browser import Visitor, visiting

from darkroom.clock import utc_now
from darkroom.ledger import JobStatus, Ledger, NewKey, Scope, new_id

HOSTILE = "<script>alert('a')</script>\"' onload=x"


@pytest.fixture
def operator(gateway: RunningGateway, ledger: Ledger) -> Iterator[Visitor]:
    with visiting(gateway, ledger.users.add(new_id("op_"), scopes=list(Scope)).key) as visitor:
        yield visitor


def paid(ledger: Ledger, user_id: str, *, tag: str) -> None:
    job = post(ledger, user_id)
    with ledger._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE job SET tags = ARRAY[%s] WHERE id = %s", (tag, job.id))
    ledger.requests.settle(ledger.requests.of_job(job.id)[0].ref, SUCCESS, via="webhook")


def failed(ledger: Ledger, user_id: str, code: str, message: str = "No.") -> str:
    job = post(ledger, user_id)
    ref = ledger.requests.of_job(job.id)[0].ref
    ledger.requests.settle(ref, FAILURE, via="webhook")
    error = {"code": code, "class": "retry", "message": message, "step": "generate", "ref": ref, "retryable": True}
    ledger.jobs.finish(job.id, JobStatus.FAILED, error=error)
    return job.id


def test_spending_is_shown_against_the_budget(visitor: Visitor, ledger: Ledger, ann: NewKey) -> None:
    """By model and by tag, as text; of another user nothing."""
    paid(ledger, ann.user_id, tag=HOSTILE)
    paid(ledger, ledger.users.add("bob").user_id, tag="bobs secret")
    ledger.users.set_budgets(ann.user_id, {"monthly_budget_usd": Decimal("0.02")})
    page = visitor.get("/studio/money").text
    assert "$0.025 of $0.02" in page and "bar full" in page and "fal-ai/flux/dev" in page
    assert (
        "&lt;script&gt;alert(" in page
        and "<script>alert(" not in page
        and "bobs secret" not in page
        and " style=" not in page
    )


def test_what_drafts_have_saved_is_told_with_its_rule(visitor: Visitor, ledger: Ledger, ann: NewKey) -> None:
    """As an estimate; and not at all where there were no batches."""
    assert "Saved by drafts" not in visitor.get("/studio/money").text
    batch = ledger.jobs.post(user_id=ann.user_id, kind="render-batch", parameters={}).job
    ledger.jobs.finish(batch.id, JobStatus.COMPLETED, result={"saved_usd": 1.5})
    page = visitor.get("/studio/money").text
    assert "about $1.50</abbr>" in page and 'title="An estimate' in page


def test_a_time_that_is_none_is_told_and_kept(visitor: Visitor) -> None:
    """What was asked for is still in the form."""
    page = visitor.get("/studio/money?since=2030-02-01&until=2030-01-01")
    assert page.status_code == 422 and "Give the earlier time first" in page.text and 'value="2030-02-01"' in page.text
    empty = visitor.get("/studio/money").text
    assert "Nothing spent in this time" in empty and "/studio/order" in empty


def test_own_keys_are_listed_without_the_keys(visitor: Visitor, ledger: Ledger, ann: NewKey) -> None:
    """And nobody else's."""
    ledger.keys.add(ann.user_id, name="nightly report", scopes=[Scope.READ])
    ledger.keys.add(ledger.users.add("carl").user_id, name="carls key")
    page = visitor.get("/studio/money/keys").text
    assert "nightly report" in page and "carls key" not in page and ann.key not in page


def test_an_address_is_set_tested_and_dropped(visitor: Visitor) -> None:
    """Its secret is shown once. One that is refused stays in the form, with what is wrong."""
    wrong = visitor.send("/studio/money/callbacks/endpoint", url="https://example.com/hook", events="nonsense")
    assert wrong.status_code == 422 and "There is no such event" in wrong.text
    assert 'value="https://example.com/hook"' in wrong.text and 'value="nonsense"' in wrong.text
    made = visitor.send("/studio/money/callbacks/endpoint", url="https://example.com/hook", events="job")
    (secret,) = re.findall(r"whsec_[\w+/=]+", made.text)
    assert secret not in visitor.get("/studio/money/callbacks").text
    visitor.send("/studio/money/callbacks/test")
    page = visitor.get("/studio/money/callbacks?status=pending").text
    assert "callback.test" in page and "Resend</button></form></td>" not in page
    assert secret not in visitor.send("/studio/money/callbacks/rotate").text
    visitor.send("/studio/money/callbacks/drop")
    assert "Nowhere yet" in visitor.get("/studio/money/callbacks").text


def test_deliveries_are_filtered_and_sent_again(
    gateway: RunningGateway, visitor: Visitor, ledger: Ledger, ann: NewKey
) -> None:
    """By whom they are; another user finds none to send."""
    ledger.callbacks.put_endpoint(ann.user_id, url="https://example.com/hook", events=["job"], thin=False)
    callback = ledger.callbacks.test(ann.user_id)
    ledger.callbacks.drop_endpoint(ann.user_id)  # gives it up
    page = visitor.get("/studio/money/callbacks?status=dead").text
    assert callback.id in page and "callback.test" not in visitor.get("/studio/money/callbacks?status=delivered").text
    with visiting(gateway, ledger.users.add("dora").key) as dora:
        assert "callback.test" not in dora.get("/studio/money/callbacks").text
        assert dora.send(f"/studio/money/callbacks/{callback.id}/resend").status_code == 404
    reader = ledger.keys.add(ann.user_id, name="reader", scopes=[Scope.READ])
    with visiting(gateway, reader.key) as only:
        assert "Resend" not in only.get("/studio/money/callbacks").text
    answer = visitor.send(f"/studio/money/callbacks/{callback.id}/resend", status="dead")
    assert answer.status_code in (303, 409)


def test_operators_pages_open_for_operators_alone(visitor: Visitor) -> None:
    """Whatever is asked or sent."""
    for path in ("", "/users", "/plans", "/dead-letters", "/dead-letters/cause", "/users/ann"):
        assert visitor.get(f"/studio/operators{path}").status_code == 403, path
    for path in ("/users", "/plans", "/users/ann/revoke", "/dead-letters/replay", "/accounts/fal"):
        assert visitor.send(f"/studio/operators{path}", slots="1", budget_usd="1").status_code == 403, path


def test_a_user_is_added_given_keys_and_cut_off(gateway: RunningGateway, operator: Visitor, ledger: Ledger) -> None:
    """The key is on that page alone. What is refused is still in the form."""
    taken = operator.send("/studio/operators/users", name="operator", plan="pro", scopes="read")
    assert taken.status_code == 422 and 'value="operator"' in taken.text
    name = f"{HOSTILE[:30]}{new_id('u')}"
    made = operator.send("/studio/operators/users", name=name, plan="pro", scopes="read")
    (key,) = re.findall(r"dk_[\w-]{40,}", made.text)
    user = ledger.users.find(name)
    at = f"/studio/operators/users/{user.id}"
    assert gateway.as_user(key).get("/v1/jobs").status_code == 200
    page = operator.get(at).text
    assert key not in page and "<script>alert(" not in page and "&lt;script&gt;" in page
    wrong = operator.send(f"{at}/keys", name="report", scopes="read", expires_at="2020-01-01")
    assert wrong.status_code == 422 and 'value="report"' in wrong.text and "That is over already" in wrong.text
    day = (utc_now() + timedelta(days=9)).date().isoformat()
    (second,) = re.findall(
        r"dk_[\w-]{40,}", operator.send(f"{at}/keys", name="report", scopes="read", expires_at=day).text
    )
    report = ledger.keys.page(user_id=user.id, limit=1)[0]
    operator.send(f"{at}/keys/{report.id}/revoke")
    assert gateway.as_user(second).get("/v1/jobs").status_code == 401
    operator.send(f"{at}/plan", plan="studio")
    operator.send(f"{at}/budgets", daily_budget_usd="2.5", monthly_budget_usd="")
    changed = ledger.users.find(name)
    assert (changed.plan, changed.daily_budget_usd, changed.monthly_budget_usd) == ("studio", Decimal("2.5"), None)
    assert operator.send(f"{at}/budgets", daily_budget_usd="much").status_code == 422
    operator.send(f"{at}/revoke")
    assert gateway.as_user(key).get("/v1/jobs").status_code == 401


def test_a_plan_is_changed_in_place(operator: Visitor, ledger: Ledger) -> None:
    """As a whole. What the API refuses is still there to be mended."""
    gold = {"name": "gold", "in_flight": "7", "weight": "2.5", "markup": "1.2", "most_queued": "50"}
    limits = {"daily_budget_usd": "12345.67", "monthly_budget_usd": "", "calls_per_minute": ""}
    assert operator.send("/studio/operators/plans", **gold, **limits).headers["Location"] == "/studio/operators/plans"
    plan = next(each for each in ledger.users.plans() if each.name == "gold")
    assert (plan.in_flight, plan.daily_budget_usd, plan.monthly_budget_usd) == (7, Decimal("12345.67"), None)
    # Saving the form as it stands changes nothing.
    assert 'name="daily_budget_usd" value="12345.67"' in operator.get("/studio/operators/plans").text
    wrong = operator.send("/studio/operators/plans", **gold | {"weight": "heavy"}, **limits)
    assert wrong.status_code == 422 and 'value="heavy"' in wrong.text and "weight" in wrong.text


def test_what_failed_is_priced_and_replayed_under_a_budget(operator: Visitor, ledger: Ledger) -> None:
    """By cause, of everybody. The price costs nothing, and a replay has a budget."""
    jobs = [failed(ledger, ledger.users.add(new_id("f")).user_id, "gone_cold", HOSTILE) for _ in range(2)]
    page = operator.get("/studio/operators/dead-letters").text
    assert "gone_cold" in page and "<script>alert(" not in page
    which = {"code": "gone_cold", "class": "retry", "kind": "generate-image"}
    query = "code=gone_cold&class=retry&kind=generate-image"
    priced = operator.get(f"/studio/operators/dead-letters/cause?{query}").text
    assert 'value="0.05"' in priced and all(ledger.jobs.get(job).status == JobStatus.FAILED for job in jobs)  # type: ignore[union-attr]
    assert operator.send("/studio/operators/dead-letters/replay", **which, budget_usd="").status_code == 422
    many = operator.send("/studio/operators/dead-letters/replay", **which, budget_usd="many")
    assert many.status_code == 422 and 'value="many"' in many.text
    done = operator.send("/studio/operators/dead-letters/replay", **which, budget_usd="0.03", once="1")
    assert query in done.headers["Location"]
    assert sum(ledger.jobs.get(job).status == JobStatus.FAILED for job in jobs) == 1  # type: ignore[union-attr]
    operator.send("/studio/operators/dead-letters/replay", **which, budget_usd="0.03", once="1")
    assert sum(ledger.jobs.get(job).status == JobStatus.FAILED for job in jobs) == 1  # type: ignore[union-attr]


def test_the_queue_and_models_are_shown_and_set(operator: Visitor, ledger: Ledger) -> None:
    """Slots by account; a model denied."""
    name = new_id("waiter")
    job = post(ledger, ledger.users.add(name).user_id)
    ledger.accounts.out("fal", probe=False, reason="The balance is used up.")
    page = operator.get("/studio/operators").text
    assert name in page and "The balance is used up." in page
    ledger.accounts.back("fal")
    assert operator.send("/studio/operators/accounts/fal", slots="3").status_code == 303
    wrong = operator.send("/studio/operators/accounts/fal", slots="few")
    assert wrong.status_code == 422 and 'value="few"' in wrong.text
    assert operator.send("/studio/operators/models/fal-ai/flux/dev", allowed="no", call_usd="0.5").status_code == 303
    assert ledger.models.choice("fal-ai/flux/dev") == (False, Decimal("0.5"))
    assert operator.get("/studio/operators/models?q=flux").status_code == 200
    ref = ledger.requests.of_job(job.id)[0].ref
    ledger.requests.settle(ref, SUCCESS, via="webhook")
    with ledger._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE request SET billed_usd = 0.03 WHERE ref = %s", (ref,))
    models = operator.get("/studio/operators/models").text
    assert "+20.0%" in models and "drifts" in models


def test_runs_are_shown_with_the_way_to_prefect(
    gateway: RunningGateway, operator: Visitor, visitor: Visitor, ledger: Ledger, ann: NewKey
) -> None:
    """On the operators' list, and on the page of a job for who is an operator."""
    ledger.users.set_account("fal", slots=100)
    picture = granted_picture(ledger, ann.user_id)
    link = f"/runs/flow-run/{picture.flow_run_id}"
    assert link in operator.get("/studio/operators/runs").text
    assert link not in visitor.get(f"/studio/jobs/{picture.job_id}").text
    with visiting(gateway, ledger.keys.add(ann.user_id, name="both", scopes=list(Scope)).key) as both:
        assert link in both.get(f"/studio/jobs/{picture.job_id}").text
