"""A worker killed at every point of a run's life, and a run cancelled in Prefect's UI in each of its states.

All of them at once, each with a user and so a run of its own: the worker is killed once, with everything below it,
while the pool is paused, so that the states it leaves behind can be looked at before the next worker takes anything up.
The states that last only milliseconds are put as a worker that died in them leaves them. Reconcile is started by the
test instead of every minute; the limits after which a run counts as lost are waited for: 45 s running, 60 s pending.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from running import Stack, leaves_nothing
from support import SLOW, wait_until

from darkroom.ledger import JobStatus, RequestStatus

ROOT = Path(__file__).parents[2]
KILLED = (
    "before the fork",
    "before the first line",
    "before the submit",
    "during the submit",
    "during the submit, its webhook lost",
    "in flight",
    "suspended",
    "resuming",
    "failed",
    "deleted",
    "its queue deleted",
)
RECOVERED = (*KILLED[:6], "failed")  # the others need nothing but a worker, or have a flow run of another id now
AT_ITS_END = "at its end"
CANCELLED = (
    "scheduled",
    "pending",
    "running",
    "running, its worker killed",
    "suspended in vain",
    "resuming in vain",
    "recovering",
)


@dataclass(frozen=True)
class Scene:
    stack: Stack
    jobs: dict[str, str] = field(default_factory=dict)

    def prompt(self, case: str) -> str:
        return f"a fox killed: {case}."

    def order(self, case: str, **faults: Any) -> None:
        if faults:
            self.stack.misbehave(self.prompt(case), **faults)
        self.jobs[case] = self.stack.order(self.prompt(case), user=f"user of {case}")

    def row(self, case: str) -> Any:
        return self.stack.rows(self.jobs[case])[-1]

    def is_row(self, case: str, status: RequestStatus) -> Callable[[], bool]:
        return lambda: self.row(case).status is status

    def flow_run(self, case: str) -> Any:
        return self.stack.flow_run_id(self.jobs[case])

    def run_id(self, case: str) -> str:
        job = self.stack.ledger.jobs.get(self.jobs[case])
        assert job is not None and job.run_id is not None
        return job.run_id

    def state(self, case: str) -> str:
        return str(self.stack.flow_run(self.flow_run(case))["state_type"])

    def put(self, case: str, *states: str) -> None:
        """Through Prefect's rules, as a worker and an engine do."""
        for state in states:
            body = {"state": {"type": state, "name": state.capitalize()}}
            self.stack.prefect.post(f"/flow_runs/{self.flow_run(case)}/set_state", json=body).raise_for_status()

    def cancel(self, case: str) -> None:
        """As the UI does it."""
        self.put(case, "CANCELLING")

    def release(self, case: str) -> None:
        self.stack.release(self.prompt(case))

    def at_provider(self, case: str) -> list[dict[str, Any]]:
        return self.stack.at_provider(self.prompt(case))


def pause_pool(stack: Stack, *, paused: bool) -> None:
    stack.prefect.patch("/work_pools/darkroom", json={"is_paused": paused}).raise_for_status()


def kill_worker(stack: Stack) -> None:
    worker = psutil.Process(int((stack.home / "run" / "worker.pid").read_text()))
    below = worker.children(recursive=True)
    os.kill(worker.pid, signal.SIGKILL)
    assert not psutil.wait_procs(below, timeout=SLOW * 10)[1], "what a worker has started dies with it"


@pytest.fixture(scope="module")
def scene(running: Stack) -> Iterator[Scene]:
    running.ledger.users.set_account("fal", slots=40)
    scene = Scene(stack=running)
    for case in (*KILLED, *CANCELLED, AT_ITS_END):
        running.keys[f"user of {case}"] = running.ledger.users.add(f"user of {case}", plan="studio").key
    with running.runs_that_submit():
        with running.without_cron():
            running.between_turns()
            before_the_kill(scene)
            pause_pool(running, paused=True)
            try:
                kill_worker(running)
                without_a_worker(scene)
            finally:
                pause_pool(running, paused=False)
        bring_home(scene)
    yield scene
    leaves_nothing(running)
    running.ledger.users.set_account("fal", slots=10)


def before_the_kill(scene: Scene) -> None:
    waiting = ("suspended", "resuming", "suspended in vain", "resuming in vain")
    for case in (*waiting, "running"):
        scene.order(case, hold=True)
    wait_until(scene.is_row("running", RequestStatus.IN_FLIGHT), timeout=30, every=0.05)
    scene.cancel("running")
    for case in waiting:
        scene.stack.in_state(scene.flow_run(case), "Suspended")
    scene.order("during the submit", submit_delay=20, latency=8)
    scene.order("during the submit, its webhook lost", submit_delay=20, webhook="lost")
    scene.order("in flight", hold=True)
    scene.order("running, its worker killed", hold=True)
    for case in ("during the submit", "during the submit, its webhook lost"):
        wait_until(scene.is_row(case, RequestStatus.SUBMITTING), timeout=30, every=0.05, what=case)
    carried = ("in flight", "running, its worker killed")
    for case in carried:
        wait_until(scene.is_row(case, RequestStatus.IN_FLIGHT), timeout=30, every=0.05, what=case)
    for case in carried:
        wait_until(lambda case=case: is_held_still(scene, case), timeout=60, every=0.1, what=f"{case}: its process")


