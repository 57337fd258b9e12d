"""A failed job goes on where it failed, whoever asks for it and however; what was paid is not paid again."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from running import DARKROOM, PREFECT, Stack

ONCE = {"result": "422_content_policy", "times": 1}


def _attempts(job: dict[str, Any]) -> list[tuple[int, str]]:
    return [(row["attempt"], row["status"]) for row in job["requests"]]


def _failed(stack: Stack, prompt: str, *, user: str) -> tuple[str, UUID]:
    """Alone in its run, which fails with it."""
    stack.misbehave(prompt, **ONCE)
    job_id = stack.order(prompt, user=user)
    flow_run_id = stack.flow_run_id(job_id)
    assert stack.ended(job_id, user=user)["status"] == "failed"
    stack.in_state(flow_run_id, "Failed")
    return job_id, flow_run_id


def _start(stack: Stack, deployment: str, **parameters: Any) -> UUID:
    found = stack.prefect.get(f"/deployments/name/{deployment}").raise_for_status().json()["id"]
    made = stack.prefect.post(f"/deployments/{found}/create_flow_run", json={"parameters": parameters})
    return UUID(made.raise_for_status().json()["id"])


def test_a_replayed_job_tries_the_failed_step_again(stack: Stack, prompt: str) -> None:
    """Over HTTP; both attempts are on record, and in a run of its own it goes to its end."""
    job_id, failed_run = _failed(stack, prompt, user="replays")

    answer = stack.gateway.post(f"/v1/jobs/{job_id}/replay", headers=stack.bearer("replays"))

    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    job = stack.ended(job_id, user="replays")
    assert (job["status"], _attempts(job)) == ("completed", [(1, "failed"), (2, "succeeded")])
    assert stack.flow_run_id(job_id) != failed_run
    assert len(stack.at_provider(prompt)) == 2


def test_a_picture_that_could_not_be_stored_is_stored_by_a_replay(stack: Stack, prompt: str) -> None:
    """By the operator's command. It waits for no slot, and nothing is asked of the provider."""
    stack.bearer("unstored")
    folder = stack.home / "media" / "images" / stack.ledger.users.find("unstored").id
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("in the way")
    job_id = stack.order(prompt, user="unstored")
    assert stack.ended(job_id, user="unstored")["status"] == "failed"
    folder.unlink()

    replayed = stack.command(DARKROOM, "replay", job_id, "job_nonesuch", check=False)

    assert (replayed.returncode, "job_nonesuch" in replayed.stderr) == (1, True)
    assert replayed.stdout.startswith(f"{job_id}\t")
    job = stack.ended(job_id, user="unstored")
    assert (job["status"], _attempts(job), len(job["assets"])) == ("completed", [(1, "succeeded")], 1)
    assert Path(stack.home / "media" / job["assets"][0]["key"]).is_file()
    assert len(stack.at_provider(prompt)) == 1


def test_a_run_that_is_retried_in_the_ui_replays_what_failed(stack: Stack, prompt: str) -> None:
    """As the button does it. The job stays in that run, which completes."""
    job_id, flow_run_id = _failed(stack, prompt, user="retries")

    retry = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}, "force": False}
    answer = stack.prefect.post(f"/flow_runs/{flow_run_id}/set_state", json=retry).json()

    assert answer["status"] == "ACCEPT"
    stack.in_state(flow_run_id, "Completed")
    job = stack.job(job_id, user="retries")
    assert (job["status"], _attempts(job)) == ("completed", [(1, "failed"), (2, "succeeded")])
    assert stack.flow_run_id(job_id) == flow_run_id


def test_a_run_of_ones_own_that_is_retried_pays_only_for_what_failed(stack: Stack, prompt: str) -> None:
    """By `prefect flow-run retry`; and once more, when there is nothing left to do."""
    stack.misbehave(prompt, **ONCE)
    flow_run_id = _start(stack, "generate-image/on-demand", prompt=prompt)
    stack.in_state(flow_run_id, "Failed")
    for completed in (1, 2):
        stack.command(PREFECT, "flow-run", "retry", str(flow_run_id))
        stack.in_state(flow_run_id, "Completed")
        assert stack.history(flow_run_id).count("Completed") == completed
        assert len(stack.at_provider(prompt)) == 2
    (request, _) = stack.at_provider(prompt)
    row = stack.ledger.requests.by_provider_id(request["request_id"])
    assert row is not None and row.user_id == "operator"  # where nobody is named


def test_operators_replay_jobs_from_the_ui(stack: Stack, prompt: str) -> None:
    """The flow says of each what became of it; one that cannot be replayed keeps no other from it."""
    job_id, _ = _failed(stack, prompt, user="operated")
    flow_run_id = _start(stack, "replay/on-demand", jobs=[job_id, "job_nonesuch"])
    run = stack.in_state(flow_run_id, "Completed", "Failed")
    assert run["state"]["message"] == "1 of 2 put back"
    assert stack.ended(job_id, user="operated")["status"] == "completed"
