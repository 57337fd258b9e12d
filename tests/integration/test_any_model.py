"""Ten models of ten categories, by their cards, each ordered in every way: what it makes is kept, and costed right.

Their cards are the simulator's, from fal's public pages. The calls go the engine's way through fal's client; what
Prefect would carry is done here in turns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from echoing import call, opened_resources
from PIL import Image
from running_gateway import Customer, RunningGateway, gateway_with_cards
from simulated_fal import SimulatedFal
from support import wait_until
from ten_models import OWN, TEN, Sold, is_charged, require_made, with_files
from test_gateway_models import WRONG
from typer.testing import CliRunner

from darkroom import Waiting
from darkroom.deployments.cli import app
from darkroom.engine.registry import find
from darkroom.engine.resources import Resources, using
from darkroom.flows.run_model import run_model
from darkroom.ledger import ON_DEMAND, BatchPass, JobStatus, Ledger, Request, StoredFile, new_id
from darkroom.providers.fal import Fal
from darkroom.providers.fal.provider import FalProvider
from darkroom.providers.registry import Providers


@pytest.fixture
def gateway(simulator: SimulatedFal, ledger_url: str, tmp_path: Path) -> Iterator[RunningGateway]:
    with gateway_with_cards(ledger_url, tmp_path) as gateway:
        yield gateway


@pytest.fixture
def ann(gateway: RunningGateway, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Customer:
    ann = gateway.as_user(ledger.users.add("ann", plan="studio"))
    monkeypatch.setenv("DARKROOM_API_KEY", ann.key)
    monkeypatch.setenv("DARKROOM_GATEWAY_URL", gateway.url)
    return ann


@dataclass(frozen=True, kw_only=True)
class Shop:
    """What carries orders out: the engine's resources, with fal's client at the simulator."""

    ledger: Ledger
    resources: Resources
    provider: FalProvider
    simulator: SimulatedFal

    def given(self, input: Mapping[str, Any], user_id: str) -> dict[str, Any]:
        """Return the input with the user's own files in it."""
        return with_files(input, lambda what: self.brought(what, user_id))

    def brought(self, what: str, user_id: str) -> str:
        (content, content_type), asset_id = OWN[what](), new_id("ast_")
        key = f"uploads/{asset_id}"
        self.resources.store.write(key, content)
        digest = sha256(content).hexdigest()
        file = StoredFile(
            key=key, sha256=digest, content_type=content_type, bytes=len(content), width=None, height=None
        )
        return self.ledger.assets.add_upload(user_id, asset_id=asset_id, file=file).id

    def carry_out(self, job_id: str) -> Mapping[str, Any] | None:
        """Call the job's function as the runner does, settle its calls as a webhook would, and end it."""
        job = self.ledger.jobs.get(job_id)
        assert job is not None
        with using(self.resources):
            for _ in range(10):
                try:
                    result = find(job.kind).call(call(self.resources, job_id))
                except Waiting:
                    self.ledger.grants.grant()
                    self._settle(job_id)
                else:
                    self.ledger.jobs.finish(job_id, JobStatus.COMPLETED, result=result)
                    return result
        raise AssertionError("it waits for ever")

    def _settle(self, job_id: str) -> None:
        for row in self.ledger.requests.of_job(job_id):
            if row.request_id is None or row.finished_at is not None:
                continue
            outcome = wait_until(lambda row=row: self.provider.poll(row))
            self.ledger.requests.settle(row.ref, outcome, via="poll")

    def require_kept_and_costed(self, job_id: str, sold: Sold, result: Mapping[str, Any] | None) -> None:
        """Every file is in the store, of the kind that its bytes say; the cost is what the simulator has charged."""
        assets = self.ledger.assets.of_job(job_id)
        contents = [self.resources.store.read(asset.key) for asset in assets]
        for asset, content in zip(assets, contents, strict=True):
            assert (len(content), sha256(content).hexdigest()) == (asset.bytes, asset.sha256)
        require_made(sold, [(asset.content_type, content) for asset, content in zip(assets, contents, strict=True)])
        assert set(sold.says) <= set((result or {}).get("output", {}))
        (row,) = self.ledger.requests.of_job(job_id)
        self.require_costed(row)

    def require_costed(self, row: Request) -> None:
        assert row.cost_usd is not None
        assert is_charged(row.cost_usd, nano_usd=self.simulator.invoice()["by_request"][row.request_id])


@pytest.fixture
def shop(simulator: SimulatedFal, ledger: Ledger, tmp_path: Path) -> Iterator[Shop]:
    with Fal("sim:key") as fal, opened_resources(ledger, None, tmp_path) as opened:
        provider = FalProvider(fal)
        resources = replace(opened, providers=Providers({"fal": lambda: provider}))
        yield Shop(ledger=ledger, resources=resources, provider=provider, simulator=simulator)