def is_held_still(scene: Scene, case: str) -> bool:
    """Its process is stopped while it has the run, which so cannot outlast its patience before the worker is killed.

    A run that has suspended meanwhile is resumed, as a person may do.
    """
    if scene.stack.flow_run(scene.flow_run(case))["state_name"] == "Suspended":
        scene.stack.prefect.post(f"/flow_runs/{scene.flow_run(case)}/resume", json={}).raise_for_status()
    processes = scene.stack.flow_processes(scene.flow_run(case))
    for process in processes:
        process.suspend()
    if processes and scene.state(case) == "RUNNING":
        return True
    for process in processes:
        process.resume()
    return False


def without_a_worker(scene: Scene) -> None:
    """What is cancelled is cancelled before reconcile looks; what is to come home, is left as it is."""
    stack = scene.stack
    scene.cancel("running, its worker killed")
    assert scene.state("running, its worker killed") == "CANCELLING"
    scene.cancel("suspended in vain")
    for case in ("resuming", "resuming in vain"):
        scene.release(case)
        stack.in_state(scene.flow_run(case), "Resuming")
    scene.cancel("resuming in vain")
    for case, states in {
        "before the fork": ["PENDING"],
        "before the first line": ["PENDING", "RUNNING"],
        "before the submit": ["PENDING", "RUNNING"],
        "failed": ["PENDING", "RUNNING", "FAILED"],
        "deleted": [],
        "its queue deleted": [],
        "scheduled": ["CANCELLING"],
        "pending": ["PENDING", "CANCELLING"],
        "recovering": ["PENDING", "RUNNING", "CRASHED"],
        AT_ITS_END: ["PENDING", "RUNNING"],
    }.items():
        scene.order(case)
        scene.put(case, *states)
    stack.ledger.runs.enter(scene.flow_run("before the submit"), run_key=None)
    stack.ledger.jobs.finish(scene.jobs[AT_ITS_END], JobStatus.CANCELLED)
    assert stack.ledger.runs.close(scene.run_id(AT_ITS_END))
    stack.prefect.delete(f"/flow_runs/{scene.flow_run('deleted')}").raise_for_status()
    queue = stack.flow_run(scene.flow_run("its queue deleted"))["work_queue_name"]
    stack.prefect.delete(f"/work_pools/darkroom/queues/{queue}").raise_for_status()
    stack.command(sys.executable, str(ROOT / "flows" / "reconcile.py"))  # one turn, without a worker
    assert stack.flow_run(scene.flow_run("recovering"))["state_name"] == "Recovering"
    scene.cancel("recovering")


def bring_home(scene: Scene) -> None:
    for case in ("suspended", "in flight"):
        scene.release(case)

    out = set(scene.jobs)

    def all_home() -> bool:
        out.difference_update([case for case in out if is_home(scene, case)])
        for case in out.intersection(CANCELLED):
            if any(request["cancel_requested"] for request in scene.at_provider(case)):
                scene.release(case)  # what runs, runs on, and is billed; its slot is free when it is done
        return not out

    wait_until(all_home, timeout=150, every=0.5, what="the end of every job")


def is_home(scene: Scene, case: str) -> bool:
    """By the ledger, so that the gateway is not busy with answers."""
    job_id = scene.jobs[case]
    return scene.stack.has_ended(job_id) and all(row.status.terminal for row in scene.stack.rows(job_id))


@pytest.mark.parametrize("case", KILLED)
def test_a_job_whose_worker_was_killed_is_completed_and_paid_once(scene: Scene, case: str) -> None:
    """Wherever its run was; and the run is over at Prefect, too."""
    job = scene.stack.job(scene.jobs[case], user=f"user of {case}")
    assert job["status"] == "completed", job
    assert [row.status for row in scene.stack.rows(job["id"])] == [RequestStatus.SUCCEEDED]
    assert len(scene.at_provider(case)) == 1
    stack = scene.stack
    wait_until(lambda: scene.state(case) == "COMPLETED", timeout=30, every=0.2, what=f"{case}: {scene.state(case)}")
    wait_until(lambda: not stack.flow_processes(scene.flow_run(case)), timeout=20, every=0.2, what="its process gone")
    # The others need nothing but a worker: but on a slow machine it may come so late that they are put back as well.
    assert "Recovering" in stack.history(scene.flow_run(case)) or case not in RECOVERED


def test_a_run_killed_between_its_last_word_in_the_ledger_and_its_end_at_prefect_ends_there_too(scene: Scene) -> None:
    """Started once more, it says how it ended."""
    flow_run = scene.flow_run(AT_ITS_END)
    scene.stack.in_state(flow_run, "Completed", timeout=90)
    assert "Recovering" in scene.stack.history(flow_run)


@pytest.mark.parametrize("case", CANCELLED)
def test_a_run_cancelled_in_the_ui_leaves_nothing_behind(scene: Scene, case: str) -> None:
    """Its job is cancelled, at the provider too; no slot, no process; and the run is Cancelled."""
    job = scene.stack.job(scene.jobs[case], user=f"user of {case}")
    assert job["status"] == "cancelled", job
    there = scene.at_provider(case)
    assert len(there) <= 1
    assert all(each["status"] == "COMPLETED" for each in there)
    assert scene.state(case) == "CANCELLED"
    assert not scene.stack.flow_processes(scene.flow_run(case))
