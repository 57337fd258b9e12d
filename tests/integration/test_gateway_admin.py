"""What operators set over HTTP: users, keys, plans, accounts and models, live; and how often a key may call."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from ledger_scenes import DEV, FAILURE, GPT, SUCCESS, granted_picture, post
from running_gateway import RunningGateway
from streams import reading

from darkroom.clock import utc_now
from darkroom.ledger import OPERATOR, JobStatus, Ledger, Scope


class Operator:
    def __init__(self, http: httpx.Client, key: str) -> None:
        self._http, self._headers = http, {"Authorization": f"Bearer {key}"}

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self._http.get(f"/v1/admin/{path}", params=query, headers=self._headers)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self._http.post(f"/v1/admin/{path}", json=body, headers=self._headers)


@pytest.fixture
def operator(gateway: RunningGateway, ledger: Ledger) -> Operator:
    return Operator(gateway.http, ledger.users.rotate(OPERATOR).key)


def test_a_user_is_added_with_a_key_and_cut_off(gateway: RunningGateway, operator: Operator) -> None:
    """The key is in that answer and in no other."""
    made = operator.post("users", name="ann", plan="pro")
    assert made.status_code == 201
    ann = gateway.as_user(made.json()["key"])
    assert ann.get("/v1/jobs").status_code == 200
    changed = operator.post("users/ann/plan", plan="studio").json()
    assert (changed["plan"], len(changed["keys"])) == ("studio", 1)
    assert operator.post(f"users/{changed['id']}/revoke").json()["keys"] == []
    assert ann.get("/v1/jobs").status_code == 401
    for path in ("users", "users/ann", "keys"):
        assert ann.key not in operator.get(path).text


def test_keys_of_one_user_are_named_limited_and_ended_one_by_one(
    gateway: RunningGateway, operator: Operator, ledger: Ledger
) -> None:
    """Each says what it is for, what it is good for, until when, and when it was used last."""
    first = ledger.users.add("ann").key
    until = (utc_now() + timedelta(days=30)).isoformat()
    made = operator.post("keys", user="ann", name="report", scopes=["read"], expires_at=until)
    assert made.status_code == 201
    key = made.json()
    reader = gateway.as_user(key["key"])
    assert reader.get("/v1/jobs").status_code == 200
    refused = reader.order()
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:darkroom:problem:forbidden")
    (newest, oldest) = operator.get("keys", user="ann").json()["items"]
    assert (newest["id"], newest["name"], newest["scopes"], newest["status"]) == (key["id"], "report", ["read"], "open")
    assert newest["last_used_at"] is not None and oldest["last_used_at"] is None
    assert operator.post(f"keys/{key['id']}/revoke").json()["status"] == "revoked"
    assert reader.get("/v1/jobs").status_code == 401
    assert gateway.as_user(first).get("/v1/jobs").status_code == 200


def test_the_session_of_a_revoked_key_ends(gateway: RunningGateway, operator: Operator, ledger: Ledger) -> None:
    """What reads by it is told why; what reads by the user's other key goes on."""
    ann = ledger.users.add("ann")
    other = ledger.keys.add(ann.user_id, name="browser", scopes=[Scope.READ])
    url = f"{gateway.url}/v1/stream"
    with reading(url, key=other.key) as ended, reading(url, key=ann.key) as going:
        assert operator.post(f"keys/{other.id}/revoke").status_code == 200
        ended.until_it_ends()
        ledger.jobs.post(user_id=ann.user_id, kind="generate-image", parameters={})
        going.until("job.created")
    assert ": its key holds no longer" in ended.said


