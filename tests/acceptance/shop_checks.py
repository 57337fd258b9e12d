"""What holds for a project of one's own: put into its tests by `test_projects.py`, and run on its stack.

Not run in this repository: it knows nothing but what is installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

import darkroom
from darkroom.testing import Stack

DEPLOYMENT = "/deployments/name/make-postcard/on-demand"


def until(look: Callable[[], Any], seconds: float = 300) -> Any:
    limit = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < limit, f"waited {seconds} s in vain"
        time.sleep(0.1)
    return found


def prefect(stack: Stack) -> httpx.Client:
    user, _, password = stack.environment["PREFECT_API_AUTH_STRING"].partition(":")
    return httpx.Client(base_url=stack.environment["PREFECT_API_URL"], auth=(user, password), timeout=60)


def test_nothing_of_the_repository_is_on_the_path() -> None:
    assert "site-packages" in str(Path(str(darkroom.__file__)))


def test_the_form_is_the_orders(stack: Stack) -> None:
    with prefect(stack) as api:
        form = api.get(DEPLOYMENT).raise_for_status().json()["parameter_openapi_schema"]
    titles = {name: each["title"] for name, each in form["properties"].items()}
    assert titles == {"prompt": "Prompt", "model": "Model", "user": "User"}
    assert form["required"] == ["prompt"]


def test_a_run_from_the_form_makes_one(stack: Stack) -> None:
    prompt = "a fox from the form"
    with prefect(stack) as api:
        deployment = api.get(DEPLOYMENT).raise_for_status().json()["id"]
        body = {"parameters": {"prompt": prompt}, "state": {"type": "SCHEDULED"}}
        made = api.post(f"/deployments/{deployment}/create_flow_run", json=body).raise_for_status().json()["id"]
        until(lambda: api.get(f"/flow_runs/{made}").json()["state_type"] == "COMPLETED")
    assert len(stack.at_provider(prompt)) == 1


def test_an_event_starts_one(stack: Stack) -> None:
    sent = stack.send("postcard.wanted", prompt="a fox by an event")
    (effect,) = until(lambda: stack.call("GET", f"/v1/events/{sent['id']}")["effects"])
    assert effect["deployment"] == "make-postcard/on-demand"
    assert stack.ended(effect["job_id"])["status"] == "completed"


def test_a_failed_one_is_tried_without_being_sent(stack: Stack) -> None:
    prompt = "a fox that is refused"
    stack.misbehave(prompt, result="422_content_policy")
    job = stack.ended(stack.order("make-postcard", prompt=prompt))
    assert job["status"] == "failed"
    command = [str(Path(sys.executable).with_name("darkroom")), "replay", "--dry-run", "--json", job["id"]]
    said = subprocess.run(command, env=dict(stack.environment), capture_output=True, text=True, check=True)
    verdict = json.loads(said.stdout.splitlines()[0])
    assert (verdict["job_id"], verdict["today"]["verdict"]) == (job["id"], "fails the same"), said.stdout
    assert len(stack.at_provider(prompt)) == 1


def test_a_field_that_is_wrong_is_named(stack: Stack) -> None:
    key = {"Authorization": f"Bearer {stack.key()}"}
    answer = stack.gateway.post("/v1/orders/make-postcard", json={"prompt": ""}, headers=key)
    assert (answer.status_code, answer.json()["field"]) == (422, "prompt")
    assert stack.gateway.post("/v1/orders/make-poster", json={}, headers=key).status_code == 404
