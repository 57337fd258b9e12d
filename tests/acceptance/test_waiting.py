"""A run that waits costs nothing, and comes back."""

from __future__ import annotations

import sys
from pathlib import Path
from uuid import UUID

from running import Stack
from support import wait_until

ROOT = Path(__file__).parents[2]
AUTOMATION_FAILED = ["prefect.automation.action.failed"]


def _feed(stack: Stack, names: list[str], flow_run_id: UUID) -> list[dict[str, object]]:
    about = {"id": [f"prefect.flow-run.{flow_run_id}"]}
    return stack.events(event={"name": names}, any_resource=about)


def test_a_job_that_outlasts_the_patience_is_suspended_and_resumed(stack: Stack, prompt: str) -> None:
    """Suspended, no process of it exists; the event is in Prefect's feed, no failed action; it is submitted once."""
    stack.misbehave(prompt, hold=True)
    job_id = stack.order(prompt)
    flow_run_id = stack.flow_run_id(job_id)
    stack.in_state(flow_run_id, "Suspended")
    wait_until(lambda: not stack.flow_processes(flow_run_id), timeout=20, every=0.2, what="its process to be gone")

    stack.release(prompt)
    assert stack.ended(job_id)["status"] == "completed"
    stack.in_state(flow_run_id, "Completed")
    assert "Resuming" in stack.history(flow_run_id)
    assert len(stack.at_provider(prompt)) == 1
    wait_until(lambda: _feed(stack, ["fal.job.completed"], flow_run_id), timeout=20, every=0.5, what="the event")
    assert not _feed(stack, AUTOMATION_FAILED, flow_run_id)


def test_a_script_pauses_and_is_resumed(stack: Stack, prompt: str) -> None:
    """`python flows/generate_image.py "a fox"` has no deployment: it pauses in its process."""
    stack.misbehave(prompt, latency=5)
    script = stack.command(sys.executable, str(ROOT / "flows" / "generate_image.py"), prompt, DARKROOM_PATIENCE="0")
    assert "Pausing flow" in script.stdout + script.stderr
    (request,) = stack.at_provider(prompt)
    row = stack.ledger.requests.by_provider_id(request["request_id"])
    assert row is not None and row.delivered_via == "webhook"
    flow_run_id = stack.flow_run_id(row.job_id)
    assert stack.history(flow_run_id)[-1] == "Completed"
    assert "Paused" in stack.history(flow_run_id)
    wait_until(lambda: _feed(stack, ["fal.job.completed"], flow_run_id), timeout=20, every=0.5, what="the event")
    assert not _feed(stack, AUTOMATION_FAILED, flow_run_id)
