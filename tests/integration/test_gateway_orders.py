"""Orders over HTTP: each is one job and one request, and what is wrong is refused with its field and remedy."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import psycopg
import pytest
from gateway_and_prefect import gateway as gateway
from ledger_databases import Databases
from running_gateway import (
    Customer,
    RecordingPrefect,
    RunningGateway,
    gateway_alone,
)
from support import wait_until

from darkroom.deployments.gateway.limits import API_CAP
from darkroom.deployments.gateway.problems import MEDIA_TYPE
from darkroom.ledger import Ledger

SECRET = "a prompt nobody else should read"
PICTURE = {"prompt": SECRET}


@pytest.fixture
def ann(gateway: RunningGateway, ledger: Ledger) -> Customer:
    return gateway.as_user(ledger.users.add("ann"))


@dataclass(frozen=True, kw_only=True)
class Refusals:
    """A gateway at which nothing is ever queued, so many tests can share it."""

    ledger_url: str
    gateway: RunningGateway
    customer: Customer

    def nothing_queued(self) -> bool:
        return not counted(self.ledger_url).total()


@pytest.fixture(scope="module")
def refusals(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Refusals]:
    with databases.fresh() as url:
        ledger = Ledger(url)
        key = ledger.users.add("ann")
        ledger.close()
        with gateway_alone(url, tmp_path_factory.mktemp("home")) as gateway:
            yield Refusals(ledger_url=url, gateway=gateway, customer=gateway.as_user(key))


def counted(ledger_url: str) -> Counter[str]:
    with psycopg.connect(ledger_url) as connection:
        return Counter(
            {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("job", "request")}
        )


def test_an_order_is_accepted_and_followed_at_its_address(ann: Customer, ledger: Ledger) -> None:
    """202 with the job's id; `Location` and `links` lead to the document, which shows the one request."""
    answer = ann.order({"prompt": "a fox", "seed": 7, "image_size": "square"})

    assert answer.status_code == 202
    assert answer.headers["Location"] == answer.json()["links"]["self"]
    job = ann.get(answer.headers["Location"]).json()
    assert job["id"] == answer.json()["job_id"]
    assert [(row["step"], row["attempt"], row["endpoint"]) for row in job["requests"]] == [
        ("generate", 1, "fal-ai/flux/dev")
    ]
    (row,) = ledger.requests.of_job(job["id"])
    assert row.input == {"prompt": "a fox", "seed": 7, "image_size": "square"}


def test_an_order_becomes_a_run_in_its_users_queue(
    ann: Customer, ledger: Ledger, prefect_calls: RecordingPrefect
) -> None:
    """Without the request waiting for it: granted by the gateway's thread, created from the deployment."""
    answer = ann.order({"prompt": "a fox"})

    (created,) = wait_until(lambda: prefect_calls.bodies("create_flow_run"), what="the run")
    user_id = ann.get(answer.headers["Location"]).json()["user_id"]
    assert created["work_queue_name"] == f"user-{user_id}"
    assert created["tags"] == [f"user:{user_id}", "plan:pro"]
    assert created["parameters"] == {"prompt": "a fox", "user": user_id}


def test_more_orders_than_slots_wait_as_rows(ann: Customer, ledger: Ledger, prefect_calls: RecordingPrefect) -> None:
    """The plan's number is granted, the rest tell what they wait for, and no run is made for them."""
    answers = [ann.order({"prompt": f"fox {n}"}) for n in range(4)]

    last = answers[-1].headers["Location"]
    # Number in use and place are looked up one after the other, and a grant may come between.
    sentence = "slot: 3 of the plan's 3 in use, place 1"
    waiting = wait_until(
        lambda: (job := ann.get(last).json()) and job["waiting_for"] == sentence and job, what=sentence
    )
    assert waiting["status"] == "pending"
    wait_until(lambda: prefect_calls.bodies("create_flow_run"), what="the run")


def test_twelve_at_once_with_one_key_are_one_job(ann: Customer, ledger_url: str) -> None:
    """However many senders repeat an order at the same time, it is one job and one paid call."""
    with ThreadPoolExecutor(12) as senders:
        answers = list(senders.map(lambda _: ann.order(PICTURE, Idempotency_Key="k1"), range(12)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["job_id"] for answer in answers}) == 1
    assert counted(ledger_url) == {"job": 1, "request": 1}


