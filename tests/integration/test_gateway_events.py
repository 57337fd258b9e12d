"""Events over HTTP: each is a row, taken or refused; what it starts; whose it is; and Prefect hears of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from interleaving import all_at_once
from pydantic import SecretStr
from running_gateway import Customer, GivenBlocks, RecordingPrefect, RunningGateway, recording_prefect, running_gateway
from shared_gateway import ledger as ledger
from shared_gateway import ledger_url as ledger_url
from support import wait_until

from darkroom.clock import utc_now
from darkroom.deployments.gateway.limits import EVENTS_CAP
from darkroom.events import triggers
from darkroom.events.ingest import LARGEST_DATA
from darkroom.ledger import Ledger
from darkroom.orchestrator import RESUME_EVENTS, project_file
from darkroom.settings import Settings

DEPLOYMENTS = """
deployments:
  - {name: on-demand, entrypoint: "flows/onboard_user.py:onboard_user", starts_on: [
      {event: user.signed_up, if: "event.data.plan != 'free'", parameters: {account: event.data.account}}]}
  - {name: on-demand, entrypoint: "flows/greet.py:greet", starts_on: [{event: user.signed_up}]}
"""
SIGNED_UP = {"name": "user.signed_up", "data": {"account": "a-1", "email": "ann@example.com", "plan": "studio"}}


@pytest.fixture(scope="module")
def prefect() -> Iterator[RecordingPrefect]:
    with recording_prefect() as prefect:
        yield prefect


@pytest.fixture(scope="module")
def prefect_yaml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("project") / "prefect.yaml"
    file.write_text(DEPLOYMENTS)
    return file


@pytest.fixture(scope="module")
def gateway(
    ledger_url: str, prefect: RecordingPrefect, prefect_yaml: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    home = tmp_path_factory.mktemp("home")
    settings = Settings(ledger_url=ledger_url, home=home, signing_key=SecretStr("a long random text"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_URL", prefect.url)
        for module in (triggers, project_file):
            patch.setattr(module, "project_files", lambda: [prefect_yaml])
        with running_gateway(settings, blocks=GivenBlocks()) as running:
            yield running


@pytest.fixture
def ann(gateway: RunningGateway, ledger: Ledger) -> Customer:
    return gateway.as_user(ledger.users.add(f"ann {uuid4().hex}", plan="studio"))


@pytest.fixture
def shop(gateway: RunningGateway, ledger: Ledger) -> Customer:
    return gateway.as_user(ledger.users.add(f"shop {uuid4().hex}", plan="studio", service=True))


def send(customer: Customer, events: object, **headers: str) -> httpx.Response:
    return customer.post("/v1/events", json=events, **headers)


def post(customer: Customer, body: bytes) -> httpx.Response:
    return customer.post("/v1/events", content=body, Content_Type="application/json")


def taken(customer: Customer, event: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = send(customer, event, **headers)
    assert answer.status_code == 202, answer.text
    shown = customer.get(answer.headers["Location"], **headers)
    assert shown.status_code == 200, shown.text
    return dict(shown.json())


def effects(event: dict[str, Any]) -> list[tuple[str, str | None, str | None]]:
    return [(each["what"], each["deployment"], each["reason"]) for each in event["effects"]]


# -- what it does ----------------------------------------------------------------------------------------------------


def test_an_event_starts_what_is_declared_for_it_and_says_what_it_did_not(ann: Customer, ledger: Ledger) -> None:
    """With the parameters that the trigger makes of it, or with its data."""
    event = taken(ann, SIGNED_UP)
    assert effects(event) == [("started", "onboard-user/on-demand", None), ("started", "greet/on-demand", None)]
    jobs = [ledger.jobs.get(each["job_id"]) for each in event["effects"]]
    assert [job.parameters for job in jobs if job] == [{"account": "a-1"}, event["data"]]
    free = taken(ann, {"name": "user.signed_up", "data": {"account": "a-2", "email": "bob@example.com"}})
    assert free["data"]["plan"] == "free", "as its type says"
    why = "its condition does not hold: event.data.plan != 'free'"
    assert effects(free) == [("not_started", "onboard-user/on-demand", why), ("started", "greet/on-demand", None)]


def test_the_same_id_again_is_the_same_event(ann: Customer) -> None:
    """From several senders at once, too: it starts nothing twice."""
    answers: list[dict[str, Any]] = []
    all_at_once([lambda: answers.append(send(ann, SIGNED_UP | {"id": "k-1"}).json())] * 5)
    assert len({each["id"] for each in answers}) == 1
    assert sum(each["new"] for each in answers) == 1
    assert len(ann.get("/v1/jobs").json()["items"]) == 2


def test_ten_thousand_at_once_are_all_on_record(shop: Customer) -> None:
    """One line for each, in their order."""
    events = [
        {"name": "order.placed", "data": {"order": f"o-{n}", "total_cents": n}, "id": f"k-{n}"} for n in range(10_000)
    ]
    lines = send(shop, events).json()
    assert len({line["id"] for line in lines}) == 10_000
    assert all(line["new"] and line["status"] == "accepted" for line in lines)
    assert [line["id"] for line in send(shop, events[:50]).json()] == [line["id"] for line in lines[:50]]
    refused = send(shop, [*events, events[0]])
    assert (refused.status_code, refused.json()["field"]) == (422, "body")


# -- what is refused -------------------------------------------------------------------------------------------------

DEEP = json.loads('{"a":' * 500 + "1" + "}" * 500)
REFUSED: list[tuple[object, str]] = [
    ({"name": "user.signed_pu", "data": {}}, "name"),
    ({"data": {}}, "name"),
    ({"name": "n" * 200}, "name"),
    ({"name": "user.signed_up", "data": {"account": "a"}}, "data.email"),
    ({"name": "user.signed_up", "data": SIGNED_UP["data"] | {"plna": "x"}}, "data.plna"),  # type: ignore[operator]
    ({"name": "user.signed_up", "data": []}, "data"),
    (SIGNED_UP | {"v": 9}, "v"),
    (SIGNED_UP | {"v": 10**30}, "v"),
    ({"name": "user.signed_up", "data": DEEP}, "data"),
    (SIGNED_UP | {"ts": "0001-01-01T00:00:00+14:00"}, "ts"),
    (SIGNED_UP | {"x" * 1000: 1}, "x" * 200),
    (SIGNED_UP | {"ts": "2026-01-01T00:00:00"}, "ts"),
    (SIGNED_UP | {"ts": "2999-01-01T00:00:00Z"}, "ts"),
    (SIGNED_UP | {"id": "a\nb"}, "id"),
    (SIGNED_UP | {"id": ""}, "id"),
    (SIGNED_UP | {"idd": "x"}, "idd"),
    ({"name": "user.signed_up", "data": {"account": "x" * LARGEST_DATA}}, "data"),
    ("hunter2", "body"),
]


@pytest.mark.parametrize(("event", "field"), REFUSED)
def test_a_refused_event_names_the_field_and_is_kept(ann: Customer, event: object, field: str) -> None:
    """The problem says where; it starts nothing."""
    answer = send(ann, event)
    problem = answer.json()
    assert (answer.status_code, problem["field"]) == (422, field)
    assert problem["remedy"] and "hunter2" not in answer.text
    kept = ann.get(problem["instance"]).json()
    assert (kept["status"], kept["problem"]["field"], kept["effects"]) == ("refused", field, [])
    assert [each["id"] for each in ann.get("/v1/events?status=refused").json()["items"]] == [kept["id"]]


def test_events_are_listed_page_by_page(ann: Customer) -> None:
    """Newest first, those of one call too, which all came at the same time; none twice and none left out."""
    sent = [{"name": "user.signed_up", "data": {"account": f"a-{n}"}, "id": f"k-{n}"} for n in range(5)]
    ids = [each["id"] for some in (sent[:1], sent[1:]) for each in send(ann, some).json()]
    pages, cursor = [], ""
    while cursor is not None:
        page = ann.get(f"/v1/events?limit=2&cursor={cursor}").json()
        pages.append([each["id"] for each in page["items"]])
        cursor = page["next"]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [id for page in pages for id in page] == sorted(ids, reverse=True)
    assert ann.get("/v1/events?cursor=x").json()["field"] == "cursor"


def test_a_refused_one_in_a_list_leaves_the_others_alone_and_can_be_put_right(ann: Customer) -> None:
    """With the same id."""
    wrong = {"name": "user.signed_up", "data": {"account": "a-1"}, "id": "k-2"}
    first, second = send(ann, [SIGNED_UP, wrong]).json()
    assert (first["status"], second["status"], second["problem"]["field"]) == ("accepted", "refused", "data.email")
    again = send(ann, SIGNED_UP | {"id": "k-2"}).json()
    assert again["new"] and again["id"] != second["id"]


def test_characters_that_cannot_be_stored_cost_the_others_nothing(ann: Customer) -> None:
    """Half a surrogate pair is refused by field; NUL, which is JSON but no text to a database, is replaced."""
    odd = [SIGNED_UP | {"data": {"account": each, "email": "ann@example.com"}} for each in ("a", "\ud800", "\0")]
    answer = post(ann, json.dumps(odd).encode())
    assert [line["status"] for line in answer.json()] == ["accepted", "refused", "accepted"]
    assert answer.json()[1]["problem"]["field"] == "data.account"
    assert ann.get(f"/v1/events/{answer.json()[2]['id']}").json()["data"]["account"] == "\ufffd"


def test_a_body_that_is_too_large_is_refused(ann: Customer) -> None:
    """Before it is read to its end."""
    answer = post(ann, b"[" + b" " * EVENTS_CAP + b"]")
    assert answer.status_code == 413


# -- whose they are --------------------------------------------------------------------------------------------------


def test_a_user_sends_only_its_own(ann: Customer) -> None:
    """By name or by saying nothing; naming somebody else is refused, and kept."""
    own = taken(ann, SIGNED_UP)
    assert own["user_id"]
    assert taken(ann, SIGNED_UP | {"user": own["user_id"]})["user_id"] == own["user_id"]
    answer = send(ann, SIGNED_UP | {"user": "bob"})
    assert (answer.status_code, answer.json()["field"]) == (403, "user")
    assert ann.get(answer.json()["instance"]).json()["status"] == "refused"
    assert send(ann, SIGNED_UP, Darkroom_User="bob").status_code == 403


def test_a_service_sends_for_any_of_its_users(shop: Customer, ledger: Ledger) -> None:
    """By field or by header, or about nobody; a job belongs to whom the event is about, else to the service."""
    by_field, by_header = taken(shop, SIGNED_UP | {"user": "4711"}), taken(shop, SIGNED_UP, Darkroom_User="4711")
    assert by_field["user_id"] == by_header["user_id"]
    assert send(shop, SIGNED_UP | {"user": "4712"}, Darkroom_User="4711").status_code == 403
    nobody = taken(shop, SIGNED_UP)
    assert nobody["user_id"] is None
    owners = [ledger.jobs.get(event["effects"][0]["job_id"]) for event in (by_field, nobody)]
    assert [job.user_id == by_field["user_id"] for job in owners if job] == [True, False]
    assert len(shop.get("/v1/events").json()["items"]) == 4
    assert len(shop.get("/v1/events", Darkroom_User="4711").json()["items"]) == 2


def test_an_event_is_seen_by_who_sent_it_and_whom_it_is_about(ann: Customer, shop: Customer) -> None:
    """To others it is not there."""
    event = taken(shop, SIGNED_UP | {"user": "4711"})
    path = f"/v1/events/{event['id']}"
    assert shop.get(path, Darkroom_User="4711").status_code == 200
    assert shop.get(path, Darkroom_User="4712").status_code == 404
    assert ann.get(path).status_code == 404
    assert ann.get("/v1/events/evt_none").status_code == 404
    assert ann.http.get(path).status_code == 401


# -- around it -------------------------------------------------------------------------------------------------------


def test_prefect_hears_of_every_accepted_event_once(ann: Customer, ledger: Ledger, prefect: RecordingPrefect) -> None:
    """Under a name that resumes no run, with whom it is about; a refused one is none of its business."""
    earlier = ledger.events.unpublished(before=utc_now(), limit=20_000)
    ledger.events.published([event.id for event in earlier])  # by other tests, and told at leisure
    event = taken(ann, SIGNED_UP)
    send(ann, {"name": "user.signed_up", "data": {}})

    def told() -> list[dict[str, Any]]:
        return [each for body in prefect.bodies("/events$") for each in body if each["payload"]["id"] == event["id"]]

    wait_until(told, what="the event in Prefect's feed")
    (heard,) = told()
    assert heard["event"] == "darkroom.user.signed_up" and heard["event"] not in RESUME_EVENTS
    assert heard["resource"]["prefect.resource.id"] == f"darkroom.event.{event['id']}"
    assert heard["related"] == [
        {"prefect.resource.id": f"darkroom.user.{event['user_id']}", "prefect.resource.role": "user"}
    ]
    assert heard["payload"]["data"] == event["data"]


def test_what_events_start_is_read_again_when_the_file_changes(ann: Customer, prefect_yaml: Path) -> None:
    """A file that is broken then changes nothing."""
    try:
        prefect_yaml.write_text(DEPLOYMENTS.replace("user.signed_up}]", "order.placed}]"))
        assert [each[1] for each in effects(taken(ann, SIGNED_UP))] == ["onboard-user/on-demand"]
        prefect_yaml.write_text(DEPLOYMENTS.replace("!= 'free'", "!= = 'free'"))
        assert [each[1] for each in effects(taken(ann, SIGNED_UP))] == ["onboard-user/on-demand"]
    finally:
        prefect_yaml.write_text(DEPLOYMENTS)


def test_the_documentation_shows_what_is_sent(gateway: RunningGateway) -> None:
    """One event or many, each field explained."""
    sent = gateway.http.get("/openapi.json").json()["paths"]["/v1/events"]["post"]["requestBody"]["content"]
    one, many = sent["application/json"]["schema"]["anyOf"]
    assert many["items"]["description"].startswith("As one that is sent alone.")
    assert all(field.get("description") for field in one["properties"].values())
