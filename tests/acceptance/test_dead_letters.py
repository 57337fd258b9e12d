"""Failed jobs on the real stack: listed with what they have cost, and put back under a budget that the provider's own
book confirms. Each picture is to be cut out of its background, so that a replay comes to a second paid step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from running import DARKROOM, Stack, leaves_nothing

from darkroom.providers.models import find_model

USER = "mourner"
CUT_OUT = "fal-ai/birefnet/v2"
POLICY, LATE = "content_policy_violation", "generation_timeout"
REFUSED = 3  # pictures that the provider refuses at first
REPLAY_SECONDS = 120


@dataclass(frozen=True)
class Scene:
    stack: Stack
    refused: list[str]  # at their first step
    half: str  # at its second
    late: str  # its picture never came
    letters_then: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines_then: list[dict[str, Any]] = field(default_factory=list)  # of the operator's command
    paid_then: Decimal = Decimal(0)

    def letters(self, query: str = "") -> dict[str, dict[str, Any]]:
        answer = self.stack.gateway.get(f"/v1/dead-letters{query}", headers=self.stack.bearer(USER))
        assert answer.status_code == 200, answer.text
        return {letter["job_id"]: letter for letter in answer.json()["items"]}

    def ask(self, action: str, **body: Any) -> dict[str, Any]:
        path = f"/v1/dead-letters/{action}"
        return dict(self.stack.gateway.post(path, json=body, headers=self.stack.bearer(USER)).json())

    def job(self, job_id: str) -> dict[str, Any]:
        return self.stack.ended(job_id, user=USER, timeout=REPLAY_SECONDS)

    def at_provider(self) -> dict[str, dict[str, Any]]:
        return booked(self.stack)

    def operate(self, **parameters: Any) -> str:
        """The flow for operators, to its end. Returns what it says."""
        path = "/deployments/name/replay/on-demand"
        deployment = self.stack.prefect.get(path).raise_for_status().json()["id"]
        answer = self.stack.prefect.post(f"/deployments/{deployment}/create_flow_run", json={"parameters": parameters})
        run = self.stack.in_state(UUID(answer.raise_for_status().json()["id"]), "Completed", "Failed")
        return str(run["state"]["message"])


def booked(stack: Stack) -> dict[str, dict[str, Any]]:
    """The provider's book, of the whole stack."""
    return {each["request_id"]: each for each in stack.simulator.get("/_sim/requests").json()}


def paid(requests: dict[str, dict[str, Any]]) -> Decimal:
    """What the provider bills for these, by its own book."""
    return sum(
        (
            find_model(each["endpoint"]).cost(each["input"], {}, Decimal(each["billable_units"]))
            for each in requests.values()
        ),
        Decimal(0),
    )


def order(stack: Stack, case: str) -> str:
    size = {"width": 128, "height": 96}
    return stack.order(f"a letter <{case}>", user=USER, image_size=size, post=["remove_background"])


@pytest.fixture(scope="module")
def scene(running: Stack) -> Iterator[Scene]:
    """All of them have failed."""
    before = set(booked(running))
    running.misbehave("", endpoint=CUT_OUT, result="422_content_policy", times=1)
    half = order(running, "half")
    assert running.ended(half, user=USER)["status"] == "failed"
    running.misbehave("<refused", result="422_content_policy", times=REFUSED)
    running.misbehave("<late>", result=f"error:{LATE}")
    refused = [order(running, f"refused {n}") for n in range(REFUSED)]
    scene = Scene(stack=running, refused=refused, half=half, late=order(running, "late"))
    for job_id in (*refused, scene.late):
        assert scene.job(job_id)["status"] == "failed"
    said = running.command(DARKROOM, "dead", "list", "--user", USER, "--code", POLICY, "--failed-since", "1h")
    yield replace(
        scene,
        letters_then=scene.letters(),
        lines_then=[json.loads(line) for line in said.stdout.splitlines()],
        paid_then=paid({id: each for id, each in scene.at_provider().items() if id not in before}),
    )
    leaves_nothing(running)