def test_an_order_beyond_the_plans_queue_is_refused(ann: Customer, ledger: Ledger, ledger_url: str) -> None:
    """429 with the plan, the number and when to come again; nothing is written. The same key is still the same job."""
    ledger.users.set_plan("pro", in_flight=0, weight=Decimal(1), most_queued=2)
    first = ann.order(PICTURE, Idempotency_Key="k1")
    assert ann.order(PICTURE).status_code == 202

    refusal = ann.order(PICTURE, Idempotency_Key="k3")

    assert (refusal.status_code, refusal.headers["Retry-After"]) == (429, "60")
    assert refusal.json()["type"] == "urn:darkroom:problem:queue-full"
    assert "'pro'" in refusal.json()["detail"] and refusal.json()["detail"].startswith("2 ")
    assert refusal.json()["remedy"]
    assert counted(ledger_url) == {"job": 2, "request": 2}
    assert ann.order(PICTURE, Idempotency_Key="k1").json()["job_id"] == first.json()["job_id"]
    ledger.jobs.cancel(first.json()["job_id"])
    assert ann.order(PICTURE, Idempotency_Key="k3").status_code == 202


def test_an_order_above_the_budget_of_a_day_is_refused(ann: Customer, ledger: Ledger, ledger_url: str) -> None:
    """It would wait for ever. 422 with what it would cost, and the budget; one within it is taken."""
    ledger.users.set_plan("pro", in_flight=3, weight=Decimal(1), daily_budget_usd=Decimal("0.06"))

    refusal = ann.order({"prompt": "a fox", "num_images": 4})

    assert (refusal.status_code, refusal.json()["type"]) == (422, "urn:darkroom:problem:over-budget")
    assert "0.1 USD" in refusal.json()["detail"] and "0.06 USD" in refusal.json()["detail"]
    assert refusal.json()["remedy"].startswith("Ask for less")
    assert not counted(ledger_url).total()
    assert ann.order({"prompt": "a fox"}).status_code == 202


def test_the_same_key_with_another_body_is_refused(ann: Customer, ledger_url: str) -> None:
    """Else one of the two orders would be lost without a word. Defaults written out are the same body."""
    first = ann.order({"prompt": "a fox"}, Idempotency_Key="k1")
    same = ann.order({"prompt": "a fox", "num_images": 1, "model": "fal-ai/flux/dev"}, Idempotency_Key="k1")
    other = ann.order({"prompt": "a cat"}, Idempotency_Key="k1")

    assert same.json()["job_id"] == first.json()["job_id"]
    assert (other.status_code, other.json()["field"]) == (422, "Idempotency-Key")
    assert counted(ledger_url) == {"job": 1, "request": 1}


def test_keys_of_different_users_do_not_meet(gateway: RunningGateway, ledger: Ledger) -> None:
    """An idempotency key is its user's own."""
    ann, bob = (gateway.as_user(ledger.users.add(name)) for name in ("ann", "bob"))

    jobs = {user.order({"prompt": "a fox"}, Idempotency_Key="k1").json()["job_id"] for user in (ann, bob)}

    assert len(jobs) == 2


WRONG: dict[str, tuple[object, str]] = {
    "an empty prompt": ({"prompt": ""}, "prompt"),
    "a blank prompt": ({"prompt": " \n"}, "prompt"),
    "a prompt with NUL": ({"prompt": "a\x00fox"}, "prompt"),
    "no prompt": ({}, "prompt"),
    "an unknown model": ({"prompt": SECRET, "model": "fal-ai/flux/nonesuch"}, "model"),
    "a size of nothing": ({"prompt": SECRET, "image_size": {"width": 0, "height": 512}}, "image_size.width"),
    "a size of no name": ({"prompt": SECRET, "image_size": "enormous"}, "image_size"),
    "a size its model cannot do": (
        {"prompt": SECRET, "model": "openai/gpt-image-2", "image_size": {"width": 3840, "height": 640}},
        "image_size",
    ),
    "a size only another model can do": (
        {"prompt": SECRET, "image_size": {"width": 3840, "height": 64}},
        "image_size.width",
    ),
    "a seed for a model without": ({"prompt": SECRET, "model": "openai/gpt-image-2", "seed": 1}, "seed"),
    "an argument its model does not have": ({"prompt": SECRET, "arguments": {"quality": "low"}}, "arguments.quality"),
    "an argument out of range": ({"prompt": SECRET, "arguments": {"guidance_scale": 99}}, "arguments.guidance_scale"),
    "a misspelt field": ({"prompt": SECRET, "promt": "x"}, "promt"),
    "a step that there is not": ({"prompt": SECRET, "post": ["upscale", "enlarge"]}, "post.1"),
    "steps without end": ({"prompt": SECRET, "post": ["upscale"] * 9}, "post"),
    "a step out of range": ({"prompt": SECRET, "post": [{"step": "upscale", "factor": 9}]}, "post.0.factor"),
    "a step's misspelt option": ({"prompt": SECRET, "post": [{"step": "watermark", "txt": "x"}]}, "post.0.txt"),
    "words our font lacks": ({"prompt": SECRET, "post": [{"step": "watermark", "text": "狐"}]}, "post.0.text"),
    "words and a logo": ({"prompt": SECRET, "post": [{"step": "watermark", "text": "x", "logo": "ast_1"}]}, "post.0"),
    "a logo of nobody": ({"prompt": SECRET, "post": [{"step": "watermark", "logo": "ast_1"}]}, "post.0.logo"),
    "a picture too large to keep": (
        {"prompt": SECRET, "image_size": "square_hd", "post": ["upscale", {"step": "upscale", "factor": 4}]},
        "post.1.factor",
    ),
    "a style that does not exist yet": ({"prompt": SECRET, "lora": "lora_1"}, "lora"),
    "a list": ([SECRET], "body"),
}


