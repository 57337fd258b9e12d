"""Prefect's form for any model: what was filled in there, sent as its UI sends it, and what comes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from running import DARKROOM, Stack
from ten_models import OWN, TEN, Sold, is_charged, require_made, with_files

from darkroom.clock import utc_now
from darkroom.models import Card

FORM = "/deployments/name/run-model/on-demand"
USER = "fay"
KINDS = ("edit", "film from text", "transcription")  # a picture, a film, and words beside files
NEW = Sold(model="fal-ai/tests/appears", input={"prompt": "a fox that appears"}, makes=("image/png",))
CARD: dict[str, Any] = {
    "endpoint_id": NEW.model,
    "category": "text-to-image",
    "unit": "images",
    "unit_price": "0.05",
    "input": {"type": "object", "required": ["prompt"], "properties": {"prompt": {"type": "string"}}},
    "output": {
        "type": "object",
        "required": ["image"],
        "properties": {"image": {"$ref": "#/components/schemas/Image"}},
    },
}


def test_models_of_several_kinds_and_one_that_appears_are_ordered_by_the_form(stack: Stack) -> None:
    """Each is a run of its own, tagged with its user; its files are what their bytes say, its cost what was charged.

    All ten categories go the rest of the way in `tests/integration/test_any_model.py`.
    """
    headers = stack.bearer(USER)
    brought = {what: _uploaded(stack, *OWN[what](), headers=headers) for what in OWN}
    form = _form(stack)
    stack.simulator.post("/_sim/models", json=CARD).raise_for_status()
    every = [*(TEN[kind] for kind in KINDS), NEW]
    runs = [_filled_in(stack, form, each.model, with_files(each.input, brought.__getitem__)) for each in every]
    for run in runs:
        assert stack.in_state(run, "Completed", "Failed", timeout=120)["state_name"] == "Completed"
        assert f"user:{stack.ledger.users.find(USER).id}" in stack.flow_run(run)["tags"]
    charged = stack.simulator.get("/_sim/invoice").json()["by_request"]
    jobs = {job["requests"][0]["endpoint"]: job for job in _jobs(stack, headers)}
    assert len(jobs) == len(every)
    for sold in every:
        job = jobs[sold.model]
        (call,) = job["requests"]
        assert is_charged(Decimal(str(call["cost_usd"])), nano_usd=charged[call["request_id"]]), sold.model
        files = [(asset["content_type"], stack.gateway.get(asset["url"]).content) for asset in job["assets"]]
        require_made(sold, files)
        assert set(sold.says) <= set(job["result"]["output"])


def test_what_becomes_of_a_model_changes_nothing_for_a_job_under_way(stack: Stack, prompt: str) -> None:
    """Its run, suspended meanwhile, comes back though the new card refuses the input and an operator the model."""
    model = "fal-ai/tests/changes"
    stack.simulator.post("/_sim/models", json={**CARD, "endpoint_id": model}).raise_for_status()
    stack.misbehave(prompt, hold=True)
    headers = stack.bearer("gil")
    run = _filled_in(stack, _form(stack), model, {"prompt": prompt}, user="gil")
    stack.in_state(run, "Suspended", timeout=120)
    known = stack.ledger.models.get(model)
    assert known is not None
    schema = {"type": "object", "required": ["style"], "properties": {"style": {"type": "string"}}}
    changed = {**Card.of_row(known.card).facts(), "input_schema": schema, "unit_price": Decimal("0.5")}
    assert stack.ledger.models.keep([changed]) == 1
    stack.command(DARKROOM, "model", "deny", model)
    stack.release(prompt)
    assert stack.in_state(run, "Completed", "Failed", timeout=120)["state_name"] == "Completed"
    (job,) = _jobs(stack, headers)
    (call,) = job["requests"]
    assert (job["status"], call["cost_usd"], len(job["assets"])) == ("completed", 0.05, 1)
    refused = {"model": model, "input": {"style": "ink"}}
    assert stack.gateway.post("/v1/generations", json=refused, headers=headers).status_code == 422


def _form(stack: Stack) -> str:
    return str(stack.prefect.get(FORM).raise_for_status().json()["id"])


def _filled_in(stack: Stack, form: str, model: str, input: Mapping[str, Any], *, user: str = USER) -> UUID:
    """Send what the form sends: its fields, and an input that was typed there as the text that it is."""
    typed = {"__prefect_kind": "json", "value": json.dumps(input)}
    body = {
        "state": {"type": "SCHEDULED", "state_details": {"scheduled_time": utc_now().isoformat()}},
        "parameters": {"model": model, "input": typed, "post": [], "flagged": "keep", "user": user},
    }
    answer = stack.prefect.post(f"/deployments/{form}/create_flow_run", json=body)
    assert answer.status_code == 201, answer.text
    return UUID(answer.json()["id"])


def _uploaded(stack: Stack, content: bytes, content_type: str, *, headers: Mapping[str, str]) -> str:
    answer = stack.gateway.post("/v1/uploads", content=content, headers={**headers, "Content-Type": content_type})
    assert answer.status_code in (200, 201), answer.text
    return str(answer.json()["id"])


def _jobs(stack: Stack, headers: Mapping[str, str]) -> list[dict[str, Any]]:
    listed = stack.gateway.get("/v1/jobs", params={"limit": 50}, headers=headers).raise_for_status().json()["items"]
    return [stack.gateway.get(f"/v1/jobs/{each['id']}", headers=headers).json() for each in listed]
