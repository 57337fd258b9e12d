"""A stack whose worker was away for several slots of cron: what runs then is what is declared beside the schedule.

The deployments are those of `slot_flows.py`, one for each declaration, and Darkroom's own two.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psutil
import pytest
from running import Stack, leaves_nothing
from support import wait_until

from darkroom.clock import utc_now
from darkroom.orchestrator import Orchestrator
from darkroom.orchestrator.api import PrefectApi

HOURS = 3  # slots that were missed, the last ten minutes ago
REPORT, RECONCILE = "daily-report/weekdays", "reconcile/every-minute"
# What each of the slots came to, the oldest first; None: either.
ENDS: dict[str, list[str | None]] = {
    "slot/all": ["Completed", "Completed", "Completed"],
    "slot/once": ["Skipped", "Skipped", "Completed"],
    "slot/skip": ["Skipped", "Skipped", "Skipped"],
    "slot/skip-later": ["Skipped", "Skipped", "Completed"],
    "slot/as-prefect-does": ["Completed", "Completed", "Completed"],
    REPORT: ["Completed", "Completed", "Completed"],
    RECONCILE: ["Skipped", "Skipped", None],  # by now a later minute may have its run
}


Late = tuple[Stack, dict[str, list[dict[str, Any]]]]


@contextmanager
def worker_away(stack: Stack) -> Iterator[None]:
    """It is there again at the end, and finds what has become late meanwhile."""
    worker = stack.pid("worker")
    os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


@pytest.fixture(scope="module")
def late(running: Stack) -> Iterator[Late]:
    """The stack, and of each deployment the runs of the slots that were missed, as they ended, the oldest first."""
    auth = running.environment["PREFECT_API_AUTH_STRING"]
    with closing(PrefectApi(str(running.prefect.base_url), auth=auth)) as api:
        with worker_away(running):
            made = {name: missed(running, Orchestrator(api), name) for name in ENDS}
        yield running, {name: [ended(running, run) for run in ids] for name, ids in made.items()}
        leaves_nothing(running)


def missed(stack: Stack, orchestrator: Orchestrator, name: str) -> list[UUID]:
    """The last slots of the deployment have runs, as the scheduler makes them."""
    id, now = orchestrator.deployment_id(name), utc_now()
    (schedule,) = orchestrator.timetables.of(id).schedules
    slots = schedule.newest(after=now - timedelta(days=9), until=began(stack), most=HOURS)
    for slot in slots:
        orchestrator.timetables.make(id, slot)
    found = [run for run in runs(stack, id) if run["auto_scheduled"] and slot_of(run) in slots]
    return [UUID(run["id"]) for run in sorted(found, key=slot_of)]


def began(stack: Stack) -> datetime:
    """When the stack was started: it has made no run of a slot before that, so those can be missed."""
    return datetime.fromtimestamp(psutil.Process(stack.process.pid).create_time(), UTC)


def runs(stack: Stack, deployment_id: UUID) -> list[dict[str, Any]]:
    body = {"flow_runs": {"deployment_id": {"any_": [str(deployment_id)]}}}
    return list(stack.prefect.post("/flow_runs/filter", json=body).raise_for_status().json())


def slot_of(run: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(run["expected_start_time"])


def ended(stack: Stack, flow_run_id: UUID) -> dict[str, Any]:
    return stack.in_state(flow_run_id, "Completed", "Skipped", "Failed", "Crashed")


@pytest.mark.parametrize("name", ENDS)
def test_slots_that_were_missed_are_made_up_for_as_declared(late: Late, name: str) -> None:
    """Each run decides for itself, and who is skipped says why in its state."""
    ends = [run["state"] for run in late[1][name]]
    assert all(end["name"] == wanted for end, wanted in zip(ends, ENDS[name], strict=True) if wanted is not None)
    for end in ends:
        assert end["type"] == "COMPLETED"
        assert ("was missed" in (end["message"] or "")) is (end["name"] == "Skipped")


def test_reports_that_come_late_are_of_their_own_days(late: Late) -> None:
    """Three slots, three reports, and none of the day on which the worker was back."""
    reports = late[1][REPORT]
    days = [run["state"]["message"] for run in reports]
    assert len(set(days)) == HOURS
    for run, day in zip(reports, days, strict=True):
        assert f"{slot_of(run).date() - timedelta(days=1)}" in day


def test_a_run_that_a_person_starts_is_never_skipped(late: Late) -> None:
    """Nor is one that was skipped and that a person retries."""
    stack, ends = late
    run = ends["slot/skip"][0]
    assert run["state_name"] == "Skipped"
    skipped, id = UUID(run["id"]), run["deployment_id"]
    own = stack.prefect.post(f"/deployments/{id}/create_flow_run", json={}).raise_for_status().json()
    again = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}
    stack.prefect.post(f"/flow_runs/{skipped}/set_state", json=again).raise_for_status()
    for run in (UUID(own["id"]), skipped):
        wait_until(lambda run=run: stack.flow_run(run)["state"]["message"] == "It ran.", timeout=30, every=0.2)
