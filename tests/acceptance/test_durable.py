"""Jobs that wait without a process, on the real stack: what happens meanwhile, what is killed, and what is paid once.

The scenes are those of `trial_flows.py`. Those that take their own course play
side by side, each of a user of its own. That they go on with new code is shown in `test_asleep.py`.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from running import DARKROOM, Stack, leaves_nothing
from support import wait_until
from till import Till

from darkroom.clock import utc_now
from darkroom.ledger import Wait, WaitStatus
from darkroom.orchestrator import Orchestrator
from darkroom.orchestrator.api import PrefectApi
from darkroom.orchestrator.dispatch import Dispatcher

COMPLETED = "user.profile_completed"
YEAR = timedelta(days=366)
SECONDS_AFTER_A_KILL = 150  # where a lost process has to be missed first
# Around the moment at which the time of a wait is over, in seconds.
MOMENTS = (-0.01, 0.0)


@dataclass(frozen=True)
class Scene:
    stack: Stack
    dispatcher: Dispatcher
    till: Till
    folder: Path
    jobs: dict[str, str] = field(default_factory=dict)  # case → its job

    def user(self, case: str) -> str:
        return f"waiter, {case}"

    def play(self, case: str, scene: str, **parameters: Any) -> str:
        """A job of a user of its own, as the gateway would start it."""
        key = self.stack.ledger.users.add(self.user(case), plan="studio")
        self.stack.keys[self.user(case)] = key.key
        given = {"scene": scene, "till": self.till.charge_url, "folder": str(self.folder), **parameters}
        posted = self.stack.ledger.jobs.post(user_id=key.user_id, kind="trial", parameters=given)
        self.dispatcher.carry_out(posted.implied)
        self.jobs[case] = posted.job.id
        return posted.job.id

    def ask(self, case: str, path: str, body: object = None) -> httpx.Response:
        return self.stack.gateway.post(path, json=body, headers=self.stack.bearer(self.user(case)))

    def ask_for(self, case: str, path: str) -> dict[str, Any]:
        answer = self.stack.gateway.get(path, headers=self.stack.bearer(self.user(case))).raise_for_status()
        return dict(answer.json())

    def send(self, case: str, name: str = COMPLETED, **data: str) -> str:
        """An event of that case's user. Returns its id."""
        answer = self.ask(case, "/v1/events", {"name": name, "data": data or {"account": "a-1"}})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def effects(self, case: str, event_id: str) -> list[str]:
        return [effect["what"] for effect in self.ask_for(case, f"/v1/events/{event_id}")["effects"]]

    def job(self, case: str) -> dict[str, Any]:
        return self.stack.job(self.jobs[case], user=self.user(case))

    def ended(self, case: str, *, timeout: float = SECONDS_AFTER_A_KILL) -> dict[str, Any]:
        return self.stack.ended(self.jobs[case], user=self.user(case), timeout=timeout)

    def result(self, case: str, *, timeout: float = SECONDS_AFTER_A_KILL) -> Mapping[str, Any]:
        job = self.ended(case, timeout=timeout)
        assert job["status"] == "completed", job["error"]
        return dict(job["result"])

    def wait(self, case: str) -> Wait:
        """What it waits for, once it does."""

        def look() -> Wait | None:
            waits = self.stack.ledger.waits.of_job(self.jobs[case])
            return next((wait for wait in waits if wait.status == WaitStatus.OPEN), None)

        found = wait_until(look, timeout=60, every=0.1, what=f"the wait of {case}")
        assert found is not None
        return found

    def over_in(self, wait: Wait, soon: timedelta) -> datetime:
        """Gives a wait another time, of which nobody but the clock tells. Returns it."""
        return _until(self.stack.ledger.waits.extend(wait.id, until=utc_now() + soon)[0])

    def asleep(self, case: str) -> UUID:
        """Its run is suspended, and has no process."""
        self.wait(case)
        flow_run_id = self.stack.flow_run_id(self.jobs[case])
        self.stack.in_state(flow_run_id, "Suspended")
        wait_until(lambda: not self.stack.flow_processes(flow_run_id), timeout=20, what="the end of its process")
        return flow_run_id

    def asked(self, case: str) -> list[str]:
        """The keys under which it asked to charge, each time."""
        return [post.headers["idempotency-key"] for post in self.till.posted("/charges", self.jobs[case])]


