"""What can be ordered, over HTTP: pipelines with their forms, and the categories of models."""

from __future__ import annotations

import pytest
from running_gateway import Customer, RunningGateway
from shared_gateway import gateway as gateway
from shared_gateway import home as home
from shared_gateway import ledger_url as ledger_url

from darkroom.ledger import Ledger, new_id


@pytest.fixture
def ann(gateway: RunningGateway, ledger: Ledger) -> Customer:
    return gateway.as_user(ledger.users.add(new_id("ann_")))


def test_pipelines_are_listed_and_each_has_its_form(ann: Customer) -> None:
    """Ours and the project's, by name, with the labels that every order takes; batches are ordered elsewhere."""
    found = {each["kind"]: each for each in ann.get("/v1/pipelines").json()["items"]}
    assert list(found) == sorted(found) and "render-batch" not in found
    assert found["edit-image"]["title"] == "Edit a picture" and found["process-order"]["title"] == "Process order"
    for kind, required in {"edit-image": ["image", "post"], "process-order": None}.items():
        form = ann.get(f"/v1/pipelines/{kind}").json()["order_schema"]
        assert "tags" in form["properties"] and (required is None or form["required"] == required)
    assert ann.get("/v1/pipelines/nonesuch").status_code == 404


def test_categories_are_listed_with_how_many_models_each_has(ann: Customer) -> None:
    """Of the cards that are here."""
    found = {each["category"]: each["models"] for each in ann.get("/v1/model-categories").json()["items"]}
    listed = ann.get("/v1/models?category=image-to-3d").json()["items"]
    assert found["image-to-3d"] == len(listed) > 0


def test_a_quote_takes_the_labels_that_the_order_takes(ann: Customer) -> None:
    """Its body, as it would be sent."""
    order = {"model": "fal-ai/nano-banana", "input": {"prompt": "a fox"}, "tags": ["spring"]}
    for kind, body in {"run-model": order, "generate-image": {"prompt": "a fox", "tags": ["spring"]}}.items():
        quoted = ann.post("/v1/quotes", json={"kind": kind, "order": body})
        assert quoted.status_code == 200 and quoted.json()["estimate_usd"] > 0, quoted.text