def test_users_and_keys_are_listed_page_by_page(operator: Operator, ledger: Ledger) -> None:
    """Newest first; users are found by a part of their name, and its signs are no pattern."""
    names = [f"ann {number}" for number in range(3)]
    for name in names:
        ledger.users.add(name)
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = operator.get("users", q="ann", limit=2, **cursor).json()
        found += [user["name"] for user in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert found == names[::-1]
    assert operator.get("users", q="%").json()["items"] == []
    first = operator.get("keys", limit=3).json()
    rest = operator.get("keys", limit=200, cursor=first["next"]).json()
    ids = [key["id"] for key in first["items"] + rest["items"]]
    assert len(ids) == len({*ids}) == len(ledger.keys.page(limit=200))


def test_plans_accounts_and_models_are_set(operator: Operator, ledger: Ledger) -> None:
    """Plans as a whole; of accounts and models what is given."""
    gold = {"name": "gold", "in_flight": 20, "weight": 2.5, "calls_per_minute": 600}
    gold |= {"daily_budget_usd": 10, "monthly_budget_usd": 100, "markup": 1.25}
    answer = operator.post("plans", **gold)
    assert answer.json() == {**gold, "most_queued": 20_000}
    assert gold["name"] in [plan["name"] for plan in operator.get("plans").json()["items"]]
    operator.post("accounts", name="fal", slots=40)
    account = operator.post("accounts", name="fal", endpoint_caps={"fal-ai/flux/dev": 3}).json()
    assert (account["slots"], account["endpoint_caps"]) == (40, {"fal-ai/flux/dev": 3})
    assert account in operator.get("accounts").json()["items"]
    operator.post("models", endpoint="fal-ai/veo3", allowed=False)
    model = operator.post("models", endpoint="fal-ai/veo3", call_usd=3.2).json()
    assert model == {"endpoint": "fal-ai/veo3", "allowed": False, "call_usd": 3.2}
    assert ledger.models.choice("fal-ai/veo3") == (False, Decimal("3.2"))


def test_a_user_is_given_budgets_of_their_own(operator: Operator, ledger: Ledger) -> None:
    """What is left out stays as it is, null is the plan's again; `GET /v1/budget` says whose and what is left."""
    operator.post("plans", name="gold", in_flight=20, weight=1, daily_budget_usd=10)
    operator.post("users", name="ann", plan="gold")
    operator.post("users/ann/budgets", monthly_budget_usd=0.5)
    user = operator.post("users/ann/budgets", daily_budget_usd=0.25).json()
    assert (user["daily_budget_usd"], user["monthly_budget_usd"]) == (0.25, 0.5)
    assert operator.post("users/ann/budgets", daily_budget_usd=None).json()["daily_budget_usd"] is None
    found = {each.period: (each.budget_usd, each.is_own) for each in ledger.budgets.of(user["id"])}
    assert found == {"day": (10, False), "month": (Decimal("0.5"), True)}


WRONG: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "a plan nobody knows": ("users", {"name": "bob", "plan": "gold"}, 422, "plan"),
    "a name that is taken": ("users", {"name": OPERATOR}, 422, "name"),
    "a scope that is none": ("keys", {"user": OPERATOR, "name": "x", "scopes": ["write"]}, 422, "scopes.0"),
    "no scope": ("keys", {"user": OPERATOR, "name": "x", "scopes": []}, 422, "scopes"),
    "a key for nobody": ("keys", {"user": "bob", "name": "x"}, 422, "user"),
    "a key that is over": (
        "keys",
        {"user": OPERATOR, "name": "x", "expires_at": "2020-01-01T00:00:00Z"},
        422,
        "expires_at",
    ),
    "a time without a zone": ("keys", {"user": OPERATOR, "name": "x", "expires_at": "2050-01-01"}, 422, "expires_at"),
    "a budget below nothing": ("users/operator/budgets", {"daily_budget_usd": -1}, 422, "daily_budget_usd"),
    "a mark-up of nothing": ("plans", {"name": "pro", "in_flight": 1, "weight": 1, "markup": 0}, 422, "markup"),
    "budgets of nobody": ("users/bob/budgets", {"daily_budget_usd": 1}, 404, "user"),
    "a weight of nothing": ("plans", {"name": "pro", "in_flight": 1, "weight": 0}, 422, "weight"),
    "a user who is not there": ("users/bob/revoke", {}, 404, "user"),
    "a key that is not there": ("keys/key_1/revoke", {}, 404, "id"),
}


