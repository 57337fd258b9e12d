"""Any model as its flow runs it: every file of the answer is stored, the rest is the result."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from echoing import EchoProvider, call, opened_resources, picture, until_it_has_come

from darkroom.engine.registry import find
from darkroom.engine.resources import Resources, using
from darkroom.engine.store import own_asset
from darkroom.errors import BadInput, Permanent
from darkroom.ledger import Asset, Ledger, Outcome, Request, Transition
from darkroom.models import Card
from darkroom.providers.registry import Providers
from darkroom.providers.shelf import open_shelf

OBJECT = {"type": "object"}
GLB = b"glTF\x02\x00\x00\x00" + bytes(64)
CARD = Card(
    endpoint="fal-ai/fox-to-3d",
    account_id="fal",
    category="image-to-3d",
    input_schema={**OBJECT, "properties": {"prompt": {"type": "string"}, "frames": {"type": "array", "items": OBJECT}}},
    output_schema=OBJECT,
    unit="units",
    unit_price=Decimal(1),
)


class Fal(EchoProvider):
    immediate = True


@pytest.fixture
def provider() -> EchoProvider:
    return Fal()


@pytest.fixture
def resources(ledger: Ledger, provider: EchoProvider, tmp_path: Path) -> Iterator[Resources]:
    ledger.models.keep([CARD.facts()])
    with opened_resources(ledger, provider, tmp_path) as opened:
        given = Resources(**{**vars(opened), "providers": Providers({"fal": lambda: provider})})
        with using(given):
            yield given


def data_url(content: bytes) -> str:
    return "data:application/octet-stream;base64," + base64.b64encode(content).decode()


def run(resources: Resources, ledger: Ledger, **order: Any) -> tuple[dict[str, Any], list[Asset]]:
    ann = ledger.users.add("ann", plan="studio").user_id
    parameters = {"model": CARD.endpoint, "input": {"prompt": "a fox"}, **order}
    job = ledger.jobs.post(user_id=ann, kind="run-model", parameters=parameters).job
    pipeline = find("run-model")
    result = until_it_has_come(resources, job.id, pipeline.call)
    call(resources, job.id)
    return result, ledger.assets.of_job(job.id)


def answers(provider: EchoProvider, output: dict[str, Any]) -> None:
    outcome = Outcome(transition=Transition.SUCCEED, output=output, cost_usd=Decimal("0.219"))
    provider.answer = lambda row, input: outcome


def test_every_file_is_stored_and_the_rest_is_the_result(
    resources: Resources, ledger: Ledger, provider: EchoProvider
) -> None:
    """Pictures are verified, what nobody reads is kept as it is; links to elsewhere stay links."""
    mesh = {"url": data_url(GLB), "file_name": "fox.glb", "content_type": "text/html"}
    output = {
        "parts": [{"mesh": mesh}, {"preview": {"url": data_url(picture())}}],
        "thumbnail": data_url(picture()),
        "source": {"url": "https://news.example/fox"},
        "faces": 12,
    }
    answers(provider, output)
    result, assets = run(resources, ledger)
    kinds = {asset.content_type: asset for asset in assets}
    assert [asset.n for asset in assets] == [0, 1, 2]
    assert kinds["model/gltf-binary"].key.startswith("files/")
    assert kinds["image/png"].width
    assert kinds["image/png"].key.startswith("images/")
    assert result["files"] == [asset.id for asset in assets]
    assert result["output"] == {
        "parts": [
            {"mesh": {"asset_id": assets[0].id, "file_name": "fox.glb", "content_type": "text/html"}},
            {"preview": {"asset_id": assets[1].id}},
        ],
        "thumbnail": {"asset_id": assets[1].id},  # the same file: either will do
        "source": {"url": "https://news.example/fox"},
        "faces": 12,
    }
    assert resources.store.read(assets[0].key) == GLB


def test_a_model_that_is_not_sold_any_more_is_carried_to_its_end(
    resources: Resources, ledger: Ledger, provider: EchoProvider
) -> None:
    """It was denied after its call was sent, and its card takes no such input any more: what is paid is kept."""

    def answer(row: Request, input: Mapping[str, Any]) -> Outcome:
        ledger.models.allow(CARD.endpoint, False)
        ledger.models.keep([{**CARD.facts(), "kind": "training", "input_schema": {**OBJECT, "required": ["style"]}}])
        return Outcome(transition=Transition.SUCCEED, output={"faces": 12}, cost_usd=Decimal("0.219"))

    provider.answer = answer
    with open_shelf(ledger, fetch=None):
        result, _ = run(resources, ledger)
    assert result["output"] == {"faces": 12}


def test_a_long_result_is_a_file_beside_the_job(resources: Resources, ledger: Ledger, provider: EchoProvider) -> None:
    """What stands in a job's own record is bounded."""
    answers(provider, {"text": "fox " * 20_000})
    result, (kept,) = run(resources, ledger)
    assert result == {"output_asset_id": kept.id, "files": []}
    assert (kept.content_type, json.loads(resources.store.read(kept.key))["text"][:3]) == ("application/json", "fox")


def test_steps_afterwards_are_done_to_the_pictures(
    resources: Resources, ledger: Ledger, provider: EchoProvider
) -> None:
    """Whatever else has come stays as it is."""
    ledger.models.keep([{**CARD.facts(), "category": "text-to-image"}])
    answers(provider, {"mesh": {"url": data_url(GLB)}, "image": {"url": data_url(picture())}})
    result, assets = run(resources, ledger, post=["watermark"])
    marked = [asset for asset in assets if asset.step == "1-watermark"]
    assert result["pictures"] == [asset.id for asset in marked]
    assert len(marked) == 1


NAKED = {
    "images": [{"url": data_url(picture())}, {"url": data_url(picture("blue"))}],
    "has_nsfw_concepts": [False, True],
}


@pytest.mark.parametrize(("order", "hidden"), [({}, False), ({"flagged": "hide"}, True)], ids=["keep", "hide"])
def test_what_its_model_has_flagged_is_marked_and_hidden_where_the_order_says_so(
    resources: Resources, ledger: Ledger, provider: EchoProvider, order: dict[str, str], hidden: bool
) -> None:
    """Nothing is done to a hidden picture afterwards, and no other order can take it."""
    ledger.models.keep([{**CARD.facts(), "category": "text-to-image"}])
    answers(provider, NAKED)
    result, assets = run(resources, ledger, post=["watermark"], **order)
    clean, naked = (asset for asset in assets if asset.step == "run")
    assert [(each.flagged, each.hidden) for each in (clean, naked)] == [(False, False), (True, hidden)]
    assert result["files"] == [clean.id, naked.id]
    assert len(result["pictures"]) == 2 - hidden
    if hidden:
        with pytest.raises(BadInput, match="no file"):
            own_asset(resources, naked.id, user_id=naked.user_id)


def test_a_job_fails_for_what_is_flagged_where_the_order_says_so(
    resources: Resources, ledger: Ledger, provider: EchoProvider
) -> None:
    """What was paid is on record all the same, and shown to nobody."""
    answers(provider, NAKED)
    with pytest.raises(Permanent, match="flagged") as failed:
        run(resources, ledger, flagged="fail")
    assert failed.value.code == "flagged"
    (job,) = ledger.jobs.page(ledger.users.find("ann").id, limit=1)
    assert [(each.flagged, each.hidden) for each in ledger.assets.of_job(job.id)] == [(False, False), (True, True)]
