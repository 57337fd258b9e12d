"""A user's work queue: as many runs at once as the plan allows, whatever they come from and whenever that changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import httpx
from running import DARKROOM, Stack
from support import wait_until

DEPLOYMENT = "/deployments/name/generate-image/on-demand"
AT_WORK = ("RUNNING", "PENDING")
OWN_RUNS = 6
ORDERS = 3
PLAN = 3


@contextmanager
def watching(stack: Stack, queue: str) -> Iterator[list[int]]:
    """How many runs of the queue were at work, by Prefect's own account, look after look."""
    wanted = {"work_pool_queues": {"name": {"any_": [queue]}}, "flow_runs": {"state": {"type": {"any_": AT_WORK}}}}
    seen: list[int] = []
    done = threading.Event()

    def watch(prefect: httpx.Client) -> None:
        while not done.wait(0.03):
            seen.append(prefect.post("/flow_runs/count", json=wanted).raise_for_status().json())

    with httpx.Client(base_url=stack.prefect.base_url, auth=stack.prefect.auth) as prefect:
        thread = threading.Thread(target=watch, args=(prefect,))
        thread.start()
        try:
            yield seen
        finally:
            done.set()
            thread.join()


def start_in_queue(stack: Stack, queue: str, **parameters: Any) -> UUID:
    """As somebody does in the UI who picks the user's queue."""
    deployment = stack.prefect.get(DEPLOYMENT).json()["id"]
    body = {"parameters": parameters, "work_queue_name": queue, "state": {"type": "SCHEDULED"}}
    answer = stack.prefect.post(f"/deployments/{deployment}/create_flow_run", json=body)
    return UUID(answer.raise_for_status().json()["id"])


def test_never_more_runs_of_a_user_than_the_plan_allows(stack: Stack, prompt: str) -> None:
    """Runs of their own and a shared one, which suspend and come back in between; sampled the whole time."""
    stack.keys["many"] = stack.ledger.users.add("many", plan="pro").key
    user = stack.ledger.users.find("many").id
    stack.misbehave(prompt, latency=2.5)
    orders = [stack.order(prompt, user="many") for _ in range(ORDERS)]
    stack.flow_run_id(orders[0])  # with it, the queue is there
    queue = f"user-{user}"
    with watching(stack, queue) as seen:
        own = [start_in_queue(stack, queue, prompt=prompt, user="many") for _ in range(OWN_RUNS)]
        for order in orders:
            assert stack.ended(order, user="many", timeout=100)["status"] == "completed"
        for flow_run in own:
            assert {f"user:{user}", "plan:pro"} <= set(stack.in_state(flow_run, "Completed", timeout=100)["tags"])
    assert max(seen) == PLAN, seen
    assert len(stack.at_provider(prompt)) == ORDERS + OWN_RUNS


def test_a_changed_plan_and_a_deleted_queue_are_seen_to_by_reconcile(stack: Stack, prompt: str) -> None:
    """Though no further run of the user begins; the run whose queue was deleted hands its job to one that has one."""
    stack.command(DARKROOM, "plan", "set", "changing", "--in-flight", "2", "--weight", "1")
    stack.keys["changed"] = stack.ledger.users.add("changed", plan="changing").key
    stack.misbehave(prompt, hold=True)
    job = stack.order(prompt, user="changed")
    before = stack.flow_run_id(job)
    queue = f"/work_pools/darkroom/queues/{stack.in_state(before, 'Suspended')['work_queue_name']}"
    assert stack.prefect.get(queue).json()["concurrency_limit"] == 2
    stack.command(DARKROOM, "plan", "set", "changing", "--in-flight", "4", "--weight", "1")
    stack.reconcile()
    assert stack.prefect.get(queue).json()["concurrency_limit"] == 4
    stack.prefect.delete(queue).raise_for_status()
    stack.reconcile()
    assert stack.prefect.get(queue).json()["concurrency_limit"] == 4
    stack.release(prompt)
    stack.in_state(before, "Resuming")
    wait_until(lambda: stack.flow_run_id(job) != before or stack.reconcile(), timeout=60, every=0.2)
    assert stack.ended(job, user="changed")["status"] == "completed"
    stack.in_state(before, "Cancelled")
    assert len(stack.at_provider(prompt)) == 1