@pytest.mark.parametrize(("path", "body", "status", "field"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_named(operator: Operator, path: str, body: dict[str, Any], status: int, field: str) -> None:
    """By field and with the remedy, as everywhere."""
    answer = operator.post(path, **body)
    assert (answer.status_code, answer.json()["field"]) == (status, field), answer.text
    assert answer.json()["remedy"]


def test_a_key_that_calls_too_often_is_told_when_to_call_again(gateway: RunningGateway, ledger: Ledger) -> None:
    """Every answer says how many calls are left, refusals too; another key of the same user has its own."""
    ledger.users.set_plan("small", in_flight=1, weight=Decimal(1), calls_per_minute=2)
    ann = ledger.users.add("ann", plan="small")
    customer = gateway.as_user(ann)
    answers = [customer.get("/v1/jobs"), customer.get("/v1/jobs/job_none"), customer.get("/v1/jobs")]
    assert [answer.status_code for answer in answers] == [200, 404, 429]
    assert [answer.headers["RateLimit"].split(";")[1] for answer in answers] == ["r=1", "r=0", "r=0"]
    assert {answer.headers["RateLimit-Policy"] for answer in answers} == {'"key";q=2;w=60'}
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 30
    assert answers[-1].json()["type"] == "urn:darkroom:problem:too-many"
    assert gateway.as_user(ledger.keys.add(ann.user_id, name="other")).get("/v1/jobs").status_code == 200
    assert "RateLimit" not in gateway.as_user(ledger.users.add("bob")).get("/v1/jobs").headers


def test_everybody_sees_their_own_keys(gateway: RunningGateway, ledger: Ledger) -> None:
    """By name, without the keys; nobody another's, and not as an end user of a service."""
    ann, service = ledger.users.add("ann"), ledger.users.add("shop", service=True)
    report = ledger.keys.add(ann.user_id, name="report", scopes=[Scope.READ])
    answer = gateway.as_user(report).get("/v1/keys")
    assert [key["name"] for key in answer.json()["items"]] == ["report", ""]
    assert ann.key not in answer.text and report.key not in answer.text
    first = gateway.as_user(ann).get("/v1/keys?limit=1").json()
    assert gateway.as_user(ann).get(f"/v1/keys?cursor={first['next']}").json()["items"][0]["id"] == ann.id
    assert len(gateway.as_user(service).get("/v1/keys").json()["items"]) == 1
    assert gateway.as_user(service).get("/v1/keys", Darkroom_User="eve").json()["items"] == []


def test_operators_see_who_waits_behind_whom(operator: Operator, ledger: Ledger) -> None:
    """By account and lane, in the order of their turns; who holds the slots; and what the breaker knows."""
    ledger.users.set_account("fal", slots=1)
    for name, plan, calls in (("ann", "pro", 3), ("bob", "studio", 1)):
        user_id = ledger.users.add(name, plan=plan).user_id
        for _ in range(calls):
            post(ledger, user_id)
    ledger.grants.grant()
    ledger.accounts.slow_down("fal")
    ledger.accounts.out("fal", probe=False, reason="The balance is used up.")
    fal = next(each for each in operator.get("queue").json()["accounts"] if each["name"] == "fal")
    assert (fal["slots"], fal["slots_now"], fal["in_use"], fal["halvings"]) == (1, 0, 1, 1)
    assert (fal["down_reason"], fal["endpoints"]) == (
        "The balance is used up.",
        [{"key": DEV, "name": DEV, "slots": 1}],
    )
    (lane,) = fal["lanes"]
    assert (lane["lane"], lane["waiting"], lane["users"]) == ("interactive", 3, 2)
    assert [(each["user"], each["waiting"], each["held"]) for each in lane["first"]] == [("bob", 1, 0), ("ann", 2, 1)]


def test_operators_see_who_has_waited_behind_whom(operator: Operator, ledger: Ledger) -> None:
    """Of the last hour, from what is on record of calls: of who was served at once nobody was served meanwhile."""
    ledger.users.set_account("fal", slots=1)
    jobs = {name: post(ledger, ledger.users.add(name).user_id) for name in ("ann", "bob", "eve")}
    for name in ("ann", "bob"):
        ledger.grants.grant()
        if name == "ann":
            ledger.requests.settle(ledger.requests.of_job(jobs[name].id)[0].ref, SUCCESS, via="webhook")
    found = {each["user"]: each for each in operator.get("queue/lately").json()["items"]}
    assert {
        name: (each["account"], each["lane"], each["granted"], each["waiting"]) for name, each in found.items()
    } == {
        "ann": ("fal", "interactive", 1, 0),
        "bob": ("fal", "interactive", 1, 0),
        "eve": ("fal", "interactive", 0, 1),
    }
    served = {name: {(other["name"], other["slots"]) for other in each["served"]} for name, each in found.items()}
    assert served == {"ann": set(), "bob": {("ann", 1)}, "eve": {("ann", 1), ("bob", 1)}}
    assert found["eve"]["mean_seconds"] is None and found["eve"]["longest_seconds"] > 0 < found["bob"]["mean_seconds"]


def test_runs_lead_to_prefects_ui(operator: Operator, ledger: Ledger) -> None:
    """Those that are open, or the one of a job; by the address of Prefect's API where nobody has said another."""
    ann, bob = (granted_picture(ledger, ledger.users.add(name).user_id) for name in ("ann", "bob"))
    runs = operator.get("runs").json()["items"]
    assert {(each["user"], each["open_jobs"], each["url"]) for each in runs} == {
        (name, 1, f"http://127.0.0.1:9/runs/flow-run/{picture.flow_run_id}")
        for name, picture in (("ann", ann), ("bob", bob))
    }
    (of_job,) = operator.get("runs", job=ann.job_id).json()["items"]
    assert of_job["id"] == ann.run_id


def test_models_are_told_by_how_far_bills_are_from_costs(operator: Operator, ledger: Ledger) -> None:
    """The largest difference first, and none of a model without bills."""
    user_id = ledger.users.add("ann").user_id
    for endpoint, billed in ((DEV, "0.03"), ("fal-ai/flux/schnell", "0.02"), (GPT, None)):
        ref = ledger.requests.of_job(post(ledger, user_id, endpoint=endpoint).id)[0].ref
        ledger.requests.settle(ref, SUCCESS, via="webhook")
        with ledger._engine.begin() as connection:
            connection.exec_driver_sql("UPDATE request SET billed_usd = %s WHERE ref = %s", (billed, ref))
    found = [
        (each["endpoint"], each["calls"], round(each["share"], 2)) for each in operator.get("drift").json()["items"]
    ]
    assert set(found) == {(DEV, 1, 0.2), ("fal-ai/flux/schnell", 1, -0.2)}
    assert operator.get("drift", days=0).status_code == 422


def test_operators_replay_what_failed_of_one_cause(operator: Operator, ledger: Ledger) -> None:
    """Whosever it is: asked without a budget for its price, then put back within one; other causes stay."""
    for name in ("ann", "bob"):
        for code in ("downloads_failed", "timeout"):
            job = post(ledger, ledger.users.add(f"{name} {code}").user_id)
            error = {"code": code, "class": "retry", "message": f"No, {name}.", "step": None, "ref": None}
            ledger.requests.settle(ledger.requests.of_job(job.id)[0].ref, FAILURE, via="webhook")
            ledger.jobs.finish(job.id, JobStatus.FAILED, error=error | {"retryable": True})
    causes = operator.get("dead-letters").json()["items"]
    assert {(each["code"], each["jobs"], each["users"], each["message"]) for each in causes} == {
        ("downloads_failed", 2, 2, "No, bob."),
        ("timeout", 2, 2, "No, bob."),
    }
    which = {"code": "timeout", "class": "retry", "kind": "generate-image"}
    price = operator.post("dead-letters/replay", filter=which)
    assert (price.status_code, price.json()["matching"], price.json()["replay_usd"]) == (200, 2, 0.05)
    done = operator.post("dead-letters/replay", filter=which, budget_usd=0.03)
    assert (done.status_code, len(done.json()["put_back"]), len(done.json()["refused"])) == (202, 1, 1)
    assert {each["code"]: each["jobs"] for each in operator.get("dead-letters").json()["items"]} == {
        "downloads_failed": 2,
        "timeout": 1,
    }