@pytest.fixture(scope="module")
def scene(running: Stack, till: Till, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    api = PrefectApi(running.environment["PREFECT_API_URL"], auth=running.environment["PREFECT_API_AUTH_STRING"])
    with Orchestrator(api) as orchestrator:
        yield Scene(running, Dispatcher(running.ledger, orchestrator), till, tmp_path_factory.mktemp("marks"))
    leaves_nothing(running)


@pytest.fixture(scope="module")
def played(scene: Scene) -> Scene:
    """All that take their own course, begun together; what has to happen in their middle has happened."""
    prompt = "a fox whose painter is killed"
    scene.stack.misbehave(prompt, hold=True)
    scene.stack.misbehave("a fox that nobody paints", result="422_content_policy")
    for case in ("dies before the record", "dies after the record"):
        scene.play(case, case.replace(" ", "_"))
    scene.play("event before the wait", "event_before_the_wait", account="a-1")
    scene.play("event first", "first_of_two", seconds=YEAR.total_seconds())
    scene.play("time first", "first_of_two", seconds=3)
    for moment in MOMENTS:
        scene.play(f"at {moment}", "event_or_time", account="a-1")
    scene.play("child killed", "with_a_picture", prompt=prompt)
    scene.play("child refused", "with_a_child", child={"scene": ["not", "a", "text"]})
    scene.play("child failed", "with_a_picture", prompt="a fox that nobody paints")
    scene.play("child's result", "with_a_child", child={"scene": "dies_after_the_record", **_place(scene)})

    sleep = scene.wait("event before the wait")
    scene.send("event before the wait", account="b-2")
    scene.jobs["its event"] = scene.send("event before the wait")
    assert scene.ask("event before the wait", f"/v1/waits/{sleep.id}/wake").status_code == 200
    scene.wait("event first")
    scene.send("event first")
    _at_the_same_moment(scene)
    _kill_the_child(scene, prompt)
    return scene


def _place(scene: Scene) -> dict[str, str]:
    return {"till": scene.till.charge_url, "folder": str(scene.folder)}


def _at_the_same_moment(scene: Scene) -> None:
    """Each event about when its wait is over; which of them is first is not for the test to say."""
    waits = {moment: scene.wait(f"at {moment}") for moment in MOMENTS}
    for moment, wait in waits.items():
        over = scene.over_in(wait, timedelta(seconds=1))
        at = over + timedelta(seconds=moment)
        wait_until(lambda at=at: utc_now() >= at, every=0.001, what=f"the moment {moment}")
        scene.jobs[f"event at {moment}"] = scene.send(f"at {moment}")


def _until(wait: Wait) -> datetime:
    assert wait.until is not None
    return wait.until


def _kill_the_child(scene: Scene, prompt: str) -> None:
    child = scene.wait("child killed").child_job_id
    assert child is not None
    wait_until(lambda: scene.stack.at_provider(prompt), timeout=60, every=0.1, what="the child's call")
    scene.stack.kill_run(scene.stack.flow_run_id(child))
    scene.stack.release(prompt)


# -- what is paid ----------------------------------------------------------------------------------------------------


def test_a_charge_whose_process_dies_before_it_is_on_record_is_asked_for_again_under_the_same_key(
    played: Scene,
) -> None:
    """So it is charged once: the other side knows the key."""
    result = played.result("dies before the record")
    keys = played.asked("dies before the record")
    assert len(keys) == 2 and len(set(keys)) == 1
    assert result == {"charge": played.till.charges[keys[0]]}


def test_a_charge_that_is_on_record_is_never_asked_for_again(played: Scene) -> None:
    """Though the process dies right after it, and the function runs from its top in another one."""
    result = played.result("dies after the record")
    (key,) = played.asked("dies after the record")
    assert result == {"charge": played.till.charges[key]}
    steps = {step["name"]: step["attempts"] for step in played.job("dies after the record")["steps"]}
    assert steps == {"charge": 1, "die": 2}


# -- events ----------------------------------------------------------------------------------------------------------


def test_an_event_that_came_before_the_wait_counts(played: Scene) -> None:
    """While the job slept; the one of another account did not match."""
    assert played.result("event before the wait") == {"event": played.jobs["its event"]}
    assert played.effects("event before the wait", played.jobs["its event"]) == ["woke"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_event_at_the_moment_at_which_the_time_is_over_is_one_or_the_other_once(
    played: Scene, moment: float
) -> None:
    """The job, its wait and the event all say the same, and what followed was done once."""
    case = f"at {moment}"
    event_id = played.jobs[f"event {case}"]
    result = played.result(case)
    (wait,) = played.job(case)["waits"]
    assert result["event"] in (event_id, None)
    came = result["event"] is not None
    assert (wait["state"], wait["event_id"]) == (("received", event_id) if came else ("timed_out", None))
    assert ("woke" in played.effects(case, event_id)) is came
    assert len(played.asked(case)) == 1


def test_the_first_of_two_is_what_counts(played: Scene) -> None:
    """The event, where it came in time; else the time."""
    assert played.result("event first")["key"] == "event"
    assert played.result("time first") == {"key": "time", "event": None}
    assert {wait["state"] for wait in played.job("event first")["waits"]} == {"received", "superseded"}


# -- children --------------------------------------------------------------------------------------------------------


def test_a_child_whose_process_is_killed_goes_on_and_its_parent_gets_what_it_made(played: Scene) -> None:
    """One call at the provider, and one job beside the parent."""
    result = played.result("child killed")
    assert len(result["pictures"]) == 1
    assert len(played.stack.at_provider("a fox whose painter is killed")) == 1
    (wait,) = played.job("child killed")["waits"]
    assert (wait["child_job_id"], wait["settled_by"]) == (result["child"], "child")


def test_a_childs_failure_is_its_parents_and_is_named(played: Scene) -> None:
    """With the child, and the step that started it."""
    job = played.ended("child failed")
    (wait,) = job["waits"]
    assert (job["status"], job["error"]["step"], job["error"]["code"]) == ("failed", "picture", "child_failed")
    assert wait["child_job_id"] in job["error"]["message"]


def test_a_failure_starts_what_is_declared_for_it(played: Scene) -> None:
    """For the user whose job failed, and it knows which."""

    def look() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = played.ask_for("child failed", "/v1/jobs?kind=trial-child")["items"]
        return found

    wait_until(look, timeout=60, every=0.2, what="what starts on the failure")
    (started,) = look()
    job = played.stack.ended(started["id"], user=played.user("child failed"))
    assert (job["status"], job["result"]) == ("completed", {"of": played.jobs["child failed"]})


def test_a_child_that_is_given_what_it_does_not_take_fails_at_once(played: Scene) -> None:
    """Prefect refuses to call its flow; it is not brought back for that. The parameter is named, not what it was."""
    job = played.ended("child refused")
    assert (job["status"], job["error"]["code"]) == ("failed", "child_failed")
    assert "Its parameters are not what trial-child takes: see scene." in job["error"]["message"]


def test_a_child_gives_its_result(played: Scene) -> None:
    """Though its own process died meanwhile."""
    assert played.result("child's result")["came"].keys() == {"charge"}


# -- long sleeps -----------------------------------------------------------------------------------------------------


def _artifact(scene: Scene, flow_run_id: UUID) -> tuple[str, list[dict[str, str]]]:
    """The table of waits that Prefect's UI shows with the run."""
    wanted = {"artifacts": {"key": {"any_": ["waits"]}, "flow_run_id": {"any_": [str(flow_run_id)]}}}
    (found,) = scene.stack.prefect.post("/artifacts/filter", json=wanted).raise_for_status().json()
    return found["description"], json.loads(found["data"])


def _log(scene: Scene, flow_run_id: UUID) -> list[str]:
    """What its log says in Prefect's UI."""
    wanted = {"logs": {"flow_run_id": {"any_": [str(flow_run_id)]}}}
    found = scene.stack.prefect.post("/logs/filter", json=wanted).raise_for_status().json()
    return [each["message"] for each in found]


def test_a_sleep_of_a_year_has_no_process_and_is_ended_by_hand(scene: Scene, no_cron: str) -> None:
    """`darkroom why` and Prefect's UI say what it waits for, to who did not write the flow; Prefect does not end it."""
    job_id = scene.play("a year", "a_year")
    flow_run_id = scene.asleep("a year")
    wait = scene.wait("a year")
    why = scene.stack.command(DARKROOM, "why", job_id).stdout
    assert f"{wait.until:%Y-%m-%d}" in why and "sleep-1" in why and wait.id in why
    description, (row,) = _artifact(scene, flow_run_id)
    assert f"{wait.until:%Y-%m-%d}" in description and description in _log(scene, flow_run_id)
    assert (row["Step"], row["Now"], row["Wait"]) == ("sleep-1", "waits", wait.id)
    timeout = scene.stack.flow_run(flow_run_id)["state"]["state_details"]["pause_timeout"]
    assert datetime.fromisoformat(timeout) > utc_now() + YEAR
    listed = scene.stack.command(DARKROOM, "wait", "list", job_id).stdout
    assert listed.startswith(f"{wait.id}\tsleep-1\topen\ttime\t")

    woken = json.loads(scene.stack.command(DARKROOM, "wait", "wake", wait.id).stdout)
    assert (woken["state"], woken["settled_by"]) == ("timed_out", "hand")
    assert scene.result("a year") == {"slept": True}
    scene.stack.in_state(flow_run_id, "Completed")
    description, (row,) = _artifact(scene, flow_run_id)
    assert description == "It waits for nothing any more." and row["Now"].startswith("ended by hand")


def test_a_wait_that_is_given_another_time_ends_then(scene: Scene, no_cron: str) -> None:
    """First longer, by its user's command, and Prefect's own time-out goes with it; then seconds from now, by HTTP."""
    scene.play("extended", "a_year")
    flow_run_id = scene.asleep("extended")
    wait = scene.wait("extended")
    own = {"DARKROOM_API_KEY": scene.stack.keys[scene.user("extended")]}
    said = scene.stack.command(DARKROOM, "wait", "extend", wait.id, "--by", "52w", **own).stdout
    extended = json.loads(said)
    assert datetime.fromisoformat(extended["until"]) == _until(wait) + timedelta(weeks=52)

    def timeout() -> datetime | None:
        details = scene.stack.flow_run(flow_run_id)["state"]["state_details"]
        return datetime.fromisoformat(details["pause_timeout"]) if details.get("pause_timeout") else None

    def is_longer() -> bool:
        found = timeout()
        return found is not None and found > _until(wait) + timedelta(weeks=52)

    wait_until(is_longer, timeout=60, every=0.2, what="a longer time-out")
    scene.asleep("extended")
    soon = (utc_now() + timedelta(seconds=2)).isoformat()
    assert scene.ask("extended", f"/v1/waits/{wait.id}/extend", {"until": soon}).status_code == 200
    assert scene.result("extended") == {"slept": True}


# -- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["prefect", "event"])
def test_a_job_that_only_waits_ends_with_its_cancel_and_so_does_its_child(scene: Scene, way: str, no_cron: str) -> None:
    """Whoever cancels it; nothing is left that anybody would wake.

    By a call it is cancelled in `tests/integration/test_gateway_waits.py`.
    """
    case = f"cancelled by {way}"
    job_id = scene.play(case, "with_a_child", child={"scene": "a_year"}, account="gone-1")
    flow_run_id = scene.asleep(case)
    child = scene.wait(case).child_job_id
    assert child is not None
    child_run_id = scene.stack.flow_run_id(child)
    scene.stack.in_state(child_run_id, "Suspended")
    if way == "event":
        assert "cancelled" in scene.effects(case, scene.send(case, "trial.gone", key="gone-1"))
    else:
        state = {"type": "CANCELLING", "name": "Cancelling"}
        scene.stack.prefect.post(f"/flow_runs/{flow_run_id}/set_state", json={"state": state}).raise_for_status()
    for each in (job_id, child):
        assert scene.stack.ended(each, user=scene.user(case))["status"] == "cancelled"
        assert {wait.status for wait in scene.stack.ledger.waits.of_job(each)} == {WaitStatus.CANCELLED}
    scene.stack.in_state(child_run_id, "Completed", "Cancelled")


# -- killed in between -----------------------------------------------------------------------------------------------


def _is_back(scene: Scene, part: str, ended: int) -> bool:
    client = scene.stack.gateway if part == "gateway" else scene.stack.prefect
    try:
        answers = client.get("/healthz" if part == "gateway" else "/health").status_code == 200
    except httpx.TransportError:
        return False
    return answers and scene.stack.pid(part) != ended


def test_a_job_sleeps_through_the_end_of_gateway_and_prefect(scene: Scene) -> None:
    """Both are killed while it sleeps, and its time comes before they are back; then an event wakes it as ever."""
    scene.play("outage", "through_outages")
    scene.asleep("outage")
    due = scene.over_in(scene.wait("outage"), timedelta(seconds=2))
    ended = {part: scene.stack.pid(part) for part in ("gateway", "prefect")}
    for pid in ended.values():
        os.kill(pid, signal.SIGKILL)
    for part, pid in ended.items():
        wait_until(lambda part=part, pid=pid: _is_back(scene, part, pid), timeout=90, every=0.1, what=part)
    wait_until(lambda: utc_now() > due, timeout=20, what="its time")

    def waits_for_the_event() -> bool:
        return any(wait.event_name and wait.status == "open" for wait in scene.stack.ledger.waits.of_job(job_id))

    job_id = scene.jobs["outage"]
    wait_until(waits_for_the_event, timeout=SECONDS_AFTER_A_KILL, every=0.2, what="its next wait")
    scene.asleep("outage")
    event_id = scene.send("outage")
    result = scene.result("outage")
    assert result["event"] == event_id
    assert len(scene.asked("outage")) == 1
