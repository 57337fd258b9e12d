"""Batches on the real stack: two passes with a person between, in the middle of which something is killed, refused,
cancelled or answered wrongly. All of them side by side, each of a user of its own."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psutil
import pytest
from PIL import Image
from running import Stack, leaves_nothing
from support import wait_until

from darkroom.clock import utc_now
from darkroom.ledger import BatchPass, JobStatus, RequestStatus

ROWS = 12
PATIENCE_SECONDS = 240  # a lost process is missed after 30 s, by a cron of a minute
SLOTS = 10
IN_FLIGHT = 8


@dataclass(frozen=True)
class Scene:
    stack: Stack
    batches: dict[str, str] = field(default_factory=dict)  # case → its job

    def user(self, case: str) -> str:
        return f"campaigner, {case}"

    def bearer(self, case: str) -> dict[str, str]:
        return self.stack.bearer(self.user(case))

    def prompt(self, case: str, n: int) -> str:
        return f"campaign <{case}> mug {n:02}."

    def order(self, case: str, *, rows: int = ROWS, **options: Any) -> None:
        manifest = [{"id": f"sku-{n}", "prompt": self.prompt(case, n), "seed": n} for n in range(rows)]
        answer = self.ask(case, "/v1/batches", json={"rows": manifest, **options})
        assert answer.status_code == 202, answer.text
        self.batches[case] = answer.json()["job_id"]

    def ask(self, case: str, path: str, **given: Any) -> httpx.Response:
        return self.stack.gateway.post(path, headers=self.bearer(case), **given)

    def choose(self, case: str, *winners: int) -> httpx.Response:
        return self.ask(case, f"/v1/batches/{self.batches[case]}/selection", json={"winners": list(winners)})

    def job(self, case: str) -> dict[str, Any]:
        return self.stack.job(self.batches[case], user=self.user(case))

    def ended(self, case: str) -> dict[str, Any]:
        return self.stack.ended(self.batches[case], user=self.user(case), timeout=PATIENCE_SECONDS)

    def asked(self, case: str) -> dict[str, Any]:
        """The batch, once it asks a person, and its run sleeps."""

        def look() -> dict[str, Any] | None:
            job = self.job(case)
            assert job["status"] not in ("failed", "completed"), job
            return job if job["batch"]["asked_at"] else None

        found = wait_until(look, timeout=PATIENCE_SECONDS, every=0.3, what=f"the question of {case}")
        self.stack.in_state(self.stack.flow_run_id(self.batches[case]), "Suspended")
        assert found is not None
        return found

    def until_under_way(self, case: str, *, ended: int = 3) -> None:
        def look() -> bool:
            draft = self.job(case)["batch"]["draft"]
            return bool(draft and draft["completed"] >= ended)

        wait_until(look, timeout=90, every=0.1, what=f"the first drafts of {case}")

    def in_flight(self, case: str) -> int:
        jobs = self.stack.ledger.batches.page(self.batches[case], limit=100)
        rows = [row for job in jobs for row in self.stack.rows(job.id)]
        return sum(row.status is RequestStatus.IN_FLIGHT for row in rows)

    def at_provider(self, case: str) -> Counter[str]:
        """How often each row was asked for, in either pass."""
        return Counter(each["input"]["prompt"] for each in self.stack.at_provider(f"<{case}>"))

    def suspend(self, case: str) -> None:
        """In Prefect, as its UI does."""
        details = {"pause_timeout": (utc_now() + timedelta(hours=1)).isoformat(), "pause_reschedule": True}
        state = {"type": "PAUSED", "name": "Suspended", "state_details": details}
        flow_run_id = self.stack.flow_run_id(self.batches[case])
        answer = self.stack.prefect.post(f"/flow_runs/{flow_run_id}/set_state", json={"state": state})
        assert answer.json()["status"] == "ACCEPT", answer.text

    def resume(self, case: str, answer: dict[str, str] | None) -> dict[str, Any]:
        """In Prefect, as its UI does."""
        flow_run_id = self.stack.flow_run_id(self.batches[case])
        body = {} if answer is None else {"run_input": answer}
        return dict(self.stack.prefect.post(f"/flow_runs/{flow_run_id}/resume", json=body).json())


def kill(stack: Stack, part: str, flow_run_id: UUID) -> None:
    if part == "flow":
        stack.kill_run(flow_run_id)
    else:
        process = psutil.Process(stack.pid(part))
        process.kill()
        process.wait(timeout=30)  # until then it may still answer


def _answers(stack: Stack) -> bool:
    with suppress(httpx.TransportError):
        return stack.gateway.get("/healthz").status_code == 200
    return False


@pytest.fixture(scope="module")
def scene(running: Stack) -> Iterator[Scene]:
    """What has to happen in the middle of a batch happens before the tests begin."""
    scene = Scene(running)
    running.ledger.users.set_plan("studio", in_flight=IN_FLIGHT, weight=1)
    running.misbehave("<slower", submit="429", times=4)
    running.misbehave(scene.prompt("partial", 2), result="422_content_policy")
    running.misbehave("<cancelled", hold=True)
    with running.without_cron():
        for part in ("flow", "gateway", "worker"):
            case = f"killed {part}"
            running.between_turns()
            running.misbehave(f"<{case}>", hold=True, times=IN_FLIGHT)
            scene.order(case, rows=2 * IN_FLIGHT)
            # None is just being sent: whether that reached the provider would be found out after minutes only.
            wait_until(
                lambda case=case: scene.in_flight(case) == IN_FLIGHT, timeout=60, every=0.1, what=f"rows of {case}"
            )
            kill(running, part, running.flow_run_id(scene.batches[case]))
            wait_until(lambda: _answers(running), timeout=30, every=0.2, what="the gateway")
            running.release(f"<{case}>")
    for case in ("whole", "slower", "partial", "form", "nobody"):
        options = {"answer_within_hours": 0.0001, "if_nobody_answers": "all"} if case == "nobody" else {}
        scene.order(case, rows=4 if case == "nobody" else ROWS, **options)
    running.misbehave("<paused", latency=1.0)
    scene.order("paused", rows=24)
    scene.until_under_way("paused")
    scene.suspend("paused")
    scene.order("cancelled")
    wait_until(lambda: len(running.at_provider("<cancelled")) > 1, timeout=90, every=0.2, what="rows at the provider")
    assert scene.ask("cancelled", f"/v1/jobs/{scene.batches['cancelled']}/cancel").status_code == 202
    running.release("<cancelled")
    yield scene
    leaves_nothing(running)


@pytest.fixture(scope="module")
def whole(scene: Scene) -> tuple[dict[str, Any], dict[str, Any]]:
    """A batch as it asks, and at its end."""
    asked = scene.asked("whole")
    assert scene.choose("whole", 1, 4, 7).status_code == 202
    return asked, scene.ended("whole")


def test_winners_are_rendered_as_they_were_asked_for(
    scene: Scene, whole: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    """Everything once as a cheap draft; a sheet to choose from; the winners at full quality; and what it saved."""
    asked, job = whole
    assert asked["waiting_for"].startswith("a person to choose the winners")
    (sheet,) = [asset for asset in asked["assets"] if "contact-sheet" in asset["key"]]
    picture = Image.open(BytesIO(httpx.get(sheet["url"], trust_env=False).content))
    assert picture.size == (sheet["width"], sheet["height"])
    assert job["status"] == "completed", job["error"]
    result = job["result"]
    assert (result["drafts"]["completed"], result["winners"], result["finals"]["completed"]) == (ROWS, [1, 4, 7], 3)
    assert result["spent_usd"] == pytest.approx(ROWS * 0.003 + 3 * 0.025)
    assert result["saved_usd"] == pytest.approx(ROWS * 0.025 - result["spent_usd"])
    models = Counter(each["endpoint"] for each in scene.stack.at_provider("<whole>"))
    assert models == {"fal-ai/flux/schnell": ROWS, "fal-ai/flux/dev": 3}


def test_the_audit_has_every_call_with_its_file(scene: Scene, whole: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """As CSV and as JSON lines, beside the pictures; hashes are those of the files."""
    _, job = whole
    texts = {
        Path(asset["key"]).suffix: httpx.get(asset["url"], trust_env=False).content.decode("utf-8-sig")
        for asset in job["assets"]
        if "audit" in asset["key"]
    }
    calls = list(csv.DictReader(io.StringIO(texts[".csv"])))
    assert [json.loads(line)["ref"] for line in texts[".jsonl"].splitlines()] == [call["ref"] for call in calls]
    assert len(calls) == ROWS + len(job["result"]["winners"])
    files = [asset for row in _rows(scene, "whole") for asset in scene.stack.ledger.assets.of_job(row)]
    by_key = {asset.key: asset.sha256 for asset in files}
    assert all(by_key[call["file_keys"]] == call["file_sha256"] for call in calls)
    assert all(call["request_id"] and json.loads(call["input"])["prompt"] for call in calls)


@pytest.mark.parametrize("part", ["flow", "gateway", "worker"])
def test_what_is_killed_in_its_middle_does_not_stop_it(scene: Scene, part: str) -> None:
    """It goes on by itself, and no row is paid twice."""
    case = f"killed {part}"
    scene.asked(case)
    assert set(scene.at_provider(case).values()) == {1}
    assert len(scene.at_provider(case)) == 16
    assert scene.choose(case).status_code == 202  # none
    job = scene.ended(case)
    assert (job["status"], job["result"]["finals"]["completed"]) == ("completed", 0)


def test_refusals_in_its_middle_fail_no_row(scene: Scene) -> None:
    """429s are waited for."""
    scene.asked("slower")
    assert scene.choose("slower", 0).status_code == 202
    job = scene.ended("slower")
    assert (job["status"], job["result"]["failed"]) == ("completed", [])


def test_a_row_that_fails_stops_nothing_and_a_replay_renders_only_it(scene: Scene) -> None:
    """It is listed, cannot be chosen, and comes with the replay once its cause is gone."""
    scene.asked("partial")
    refused = scene.choose("partial", 2)
    assert (refused.status_code, "no draft came of 2" in refused.json()["detail"]) == (422, True)
    assert scene.choose("partial", 0).status_code == 202
    job = scene.ended("partial")
    assert job["status"] == "completed"
    assert [(each["row"], each["id"], each["code"]) for each in job["result"]["failed"]] == [
        (2, "sku-2", "content_policy_violation")
    ]
    scene.stack.simulator.delete("/_sim/rules")
    assert scene.ask("partial", f"/v1/jobs/{job['id']}/replay").status_code == 202
    job = scene.ended("partial")
    assert (job["result"]["failed"], job["result"]["drafts"]["completed"]) == ([], ROWS)
    paid = scene.at_provider("partial")
    assert {prompt: n for prompt, n in paid.items() if n > 1} == {
        scene.prompt("partial", 0): 2,  # its draft and its final
        scene.prompt("partial", 2): 2,  # the one that failed, and the one after
    }


def test_winners_are_chosen_in_prefects_form(scene: Scene) -> None:
    """Who only resumes the run has chosen nothing; after a wrong answer it asks again and says why."""
    scene.asked("form")
    assert scene.resume("form", None).get("status") != "ACCEPT"
    assert scene.job("form")["batch"]["winners"] is None
    assert scene.resume("form", {"winners": "3, 99"})["status"] == "ACCEPT"
    # Not by the number of its suspensions: on a slow machine it had one while its drafts were made.
    wait_until(lambda: "there is no row 99" in _question(scene, "form"), timeout=60, every=0.3, what="the form again")
    wait_until(lambda: scene.resume("form", {"winners": "3, 5-6"}).get("status") == "ACCEPT", timeout=20, every=0.3)
    job = scene.ended("form")
    assert (job["status"], job["result"]["winners"]) == ("completed", [2, 4, 5])


def test_when_nobody_chooses_in_time_the_order_says_what_happens(scene: Scene) -> None:
    """Here: all of them."""
    job = scene.ended("nobody")
    assert (job["status"], job["result"]["winners"], job["result"]["finals"]["completed"]) == (
        "completed",
        [*range(4)],
        4,
    )


def test_suspended_in_prefect_it_sends_nothing_more_until_it_is_resumed_there(scene: Scene) -> None:
    """What was under way is stored meanwhile; no row is asked for twice."""
    flow_run_id = scene.stack.flow_run_id(scene.batches["paused"])
    wait_until(lambda: scene.job("paused")["batch"]["paused_at"], timeout=30, every=0.3, what="the pause")
    wait_until(lambda: _is_at_rest(scene, "paused"), timeout=60, every=0.3, what="the end of what was under way")
    scene.stack.in_state(flow_run_id, "Suspended", timeout=120)
    wait_until(
        lambda: not scene.stack.flow_processes(flow_run_id), timeout=20, every=0.2, what="its process to be gone"
    )
    assert sum(scene.at_provider("paused").values()) < 24
    assert scene.resume("paused", None)["status"] == "ACCEPT"
    scene.asked("paused")
    assert set(scene.at_provider("paused").values()) == {1}
    assert len(scene.at_provider("paused")) == 24
    assert scene.choose("paused").status_code == 202  # none
    assert scene.ended("paused")["status"] == "completed"


def _is_at_rest(scene: Scene, case: str) -> bool:
    """Every row that was asked for has its picture."""
    return scene.job(case)["batch"]["draft"]["completed"] == sum(scene.at_provider(case).values())


def test_a_cancelled_batch_leaves_nothing_behind(scene: Scene) -> None:
    """Rows that were not sent were never asked for; those at the provider were cancelled there."""
    job = scene.ended("cancelled")
    assert job["status"] == "cancelled"
    asked = scene.stack.at_provider("<cancelled")
    assert 0 < len(asked) <= SLOTS
    children = scene.stack.ledger.batches.page(job["id"], limit=100)
    assert {child.status for child in children} <= {JobStatus.CANCELLED, JobStatus.COMPLETED}
    assert {child.stage for child in children} == {BatchPass.DRAFT}


def _rows(scene: Scene, case: str) -> list[str]:
    return [row.id for row in scene.stack.ledger.batches.page(scene.batches[case], limit=100)]


def _question(scene: Scene, case: str) -> str:
    """What the form of the run's last suspension says; nothing where it is not suspended with one."""
    flow_run_id = scene.stack.flow_run_id(scene.batches[case])
    keys = scene.stack.flow_run(flow_run_id)["state"]["state_details"]["run_input_keyset"]
    return str(scene.stack.prefect.get(f"/flow_runs/{flow_run_id}/input/{keys['description']}").json()) if keys else ""
