"""Orders of LoRAs, and what came of them: each user's own, by their own door."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import httpx
import pytest
from gateway_and_prefect import gateway as gateway
from running_gateway import RunningGateway

from darkroom.ledger import JobStatus, Ledger, Lora, NewKey, StoredFile, new_id


@pytest.fixture
def ann(ledger: Ledger) -> NewKey:
    return ledger.users.add("ann", plan="pro")


def picture(ledger: Ledger, user_id: str, *, side: int = 300, sha256: str | None = None) -> str:
    asset_id = new_id("ast_")
    digest = sha256 or asset_id
    file = StoredFile(key=asset_id, sha256=digest, content_type="image/png", bytes=1, width=side, height=side)
    return ledger.assets.add_upload(user_id, asset_id=asset_id, file=file).id


def headers(key: NewKey, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key.key}"} | {name.replace("_", "-"): value for name, value in more.items()}


def order(gateway: RunningGateway, who: NewKey, pictures: list[str], **body: Any) -> httpx.Response:
    given = {"trigger_word": "mochi_cat", "images": pictures} | body
    return gateway.http.post("/v1/loras", json=given, headers=headers(who, Idempotency_Key="once"))


def registered(ledger: Ledger, user_id: str, word: str = "mochi_cat") -> Lora:
    asset_id = picture(ledger, user_id)
    job = ledger.jobs.post(user_id=user_id, kind="train-lora", parameters={}).job
    return ledger.loras.register(job.id, user_id=user_id, trigger_word=word, weights=asset_id, config=asset_id)


def test_an_order_is_on_record_with_its_price_before_anything_is_paid(
    gateway: RunningGateway, ledger: Ledger, ann: NewKey
) -> None:
    """202, where to follow it, and what it will cost; sent again with its key it is the same."""
    images = [picture(ledger, ann.user_id) for _ in range(4)]
    answers = [order(gateway, ann, images) for _ in range(2)]
    for answer in answers:
        assert answer.status_code == 202, answer.text
        assert answer.json()["estimate_usd"] == 2.14
        assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['job_id']}"
    assert len({answer.json()["job_id"] for answer in answers}) == 1
    job = ledger.jobs.get(answers[0].json()["job_id"])
    assert job is not None and job.status is JobStatus.PENDING
    assert job.kind == "train-lora"
    assert job.parameters == {"trigger_word": "mochi_cat", "images": images}
    assert ledger.requests.of_job(job.id) == []


def test_an_order_beyond_the_budget_of_a_day_is_refused(gateway: RunningGateway, ledger: Ledger, ann: NewKey) -> None:
    """By what all of it should cost."""
    ledger.users.set_plan("pro", in_flight=3, weight=Decimal(1), daily_budget_usd=Decimal(2))
    answer = order(gateway, ann, [picture(ledger, ann.user_id) for _ in range(4)])
    assert answer.status_code == 422
    assert "2.14 USD" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"trigger_word": "two words"}, "trigger_word"),
        ({"trigger_word": "lora_1"}, "trigger_word"),
        ({"images": []}, "images"),
        ({"steps": 5}, "steps"),
        ({"captions": {"0": "x" * 2001}}, "captions.0"),
        ({"rank": 4}, "rank"),
    ],
)
def test_a_wrong_order_is_refused_by_its_field(
    gateway: RunningGateway, ledger: Ledger, ann: NewKey, changes: dict[str, Any], field: str
) -> None:
    """422 with the remedy, and nothing is on record."""
    answer = order(gateway, ann, [picture(ledger, ann.user_id) for _ in range(4)], **changes)
    assert answer.status_code == 422, answer.text
    assert (answer.json()["field"], bool(answer.json()["remedy"])) == (field, True)
    assert ledger.jobs.page(ann.user_id, limit=1) == []


def test_pictures_of_others_are_refused_as_if_they_were_not_there(
    gateway: RunningGateway, ledger: Ledger, ann: NewKey
) -> None:
    """By their place in the order."""
    eve = ledger.users.add("eve", plan="pro")
    own = [picture(ledger, ann.user_id) for _ in range(3)]
    for stranger in (picture(ledger, eve.user_id), "ast_nothing"):
        answer = order(gateway, ann, [*own, stranger])
        assert (answer.status_code, answer.json()["field"]) == (422, "images.3")
        assert "no file of this id" in answer.json()["detail"]


def test_all_that_is_known_to_be_wrong_is_told_before_the_order_is_on_record(
    gateway: RunningGateway, ledger: Ledger, ann: NewKey
) -> None:
    """Picture by picture, also by a quote: what is too small, and what is there twice."""
    small, twin = picture(ledger, ann.user_id, side=200), "f" * 64
    good = [picture(ledger, ann.user_id, sha256=twin), picture(ledger, ann.user_id)]
    images = [*good, small, picture(ledger, ann.user_id, sha256=twin)]
    body = {"trigger_word": "mochi_cat", "images": images}
    quoted = gateway.http.post("/v1/quotes", json={"kind": "train-lora", "order": body}, headers=headers(ann))
    for answer, within in ((order(gateway, ann, images), ""), (quoted, "")):
        assert answer.status_code == 422, answer.text
        found = {each["field"].removeprefix(within): each["detail"] for each in answer.json()["errors"]}
        assert list(found) == ["images.2", "images.3"]
        assert "200 × 200 pixels" in found["images.2"] and "the same picture as images.0" in found["images.3"]
    assert ledger.jobs.page(ann.user_id, limit=1) == []


def test_a_lora_is_shown_to_its_owner_alone(gateway: RunningGateway, ledger: Ledger, ann: NewKey) -> None:
    """With a link to its test pictures once there are some."""
    lora = registered(ledger, ann.user_id)
    path = f"/v1/loras/{lora.id}"
    early = gateway.http.get(path, headers=headers(ann)).json()
    assert (early["status"], early["version"], early["sample_url"]) == ("trained", 1, None)
    ledger.loras.ready(lora.id, sample=lora.weights_asset_id)
    ready = gateway.http.get(path, headers=headers(ann)).json()
    assert (ready["status"], ready["trigger_word"], ready["job_id"]) == ("ready", "mochi_cat", lora.job_id)
    assert "signature=" in ready["sample_url"]
    assert gateway.http.get(path, headers=headers(ledger.users.add("eve", plan="pro"))).status_code == 404
    assert gateway.http.get("/v1/loras/lora_none", headers=headers(ann)).status_code == 404
    assert gateway.http.get(path).status_code == 401


def test_loras_are_listed_page_by_page(gateway: RunningGateway, ledger: Ledger, ann: NewKey) -> None:
    """Newest first, each once."""
    made = [registered(ledger, ann.user_id, word).id for word in ("fox", "owl", "fox")]
    registered(ledger, ledger.users.add("eve", plan="pro").user_id)
    seen, cursor = [], None
    while True:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = gateway.http.get("/v1/loras", params=query, headers=headers(ann)).json()
        seen += [item["id"] for item in page["items"]]
        if (cursor := page["next"]) is None:
            break
    assert seen == made[::-1]
    foxes = gateway.http.get("/v1/loras?trigger_word=fox", headers=headers(ann)).json()["items"]
    assert [(each["id"], each["version"]) for each in foxes] == [(made[2], 2), (made[0], 1)]


# -- pictures with a LoRA --------------------------------------------------------------------------------------------


def pictured(gateway: RunningGateway, who: NewKey, **body: Any) -> httpx.Response:
    return gateway.http.post("/v1/images", json={"prompt": "asleep on a sofa"} | body, headers=headers(who))


def test_a_lora_is_named_by_its_word_or_by_its_id(gateway: RunningGateway, ledger: Ledger, ann: NewKey) -> None:
    """The word is its newest version that is ready; the call on record has the weights, and the word in its prompt."""
    first, second, third = (registered(ledger, ann.user_id) for _ in range(3))
    for lora in (first, second):
        ledger.loras.ready(lora.id, sample=lora.weights_asset_id)
    for name, meant in (("mochi_cat", second), (first.id, first), (third.id, third)):
        answer = pictured(gateway, ann, lora=name, lora_scale=0.8, seed=7)
        assert answer.status_code == 202, answer.text
        (row,) = ledger.requests.of_job(answer.json()["job_id"])
        assert row.endpoint == "fal-ai/flux-lora"
        assert row.input == {
            "prompt": "mochi_cat, asleep on a sofa",
            "seed": 7,
            "loras": [{"path": f"asset:{meant.weights_asset_id}", "scale": 0.8}],
        }


def test_a_prompt_that_has_the_word_stays_as_it_is(gateway: RunningGateway, ledger: Ledger, ann: NewKey) -> None:
    """And so do the model's own arguments."""
    lora = registered(ledger, ann.user_id)
    ledger.loras.ready(lora.id, sample=lora.weights_asset_id)
    answer = pictured(gateway, ann, prompt="a mochi_cat, asleep", lora="mochi_cat", arguments={"guidance_scale": 5.0})
    (row,) = ledger.requests.of_job(answer.json()["job_id"])
    assert row.input is not None
    assert (row.input["prompt"], row.input["guidance_scale"]) == ("a mochi_cat, asleep", 5.0)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"lora": "of_eve"}, "lora"),
        ({"lora": "nobodys"}, "lora"),
        ({"lora": ""}, "lora"),
        ({"lora": "mochi_cat", "model": "openai/gpt-image-2"}, "model"),
        ({"lora": "mochi_cat", "lora_scale": 5}, "lora_scale"),
        ({"lora": "mochi_cat", "arguments": {"loras": []}}, "arguments.loras"),
        ({"lora": "mochi_cat", "arguments": {"steps": 5}}, "arguments.steps"),
    ],
)
def test_a_lora_that_cannot_be_applied_is_refused(
    gateway: RunningGateway, ledger: Ledger, ann: NewKey, body: dict[str, Any], field: str
) -> None:
    """Also another user's, which is told as if it were not there; nothing is queued."""
    eve = ledger.users.add("eve", plan="pro").user_id
    for owner, word in ((ann.user_id, "mochi_cat"), (eve, "of_eve")):
        lora = registered(ledger, owner, word)
        ledger.loras.ready(lora.id, sample=lora.weights_asset_id)
    answer = pictured(gateway, ann, **body)
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text
    assert answer.json()["remedy"]
    assert all(job.kind == "train-lora" for job in ledger.jobs.page(ann.user_id, limit=9))


def test_the_id_of_anothers_lora_is_refused_too(gateway: RunningGateway, ledger: Ledger, ann: NewKey) -> None:
    """An id says whose it is to nobody."""
    lora = registered(ledger, ledger.users.add("eve", plan="pro").user_id)
    answer = pictured(gateway, ann, lora=lora.id)
    assert (answer.status_code, answer.json()["field"]) == (422, "lora")
