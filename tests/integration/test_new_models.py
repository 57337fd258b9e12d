"""A model that neither the code nor a packaged card knows: it appears at the provider, and is ordered at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from echoing import call, opened_resources
from running_gateway import Customer, RunningGateway, gateway_with_cards
from simulated_fal import SimulatedFal
from support import wait_until
from test_fal_cards import NEW, new_card
from typer.testing import CliRunner

from darkroom import Waiting
from darkroom.deployments.cli import app
from darkroom.engine.registry import find
from darkroom.engine.resources import Resources, using
from darkroom.ledger import Ledger, Request
from darkroom.providers.fal import Fal
from darkroom.providers.fal.provider import FalProvider
from darkroom.providers.registry import Providers


@pytest.fixture
def gateway(simulator: SimulatedFal, ledger_url: str, tmp_path: Path) -> Iterator[RunningGateway]:
    with gateway_with_cards(ledger_url, tmp_path) as gateway:
        yield gateway


@pytest.fixture
def ann(gateway: RunningGateway, ledger: Ledger) -> Customer:
    return gateway.as_user(ledger.users.add("ann", plan="studio"))


def ordered(ledger: Ledger, answer: httpx.Response) -> Request:
    assert answer.status_code == 202, answer.text
    (row,) = ledger.requests.of_job(answer.json()["job_id"])
    return row


def test_a_model_that_appears_is_ordered_over_http_by_a_command_and_in_a_batch(
    simulator: SimulatedFal, gateway: RunningGateway, ann: Customer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its card is fetched by the first order, and each call has its version and price on record."""
    body = {"model": NEW, "input": {"prompt": "a fox"}}
    assert ann.post("/v1/generations", json={**body, "model": f"{NEW}/yet"}).json()["field"] == "model"
    simulator.add_model(**new_card())
    over_http = ordered(ledger, ann.post("/v1/generations", json=body))
    monkeypatch.setenv("DARKROOM_API_KEY", ann.key)
    monkeypatch.setenv("DARKROOM_GATEWAY_URL", gateway.url)
    said = CliRunner().invoke(app, ["run", NEW, "-i", "prompt=a fox"])
    assert said.exit_code == 0, said.output
    (by_command,) = ledger.requests.of_job(json.loads(said.stdout)["job_id"])
    batch = ann.post("/v1/batches", json={"rows": [{"prompt": "a fox", "model": NEW}, {"prompt": "a mug"}]})
    assert batch.status_code == 202, batch.text
    (in_batch,) = ledger.requests.of_job(ledger.batches.page(batch.json()["job_id"], limit=1)[0].id)
    for row in (over_http, by_command, in_batch):
        assert (row.endpoint, row.model_version, row.input) == (NEW, 1, {"prompt": "a fox"})
        assert row.estimate_usd == Decimal("0.05")


def test_a_wrong_input_of_a_new_model_never_reaches_the_provider(
    simulator: SimulatedFal, ann: Customer, ledger: Ledger
) -> None:
    """It is refused by the schema that came with the card, with path and remedy."""
    simulator.add_model(**new_card())
    before = simulator.stats()["submits_by_endpoint"]
    for input, path in (
        ({}, "input.prompt"),
        ({"prompt": "a fox", "strenght": 1}, "input.strenght"),
        ({"prompt": "a fox", "strength": 2}, "input.strength"),
        ({"prompt": "a fox", "num_images": "2"}, "input.num_images"),
    ):
        problem = ann.post("/v1/generations", json={"model": NEW, "input": input}).json()
        assert (problem["status"], problem["field"], bool(problem["remedy"])) == (422, path, True)
    assert ann.get("/v1/jobs").json()["items"] == []
    assert simulator.stats()["submits_by_endpoint"] == before


def test_its_files_are_stored_and_its_cost_is_right(
    simulator: SimulatedFal, ann: Customer, ledger: Ledger, tmp_path: Path
) -> None:
    """By fal's own count, at the price of its card."""
    simulator.add_model(**new_card())
    body = {"model": NEW, "input": {"prompt": "a fox", "num_images": 2}}
    row = ordered(ledger, ann.post("/v1/generations", json=body))
    with Fal("sim:key") as fal, opened_resources(ledger, None, tmp_path) as opened:
        provider = FalProvider(fal)
        given = Resources(**{**vars(opened), "providers": Providers({"fal": lambda: provider})})
        with using(given):
            result = carried_out(given, provider, row)
    assets = ledger.assets.of_job(row.job_id)
    assert result["files"] == [asset.id for asset in assets]
    assert [(asset.content_type.partition("/")[0], asset.width is not None) for asset in assets] == [
        ("image", True)
    ] * 2
    done = ledger.requests.get(row.ref)
    assert done.cost_usd == Decimal("0.1")


def carried_out(resources: Resources, provider: FalProvider, row: Request) -> Any:
    """Call the job's function as the runner does, and settle its call as a webhook would."""
    ledger, pipeline = resources.ledger, find("run-model")
    for _ in range(10):
        try:
            return pipeline.call(call(resources, row.job_id))
        except Waiting:
            ledger.grants.grant()
        if ledger.requests.get(row.ref).request_id is not None:
            wait_until(lambda: provider.poll(ledger.requests.get(row.ref)) is not None)
            outcome = provider.poll(ledger.requests.get(row.ref))
            assert outcome is not None
            ledger.requests.settle(row.ref, outcome, via="poll")
    raise AssertionError("it waits for ever")
