"""What flow control holds, over HTTP: every event says what became of it, and whoever it is for sees what waits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr
from running_gateway import (
    Customer,
    GivenBlocks,
    RunningGateway,
    let_the_operator_in,
    recording_prefect,
    running_gateway,
)
from shared_gateway import ledger as ledger
from shared_gateway import ledger_url as ledger_url
from support import wait_until
from typer.testing import CliRunner

from darkroom.deployments.cli import app
from darkroom.events import triggers
from darkroom.ledger import Ledger
from darkroom.orchestrator import project_file
from darkroom.settings import Settings

STARTED = (("--state", "started"), ("--status", "begun"))  # the latter in the words of 0.1
DEPLOYMENTS = """
deployments:
  - {name: debounced, entrypoint: "flows/greet.py:greet", starts_on: [{event: user.signed_up}],
     flow_control: {debounce: {key: event.data.account, period: 0.3s}}}
  - {name: limited, entrypoint: "flows/pack.py:pack", starts_on: [{event: order.placed}],
     flow_control: {rate_limit: {key: event.data.currency, limit: 1, period: 1h}}}
  - {name: alone, entrypoint: "flows/tell.py:tell", starts_on: [{event: user.profile_completed}],
     flow_control: {singleton: {key: "event.data.account + ':' + event.user", when_running: queue}}}
  - {name: keyed, entrypoint: "flows/note.py:note", starts_on: [{event: order.confirmed}],
     flow_control: {concurrency: {key: "[event.data.order]", limit: 1}}}
