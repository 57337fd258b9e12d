"""One run carries many jobs: each ends, each is shown once, and a run that dies on the way costs nothing twice."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from running import Stack
from support import wait_until

from darkroom.ledger import RequestStatus

MANY = 40
AT_ONCE = 8  # the plan's
MOST_REPORTS = 16  # by the handful of fifty, and after three seconds what there is


def _burst(stack: Stack, prompt: str, n: int, *, user: str) -> list[str]:
    return [stack.order(f"{prompt} {row}", user=user) for row in range(n)]


def _run_of_all(stack: Stack, jobs: list[str]) -> UUID:
    """The one run that carries them, completed."""
    (flow_run_id,) = {stack.flow_run_id(job_id) for job_id in jobs}
    stack.in_state(flow_run_id, "Completed")
    return flow_run_id


def _artifacts(stack: Stack, flow_run_id: UUID) -> list[dict[str, Any]]:
    wanted = {"artifacts": {"flow_run_id": {"any_": [str(flow_run_id)]}}, "limit": 200}
    return list(stack.prefect.post("/artifacts/filter", json=wanted).raise_for_status().json())


def _task_runs(stack: Stack, flow_run_id: UUID) -> list[dict[str, Any]]:
    wanted = {"flow_runs": {"id": {"any_": [str(flow_run_id)]}}, "limit": 200}
    return list(stack.prefect.post("/task_runs/filter", json=wanted).raise_for_status().json())


def test_a_burst_is_carried_by_one_run_and_shown_by_the_handful(stack: Stack, prompt: str) -> None:
    """A task run and a table for about ten jobs. Each job is in one table, or was alone and has its picture."""
    jobs = _burst(stack, prompt, MANY, user="carried")
    assert {stack.ended(job_id, user="carried")["status"] for job_id in jobs} == {"completed"}
    flow_run_id = _run_of_all(stack, jobs)

    artifacts = _artifacts(stack, flow_run_id)
    tables = [json.loads(each["data"]) for each in artifacts if each["type"] == "table"]
    lines = [line for table in tables for line in table]
    pictures = [each for each in artifacts if each["type"] == "image"]
    shown = [line["Job"] for line in lines]
    assert len(shown) == len(set(shown)) == MANY - len(pictures)
    assert set(shown) <= set(jobs)
    assert len(pictures) <= 1, "of the first job, if it had ended before the second came"
    assert {line["Ended"] for line in lines} == {"completed"}
    assert prompt not in json.dumps(lines)

    reports = [run for run in _task_runs(stack, flow_run_id) if run["name"].endswith(("jobs", "job"))]
    assert {run["state_name"] for run in reports} == {"Completed"}
    assert len(reports) == len(tables) <= MOST_REPORTS
    assert sum(int(run["state"]["message"].split()[0]) for run in reports) == len(lines)
    link = lines[0]["Picture"].removeprefix("[open](").removesuffix(")")
    assert stack.gateway.get(link).status_code == 200, "it opens without a bearer"


def test_a_process_killed_while_it_carries_many_loses_none_and_pays_none_twice(stack: Stack, prompt: str) -> None:
    """Some in flight, some in the queue; the run is put back and goes on with both."""
    stack.misbehave(prompt, hold=True, times=AT_ONCE)
    jobs = _burst(stack, prompt, 2 * AT_ONCE, user="killed")
    in_flight = lambda: [row.status for job in jobs for row in stack.rows(job)].count(RequestStatus.IN_FLIGHT)  # noqa: E731
    wait_until(lambda: in_flight() == AT_ONCE, timeout=60, every=0.05, what="the submits")
    # One, unless it outlasted its patience while the burst was still being ordered.
    for flow_run_id in {stack.flow_run_id(job_id) for job_id in jobs[:AT_ONCE]}:
        stack.kill_run(flow_run_id)
    stack.release(prompt)
    assert {stack.ended(job_id, user="killed", timeout=150)["status"] for job_id in jobs} == {"completed"}
    assert len(stack.at_provider(prompt)) == len(jobs)