@pytest.mark.parametrize(("order", "field"), WRONG.values(), ids=WRONG)
def test_a_wrong_order_is_refused_with_field_and_remedy(refusals: Refusals, order: object, field: str) -> None:
    """A problem document, nothing queued, and nothing of the order repeated."""
    answer = refusals.customer.order(order)

    assert answer.status_code == 422
    assert_problem(answer, field=field)
    assert refusals.nothing_queued()


def test_a_body_that_is_no_json_is_refused(refusals: Refusals) -> None:
    """Cut short, nested without end, or with half a surrogate pair."""
    for body in (b'{"prompt": "a fo', b"[" * 200_000, b'{"prompt": "\\ud83e"}', b"\xff\xfe"):
        answer = refusals.customer.send(content=body, Content_Type="application/json")
        assert answer.status_code in (400, 422), body[:20]
        assert answer.json()["remedy"]
    assert refusals.nothing_queued()


def test_a_body_that_is_not_declared_as_json_is_refused(refusals: Refusals) -> None:
    """415, naming the header and the type to send."""
    answer = refusals.customer.send(content=b'{"prompt": "a fox"}', Content_Type="text/plain")

    assert answer.status_code == 415
    assert_problem(answer, field="Content-Type")
    assert "application/json" in answer.json()["remedy"]
    assert refusals.nothing_queued()