"""


@pytest.fixture(scope="module")
def gateway(ledger_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    home = tmp_path_factory.mktemp("home")
    file = tmp_path_factory.mktemp("project") / "prefect.yaml"
    file.write_text(DEPLOYMENTS)
    settings = Settings(ledger_url=ledger_url, home=home, signing_key=SecretStr("a long random text"))
    with recording_prefect() as prefect, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_URL", prefect.url)
        for module in (triggers, project_file):
            patch.setattr(module, "project_files", lambda: [file])
        with running_gateway(settings, blocks=GivenBlocks()) as running:
            yield running


@pytest.fixture
def ann(gateway: RunningGateway, ledger: Ledger) -> Customer:
    return gateway.as_user(ledger.users.add(f"ann {uuid4().hex}", plan="studio"))


@pytest.fixture
def bob(gateway: RunningGateway, ledger: Ledger) -> Customer:
    return gateway.as_user(ledger.users.add(f"bob {uuid4().hex}", plan="studio"))


def send(customer: Customer, name: str, *data: dict[str, Any]) -> list[str]:
    """Returns the addresses of the events."""
    answer = customer.post("/v1/events", json=[{"name": name, "data": each} for each in data])
    assert answer.status_code == 202, answer.text
    return [f"/v1/events/{line['id']}" for line in answer.json()]


def effect(customer: Customer, event: str) -> dict[str, Any]:
    (found,) = customer.get(event).json()["effects"]
    return dict(found)


def signed_up(plan: str) -> dict[str, Any]:
    return {"account": "a-1", "email": "ann@example.com", "plan": plan}


def order(currency: str) -> dict[str, Any]:
    return {"order": "o-1", "total_cents": 1, "currency": currency}


def until(customer: Customer, event: str, status: str) -> dict[str, Any]:
    wait_until(lambda: effect(customer, event)["pending_run"]["state"] == status, every=0.05, what=status)
    return effect(customer, event)


def test_every_event_of_a_debounce_says_which_run_it_became(ann: Customer, ledger: Ledger) -> None:
    """While it gathers, and when it has begun; and that a later one has taken its place."""
    first, last = send(ann, "user.signed_up", signed_up("free"), signed_up("studio"))
    gathers = effect(ann, first)
    assert (gathers["what"], gathers["deployment"], gathers["job_id"]) == ("held", "greet/debounced", None)
    assert gathers["pending_run"]["events"] == 2 and gathers["pending_run"]["until"]
    begun = until(ann, first, "started")
    assert (begun["pending_run_n"], begun["passed_on"]) == (1, False)
    assert (effect(ann, last)["pending_run_n"], effect(ann, last)["passed_on"]) == (2, True)
    run = ann.get(f"/v1/pending-runs/{begun['pending_run']['id']}").json()
    assert effect(ann, last)["pending_run"] == begun["pending_run"] == run
    assert (run["state"], run["status"], begun["start"], begun["start_n"]) == ("started", "begun", run, 1)
    job = ledger.jobs.get(begun["pending_run"]["job_id"])
    assert job is not None and job.parameters["plan"] == "studio"


def test_what_is_refused_says_why_and_has_no_job(ann: Customer, bob: Customer) -> None:
    """Here one user's start has used up what another's would need: the key is not by user."""
    (first,) = send(ann, "order.placed", order("EUR"))
    until(ann, first, "started")
    second, other = send(bob, "order.placed", order("EUR"), order("CHF"))
    dropped = until(bob, second, "dropped")["pending_run"]
    assert (dropped["job_id"], dropped["until"]) == (None, None)
    assert dropped["reason"].endswith("(rate limit)") and dropped["settled_at"]
    until(bob, other, "started")


def test_an_event_without_the_key_says_why_it_starts_nothing(ann: Customer) -> None:
    """It is asked of the event before anything is held."""
    (event,) = send(ann, "order.confirmed", {"order": "o-1", "charge": "c-1"})
    found = effect(ann, event)
    assert (found["what"], found["pending_run"], found["job_id"]) == ("not_started", None, None)
    assert found["reason"].startswith("the key of its concurrency is no text, number or truth")


def test_starts_are_listed_to_whom_they_are_for(ann: Customer, bob: Customer) -> None:
    """By page, newest first, by status and by deployment; to others they are not there."""
    events = send(ann, "user.profile_completed", *({"account": "a-1"} for _ in range(3)))
    ids = [effect(ann, event)["pending_run"]["id"] for event in events]
    until(ann, events[0], "started")
    page = ann.get("/v1/pending-runs?limit=2").json()
    assert [each["id"] for each in page["items"]] == [ids[2], ids[1]]
    rest = ann.get(f"/v1/pending-runs?limit=2&cursor={page['next']}").json()
    assert ([each["id"] for each in rest["items"]], rest["next"]) == ([ids[0]], None)
    waiting = ann.get("/v1/pending-runs?state=waiting&deployment=tell/alone").json()["items"]
    assert ann.get("/v1/starts?status=waiting&deployment=tell/alone").json()["items"] == waiting
    assert [each["id"] for each in ann.get("/v1/pending-runs?state=started").json()["items"]] == [ids[0]]
    assert [each["id"] for each in waiting] == [ids[2], ids[1]]
    assert "(singleton: queue)" in waiting[1]["reason"]
    assert ann.get("/v1/pending-runs?deployment=greet/debounced").json()["items"] == []
    assert ann.get("/v1/pending-runs?state=lost").status_code == 422
    assert bob.get("/v1/pending-runs").json()["items"] == []
    assert bob.get(f"/v1/pending-runs/{ids[0]}").status_code == 404


def test_the_operator_lists_the_starts_of_all(
    gateway: RunningGateway,
    ann: Customer,
    bob: Customer,
    ledger: Ledger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One a line, with what it waits for."""
    events = [
        (who, *send(who, "user.profile_completed", *({"account": "a-2"} for _ in range(2)))) for who in (ann, bob)
    ]
    held = [until(who, event, "waiting")["pending_run"]["id"] for who, _, event in events]
    let_the_operator_in(gateway, ledger, tmp_path, monkeypatch)
    said = CliRunner().invoke(app, ["pending", "list", "--deployment", "tell/alone", "--state", "waiting"])
    assert said.exit_code == 0, said.output
    lines = [line.split("\t") for line in said.output.splitlines()]
    assert set(held) <= {line[0] for line in lines}
    (line,) = [line for line in lines if line[0] == held[0]]
    assert line[1:4] == ["tell/alone", "waiting", "1"] and "(singleton: queue)" in line[-1]
    begun = [CliRunner().invoke(app, ["pending", "list", *which]).output for which in STARTED]
    assert begun[0] == begun[1] and {line.split("\t")[2] for line in begun[0].splitlines()} == {"started"}
    wrong = CliRunner().invoke(app, ["pending", "list", "--state", "lost"])
    assert "none of collecting, waiting, started, dropped" in str(wrong.exception)