def posted(customer: Customer, path: str, body: Mapping[str, Any]) -> str:
    answer = customer.post(path, json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


def by_command(sold: Sold, input: Mapping[str, Any]) -> str:
    each = [(name, one) for name, value in input.items() for one in (value if isinstance(value, list) else [value])]
    given = [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in each]
    said = CliRunner().invoke(app, ["run", sold.model, *(part for each in given for part in ("-i", each))])
    assert said.exit_code == 0, said.output
    return str(json.loads(said.stdout)["job_id"])


def by_form(ledger: Ledger, user_id: str, sold: Sold, input: Mapping[str, Any]) -> str:
    """As Prefect's form: its parameters are checked by the flow, and its run opens its own job."""
    filled = {"model": sold.model, "input": dict(input)}
    checked = run_model.validate_parameters({**filled, "user": "ann"})
    order = find("run-model").order.read({name: checked[name] for name in filled})
    order.check()
    run = ledger.runs.open_own(
        uuid4(), user_id=user_id, kind="run-model", deployment=ON_DEMAND, parameters=order.parameters()
    )
    (job,) = ledger.jobs.of_run(run.id)
    return job.id


@pytest.mark.parametrize("sold", TEN.values(), ids=TEN)
def test_any_model_is_ordered_over_http_by_a_command_and_by_the_form(
    sold: Sold, shop: Shop, ann: Customer, ledger: Ledger
) -> None:
    """The same call each time: its files are stored by what they are, and it costs what was charged."""
    user_id = ledger.users.find("ann").id
    input = shop.given(sold.input, user_id)
    jobs = [
        posted(ann, "/v1/generations", {"model": sold.model, "input": input}),
        by_command(sold, input),
        by_form(ledger, user_id, sold, input),
    ]
    for job_id in jobs:
        result = shop.carry_out(job_id)
        shop.require_kept_and_costed(job_id, sold, result)
        (row,) = ledger.requests.of_job(job_id)
        assert (row.endpoint, row.input) == (sold.model, input)


def test_all_of_them_are_rows_of_one_batch(shop: Shop, ann: Customer, ledger: Ledger) -> None:
    """By the model's own columns. All are on the contact sheet, in the choice, and in the audit with their kinds."""
    user_id = ledger.users.find("ann").id
    rows = [{"id": name, "model": sold.model, **shop.given(sold.input, user_id)} for name, sold in TEN.items()]
    batch_id = posted(ann, "/v1/batches", {"rows": [*rows, {"id": "drafted", "prompt": "a fox"}]})
    children = ledger.batches.page(batch_id, limit=20)
    ledger.runs.assign(*(child.id for child in children))  # as their slots are granted
    carriers = {job.run_id for job in map(ledger.jobs.get, [batch_id, *(child.id for child in children)]) if job}
    assert len(carriers) == 1 and None not in carriers
    for n, child in enumerate(children):
        result = shop.carry_out(child.id)
        if n < len(TEN):
            shop.require_kept_and_costed(child.id, list(TEN.values())[n], result)
    with using(shop.resources), pytest.raises(Waiting):
        find("render-batch").call(call(shop.resources, batch_id))
    (sheet,) = ledger.assets.of_job(batch_id)
    with Image.open(BytesIO(shop.resources.store.read(sheet.key))) as drawn:
        assert drawn.format == "JPEG"
    shown = {draft.name: draft.content_type for draft in ledger.batches.pictures(batch_id, BatchPass.DRAFT)}
    assert shown["film from text"] == "video/mp4"
    assert (shown["3D"], shown["vision"]) == ("model/gltf-binary", None)
    chosen = ann.post(f"/v1/batches/{batch_id}/selection", json={"numbers": "all"})
    assert chosen.status_code == 202, chosen.text
    with using(shop.resources), pytest.raises(Waiting):
        find("render-batch").call(call(shop.resources, batch_id))
    # The others have no cheaper draft, so it was the final already.
    (final,) = ledger.batches.page(batch_id, limit=5, only=BatchPass.FINAL)
    shop.carry_out(final.id)
    result = shop.carry_out(batch_id)
    assert result is not None
    assert (result["winners"], result["failed"]) == (list(range(len(TEN) + 1)), [])
    lines = shop.resources.store.read(ledger.assets.get(result["audit"]["json_lines"]).key).decode().splitlines()
    audited = {each["id"]: each for each in map(json.loads, lines)}
    for name, sold in TEN.items():
        assert sorted(file["content_type"] for file in audited[name]["files"]) == sorted(sold.makes)


def test_a_wrong_row_of_any_model_is_refused_by_its_column(shop: Shop, ann: Customer, ledger: Ledger) -> None:
    """With all that is wrong in it; nothing is queued."""
    rows = [
        {"model": "fal-ai/veo3/fast", "prompt": "a fox", "duration": "9s", "aspect": "16:9"},
        {"model": "fal-ai/hunyuan3d/v2", "octree_resolution": 5000},
        {"model": "fal-ai/elevenlabs/tts/eleven-v3", "prompt": "hello"},
        {"model": "fal-ai/hunyuan3d/v2", "input_image_url": f"asset:{new_id('ast_')}"},
    ]
    problem = ann.post("/v1/batches", json={"rows": rows}).json()
    assert problem["status"] == 422
    assert sorted(each["field"] for each in problem["errors"]) == [
        "row 1, aspect",
        "row 1, duration",
        "row 2, input_image_url",
        "row 2, octree_resolution",
        "row 3, prompt",
        "row 3, text",
        "row 4, input_image_url",
    ]
    assert all(each["remedy"] for each in problem["errors"])
    assert ann.get("/v1/jobs").json()["items"] == []


def test_nothing_wrong_reaches_the_provider(simulator: SimulatedFal, ann: Customer) -> None:
    """Twenty wrong inputs over five models: no submit, and no file."""
    before = reached(simulator)
    assert (len(WRONG), len({model for model, _, _ in WRONG})) >= (20, 5)
    for model, input, path in WRONG:
        problem = ann.post("/v1/generations", json={"model": model, "input": input}).json()
        assert (problem["status"], problem["field"], bool(problem["remedy"])) == (422, path, True)
    assert reached(simulator) == before
    assert ann.get("/v1/jobs").json()["items"] == []


def reached(simulator: SimulatedFal) -> tuple[int, int]:
    return simulator.stats()["submit_calls"], len(simulator.operator.get("/uploads").json())