def test_a_large_body_is_refused(refusals: Refusals) -> None:
    """413, whether it declares its size or streams without, and the sender gets to read it."""
    declared = refusals.customer.send(content=b" " * (2 * API_CAP), Content_Type="application/json")
    assert declared.status_code == 413
    assert_problem(declared, field="body")

    chunks = (b" " * 100_000 for _ in range(2 * API_CAP // 100_000))
    headers = {"Authorization": f"Bearer {refusals.customer.key}", "Content-Type": "application/json"}
    streamed = httpx.post(f"{refusals.gateway.url}/v1/images", content=chunks, headers=headers, trust_env=False)
    assert streamed.status_code == 413
    assert_problem(streamed, field="body")
    assert refusals.nothing_queued()


@pytest.mark.parametrize("key", ["", "dk_nonsense", "é"])
def test_a_bad_key_is_refused(refusals: Refusals, key: str) -> None:
    """401, with the way to get one."""
    headers = {"Authorization": f"Bearer {key}".encode()} if key else {}
    answer = refusals.gateway.http.post("/v1/images", json={"prompt": "a fox"}, headers=headers)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert_problem(answer, field="Authorization")
    assert refusals.nothing_queued()


def test_a_revoked_key_is_refused_at_once(ann: Customer, ledger: Ledger) -> None:
    """The ledger is asked each time."""
    assert ann.order().status_code == 202
    ledger.users.revoke("ann")
    assert ann.order().status_code == 401


def test_a_service_orders_for_its_end_users(gateway: RunningGateway, ledger: Ledger) -> None:
    """Each is made on first use, is the same person later, and sees only what is theirs."""
    service = gateway.as_user(ledger.users.add("studio", service=True))

    first = service.order({"prompt": "a fox"}, Darkroom_User="Zoë").headers["Location"]
    service.order({"prompt": "a cat"}, Darkroom_User="bob")

    (mine,) = service.get("/v1/jobs", Darkroom_User="Zoë").json()["items"]
    assert mine["links"]["self"] == first
    assert service.get(first, Darkroom_User="bob").status_code == 404
    assert service.get(first).status_code == 404


@pytest.mark.parametrize(
    ("service", "name", "status"), [(False, "bob", 403), (True, "", 422), (True, "x" * 201, 422), (True, "a\tb", 422)]
)
def test_acting_for_somebody_is_a_services_right(
    gateway: RunningGateway, ledger: Ledger, service: bool, name: str, status: int
) -> None:
    """An ordinary key may not, and a service gives a proper name."""
    customer = gateway.as_user(ledger.users.add("ann", service=service))

    answer = customer.order({"prompt": "a fox"}, Darkroom_User=name)

    assert answer.status_code == status
    assert_problem(answer, field="Darkroom-User")


def test_an_unknown_address_and_a_wrong_method_are_problems_too(gateway: RunningGateway) -> None:
    """No corner of the API answers in another form."""
    for answer, status in ((gateway.http.get("/v2"), 404), (gateway.http.delete("/v1/jobs"), 405)):
        assert answer.status_code == status
        assert answer.headers["Content-Type"] == MEDIA_TYPE
        assert answer.json()["remedy"]


def test_the_documentation_needs_no_internet(gateway: RunningGateway) -> None:
    """The page loads its script and style from the gateway, and the document describes every error."""
    page = gateway.http.get("/", follow_redirects=True).text

    assert "cdn" not in page
    assert gateway.http.get("/docs/static/swagger-ui-bundle.js").status_code == 200
    document = gateway.http.get("/openapi.json").json()
    answers = document["paths"]["/v1/images"]["post"]["responses"]
    assert set(answers) == {"202", "400", "401", "403", "413", "415", "422", "429", "503"}
    assert answers["422"]["content"][MEDIA_TYPE]["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert "remedy" in document["components"]["schemas"]["Problem"]["properties"]
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert named <= set(document["components"]["schemas"])


def test_any_pipeline_is_ordered_by_its_kind(ann: Customer, ledger: Ledger) -> None:
    """With the fields of its order; what is wrong is named as where it has an address of its own."""

    def order(kind: str, **body: object) -> httpx.Response:
        return ann.post(f"/v1/orders/{kind}", json=body)

    answer = order("onboard-user", account="a-1", email="ann@example.com")
    assert answer.status_code == 202, answer.text
    job = ledger.jobs.get(answer.json()["job_id"])
    assert job is not None
    assert (job.kind, job.parameters) == ("onboard-user", {"account": "a-1", "email": "ann@example.com"})
    assert_problem(order("onboard-user", account="a-1", email=SECRET), field="email")
    assert_problem(order("generate-image", prompt=SECRET, model="fal-ai/flux/schnell", lora="mochi"), field="model")
    assert order("reconcile").status_code == order("paint").status_code == 404


def test_the_description_has_every_pipeline(gateway: RunningGateway) -> None:
    """Each with its own operation and schema; names of before are there, and marked."""
    document = gateway.http.get("/openapi.json").json()
    operation = document["paths"]["/v1/orders/onboard-user"]["post"]
    assert operation["operationId"] == "order_onboard_user"
    schema = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert "welcome_after_hours" in document["components"]["schemas"][schema]["properties"]
    assert "/v1/orders/generate-image" not in document["paths"]
    assert document["paths"]["/v1/starts"]["get"]["deprecated"]
    assert "deprecated" not in document["paths"]["/v1/pending-runs"]["get"]


def assert_problem(answer: httpx.Response, *, field: str) -> None:
    problem = answer.json()
    assert answer.headers["Content-Type"] == MEDIA_TYPE
    assert problem["status"] == answer.status_code
    assert problem["field"] == field
    assert problem["remedy"]
    assert SECRET not in answer.text


def test_a_ledger_without_room_is_not_ready(ann: Customer, ledger_url: str) -> None:
    """It answers what it is asked all the same: only what is new has no place."""
    with psycopg.connect(ledger_url, autocommit=True) as db:
        db.execute(
            "CREATE FUNCTION no_room() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'; END $$"
        )

        def ledger() -> dict[str, Any]:
            return dict(ann.http.get("/readyz").json()["checks"]["ledger"])

        assert ledger()["ok"]
        db.execute("CREATE EVENT TRIGGER no_room ON ddl_command_start EXECUTE FUNCTION no_room()")
        wait_until(lambda: not ledger()["ok"], timeout=10, every=0.1, what="the next try")
        assert "no room on its disk" in ledger()["problem"]
        assert ann.http.get("/readyz").status_code == 503
        db.execute("DROP EVENT TRIGGER no_room")
        wait_until(lambda: ledger()["ok"], timeout=10, every=0.1, what="the next try")


def test_nothing_is_accepted_that_could_not_be_committed(ann: Customer, ledger_url: str) -> None:
    """With Postgres' disk full, down to the commit itself, an order is told so; the same one again is one job."""
    with psycopg.connect(ledger_url, autocommit=True) as db:
        db.execute(
            "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'; END $$"
        )
        db.execute(
            "CREATE CONSTRAINT TRIGGER no_room AFTER INSERT ON job DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION no_room()"
        )
        refused = ann.order(Idempotency_Key="once")
        assert (refused.status_code, refused.json()["detail"]) == (503, "The ledger has no room on its disk.")
        assert int(refused.headers["Retry-After"]) > 0
        assert not counted(ledger_url).total()

        db.execute("DROP TRIGGER no_room ON job")
        assert ann.order(Idempotency_Key="once").status_code == 202
    assert counted(ledger_url)["job"] == 1
