"""The ways in beside the HTTP API: the Prefect command line and the UI's form."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import httpx
from running import DARKROOM, PREFECT, Stack
from support import SLOW, wait_until


def test_prefect_deployment_run_makes_a_picture_tagged_with_its_user(stack: Stack, prompt: str) -> None:
    stack.bearer("bea")
    bea = stack.ledger.users.find("bea")
    answer = stack.command(
        PREFECT, "deployment", "run", "generate-image/on-demand", "-p", f"prompt={prompt}", "-p", "user=bea", "--watch"
    )
    (request,) = stack.at_provider(prompt)
    row = stack.ledger.requests.by_provider_id(request["request_id"])
    assert row is not None and row.user_id == bea.id
    run = stack.in_state(stack.flow_run_id(row.job_id), "Completed")
    assert {f"user:{bea.id}", "plan:studio"} <= set(run["tags"]), answer.stdout
    assert wait_until(lambda: stack.ledger.assets.of_job(row.job_id), timeout=5)


def test_the_form_explains_itself(stack: Stack) -> None:
    """Every field of the custom-run form has a title and a description; ranges and choices are there."""
    schema = stack.prefect.get("/deployments/name/generate-image/on-demand").json()["parameter_openapi_schema"]
    fields = schema["properties"]
    in_order = sorted(fields, key=lambda name: fields[name]["position"])
    of_the_picture = ["prompt", "model", "image_size", "seed", "num_images", "arguments"]
    assert in_order == [*of_the_picture, "lora", "lora_scale", "post", "flagged", "max_usd", "user"]
    assert all(field.get("title") and field.get("description") for field in fields.values()), fields
    assert schema["required"] == ["prompt"]
    assert (fields["num_images"]["minimum"], fields["num_images"]["maximum"]) == (1, 4)
    assert "fal-ai/flux/dev" in fields["model"]["enum"]


def test_a_run_with_bad_input_says_so_and_queues_nothing(stack: Stack, prompt: str) -> None:
    """What the model does not accept is found before anything is on record."""
    deployment = stack.prefect.get("/deployments/name/generate-image/on-demand").json()["id"]
    body = {"parameters": {"prompt": prompt, "model": "openai/gpt-image-2", "seed": 1}}
    run = stack.prefect.post(f"/deployments/{deployment}/create_flow_run", json=body).raise_for_status().json()
    failed = stack.in_state(UUID(run["id"]), "Failed")
    assert "seed" in failed["state"]["message"]
    assert stack.at_provider(prompt) == []


def test_why_and_status_tell_the_operator_of_any_job(stack: Stack, prompt: str) -> None:
    """One sentence while it waits; the same document as the API's when it has ended."""
    stack.misbehave(prompt, hold=True)
    job_id = stack.order(prompt)
    wait_until(lambda: stack.at_provider(prompt), timeout=30, every=0.1)
    waiting = stack.command(DARKROOM, "why", job_id).stdout
    assert "fal-ai/flux/dev" in waiting and waiting.count("\n") == 1, waiting
    assert stack.command(DARKROOM, "why", "job_unknown", check=False).returncode == 1
    stack.release(prompt)
    stack.ended(job_id)
    status = json.loads(stack.command(DARKROOM, "status", job_id).stdout)
    asked = stack.job(job_id)
    assert status["requests"] == asked["requests"] and status["status"] == "completed"


def test_generate_waits_for_the_picture_and_says_whether_it_came(stack: Stack, prompt: str) -> None:
    """Exit code 0 with the job's document; 1 where it failed."""
    made = stack.command(DARKROOM, "generate", prompt, "--wait", "--image-size", "512x256", "--seed", "7")
    (asset,) = json.loads(made.stdout)["assets"]
    assert (asset["width"], asset["height"]) == (512, 256)
    stack.misbehave(prompt, result="422_content_policy")
    assert stack.command(DARKROOM, "generate", prompt, "--wait", check=False).returncode == 1


def test_twelve_orders_at_once_with_one_idempotency_key_are_one_request_at_the_provider(
    stack: Stack, prompt: str
) -> None:
    """The same key with another body is refused."""
    headers = stack.bearer("ann") | {"Idempotency-Key": prompt}

    def order(_: int) -> httpx.Response:
        return httpx.post(
            f"{stack.gateway.base_url}/v1/images", json={"prompt": prompt}, headers=headers, timeout=SLOW * 20
        )

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(order, range(12)))
    assert {answer.status_code for answer in answers} == {202}
    (job_id,) = {answer.json()["job_id"] for answer in answers}
    assert stack.ended(job_id)["status"] == "completed"
    assert len(stack.at_provider(prompt)) == 1
    other = stack.gateway.post("/v1/images", json={"prompt": f"{prompt}, in winter"}, headers=headers)
    assert (other.status_code, other.json()["field"]) == (422, "Idempotency-Key")