def test_failures_of_several_classes_are_listed_with_what_they_cost(scene: Scene) -> None:
    """What was paid is what the provider's book says; a replay of the half one pays for its second step alone."""
    letters = scene.letters_then
    assert {job_id: letters[job_id]["code"] for job_id in letters} == {
        **dict.fromkeys([*scene.refused, scene.half], POLICY),
        scene.late: LATE,
    }
    assert (letters[scene.late]["class"], letters[scene.half]["class"]) == ("retry", "permanent")
    assert sum(Decimal(str(letter["paid_usd"])) for letter in letters.values()) == scene.paid_then
    half, refused = letters[scene.half], letters[scene.refused[0]]
    assert [each["step"] for each in half["reusable"]] == ["generate"]
    assert [each["endpoint"] for each in half["replay"]] == [CUT_OUT]
    assert (half["endpoint"], refused["reusable"], refused["paid_usd"]) == (CUT_OUT, [], 0)


def test_the_operators_list_is_the_same_in_a_pipe(scene: Scene) -> None:
    """JSON lines, with the same filters."""
    assert {line["job_id"]: line for line in scene.lines_then} == {
        job_id: letter for job_id, letter in scene.letters_then.items() if letter["code"] == POLICY
    }


def test_jobs_that_go_back_together_pay_no_more_than_their_budget(scene: Scene) -> None:
    """It has room for two first steps and one second: the third picture stays, and of the two one fails beyond it.

    Then the operator lets all of them go on from where they were, under a budget that fits.
    """
    before = scene.at_provider()
    price = Decimal(str(scene.letters_then[scene.refused[0]]["replay_usd"]))
    cut_out = Decimal(str(scene.letters_then[scene.half]["replay_usd"]))
    budget = 2 * price + cut_out
    assert budget < 3 * price
    told = scene.ask("replay", filter={"code": POLICY, "endpoint": "fal-ai/flux/dev"})
    *first, last = told["jobs"]  # in the order in which they failed
    assert ({*first, last}, told["replay_usd"]) == ({*scene.refused}, float(3 * price))

    options = ("--user", USER, "--code", POLICY, "--endpoint", "fal-ai/flux/dev", "--budget", str(budget))
    said = scene.stack.command(DARKROOM, "replay", *options, check=False)

    assert said.returncode == 1 and f"{last}: " in said.stderr
    assert said.stdout.split("\n")[:2] == [f"{job_id}\tput back" for job_id in first]
    ended = {job_id: scene.job(job_id) for job_id in first}
    assert sorted(job["status"] for job in ended.values()) == ["completed", "failed"]
    (beyond,) = [job for job in ended.values() if job["status"] == "failed"]
    assert (beyond["error"]["code"], beyond["error"]["step"]) == ("over_budget", "1-remove_background")
    new = {id: each for id, each in scene.at_provider().items() if id not in before}
    assert (len(new), paid(new) <= budget) == (3, True)
    assert scene.letters()[beyond["id"]]["reusable"], "its picture is paid once"

    failed = {"user": USER, "failure_class": "permanent"}
    assert "3 of 3 can be replayed" in scene.operate(failed=failed)
    assert scene.operate(failed=failed, budget_usd=1) == "3 of 3 put back"

    for job_id in (*scene.refused, scene.half):
        assert scene.job(job_id)["status"] == "completed"
    assert len(scene.at_provider()) == len(before) + 3 + 4, "the third's two steps, and one each"
    assert scene.letters("?class=permanent") == {}


def test_a_discarded_job_is_out_of_every_list_but_its_own(scene: Scene) -> None:
    """By the command; a replay of all that failed like it leaves it where it is."""
    scene.stack.command(DARKROOM, "dead", "discard", scene.late, "--reason", "Nobody waits for it.")
    assert scene.late not in scene.letters()
    assert scene.letters("?discarded=true")[scene.late]["discard_reason"] == "Nobody waits for it."
    said = scene.stack.command(DARKROOM, "replay", "--user", USER, "--code", LATE, "--yes")
    assert said.stderr.startswith("0 failed jobs match")
    assert scene.job(scene.late)["status"] == "failed"
