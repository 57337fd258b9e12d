"""A user's work queue: as many runs at once as the plan allows, whatever they come from and whenever that changes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from itertools import accumulate, pairwise
from typing import Any
from uuid import UUID

from running import Stack
from support import wait_until

DEPLOYMENT = "/deployments/name/generate-image/on-demand"
AT_WORK = ("RUNNING", "PENDING")
OWN_RUNS = 4
ORDERS = 2
PLAN = 3


def most_at_work(stack: Stack, flow_runs: Iterable[UUID]) -> int:
    """How many of them were at work at one moment at most, by the history of their states."""
    begins_and_ends: list[tuple[datetime, int]] = []
    for flow_run in flow_runs:
        states = stack.prefect.get("/flow_run_states/", params={"flow_run_id": str(flow_run)}).raise_for_status().json()
        for before, state in pairwise(sorted(states, key=lambda state: state["timestamp"])):
            change = (state["type"] in AT_WORK) - (before["type"] in AT_WORK)
            begins_and_ends.append((datetime.fromisoformat(state["timestamp"]), change))
    return max(accumulate(change for _, change in sorted(begins_and_ends)))


def start_in_queue(stack: Stack, queue: str, **parameters: Any) -> UUID:
    """As somebody does in the UI who picks the user's queue."""
    deployment = stack.prefect.get(DEPLOYMENT).json()["id"]
    body = {"parameters": parameters, "work_queue_name": queue, "state": {"type": "SCHEDULED"}}
    answer = stack.prefect.post(f"/deployments/{deployment}/create_flow_run", json=body)
    return UUID(answer.raise_for_status().json()["id"])


def test_never_more_runs_of_a_user_than_the_plan_allows(stack: Stack, prompt: str) -> None:
    """Runs of their own and a shared one, which suspend and come back in between."""
    stack.keys["many"] = stack.ledger.users.add("many", plan="pro").key
    user = stack.ledger.users.find("many").id
    stack.misbehave(prompt, latency=2.5)
    orders = [stack.order(prompt, user="many") for _ in range(ORDERS)]
    stack.flow_run_id(orders[0])  # with it, the queue is there
    own = [start_in_queue(stack, f"user-{user}", prompt=prompt, user="many") for _ in range(OWN_RUNS)]
    for order in orders:
        assert stack.ended(order, user="many", timeout=100)["status"] == "completed"
    for flow_run in own:
        assert {f"user:{user}", "plan:pro"} <= set(stack.in_state(flow_run, "Completed", timeout=100)["tags"])
    carried = {stack.flow_run_id(order) for order in orders}
    for flow_run in carried:
        stack.in_state(flow_run, "Completed")
    assert most_at_work(stack, [*own, *carried]) == PLAN
    assert len(stack.at_provider(prompt)) == ORDERS + OWN_RUNS


def test_a_changed_plan_and_a_deleted_queue_are_seen_to_by_reconcile(stack: Stack, prompt: str) -> None:
    """Though no further run of the user begins; the run whose queue was deleted hands its job to one that has one."""
    stack.ledger.users.set_plan("changing", in_flight=2, weight=Decimal(1))
    stack.keys["changed"] = stack.ledger.users.add("changed", plan="changing").key
    stack.misbehave(prompt, hold=True)
    job = stack.order(prompt, user="changed")
    before = stack.flow_run_id(job)
    queue = f"/work_pools/darkroom/queues/{stack.in_state(before, 'Suspended')['work_queue_name']}"
    assert stack.prefect.get(queue).json()["concurrency_limit"] == 2
    stack.ledger.users.set_plan("changing", in_flight=4, weight=Decimal(1))
    stack.reconcile()
    assert stack.prefect.get(queue).json()["concurrency_limit"] == 4
    stack.prefect.delete(queue).raise_for_status()
    stack.reconcile()
    assert stack.prefect.get(queue).json()["concurrency_limit"] == 4
    stack.release(prompt)
    stack.in_state(before, "Resuming")
    wait_until(lambda: stack.flow_run_id(job) != before or stack.reconcile(), timeout=60, every=1)
    assert stack.ended(job, user="changed")["status"] == "completed"
    stack.in_state(before, "Cancelled")
    assert len(stack.at_provider(prompt)) == 1
