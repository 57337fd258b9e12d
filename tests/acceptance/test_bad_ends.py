"""A run that ends badly is looked at at once, not with the next turn: its end itself starts reconcile.

The cron is switched off meanwhile, so that it cannot be what helped.
"""

from __future__ import annotations

import time

from running import Stack
from support import wait_until

BURST = 8


def turns(stack: Stack, deployment: str) -> int:
    wanted = {"deployments": {"id": {"any_": [deployment]}}}
    return int(stack.prefect.post("/flow_runs/count", json=wanted).json())


def test_runs_cancelled_in_the_ui_are_cancelled_at_the_provider_without_waiting_for_a_turn(
    stack: Stack, prompt: str, no_cron: str
) -> None:
    """Suspended ones, of which no process is left that could do it. Many at once are a few turns, not many."""
    stack.misbehave(prompt, hold=True)
    jobs = {f"cancelling {n}": stack.order(prompt, user=f"cancelling {n}") for n in range(BURST)}
    flow_runs = [stack.flow_run_id(job) for job in jobs.values()]
    for flow_run in flow_runs:
        stack.in_state(flow_run, "Suspended")
    before, begun = turns(stack, no_cron), time.monotonic()
    for flow_run in flow_runs:
        state = {"type": "CANCELLING", "name": "Cancelling"}
        stack.prefect.post(f"/flow_runs/{flow_run}/set_state", json={"state": state}).raise_for_status()
    wait_until(lambda: all(each["cancel_requested"] for each in stack.at_provider(prompt)), timeout=60, every=0.1)
    seconds = time.monotonic() - begun
    print(f"{BURST} cancels in the UI to the provider: {seconds:.1f} s")
    assert turns(stack, no_cron) - before <= 2 * (1 + seconds // stack.timing.bad_end_window.total_seconds())
    stack.release(prompt)
    for user, job in jobs.items():
        assert stack.ended(job, user=user)["status"] == "cancelled"


def test_a_flow_process_killed_is_put_back_without_waiting_for_a_turn(stack: Stack, prompt: str, no_cron: str) -> None:
    """Its worker says that it crashed, and that is heard."""
    stack.misbehave(prompt, hold=True)
    job = stack.order(prompt)
    wait_until(lambda: stack.carried(job), timeout=30, every=0.02)
    flow_run = stack.flow_run_id(job)
    (process,) = stack.flow_processes(flow_run)
    process.kill()
    begun = time.monotonic()
    wait_until(lambda: "Recovering" in stack.history(flow_run), timeout=60, every=0.1)
    print(f"SIGKILL to Recovering: {time.monotonic() - begun:.1f} s")
    stack.release(prompt)
    assert stack.ended(job)["status"] == "completed"
    assert len(stack.at_provider(prompt)) == 1
