"""A job that is cancelled ends, in whatever state it is; the provider hears of it, and what was paid is kept."""

from __future__ import annotations

import json
from decimal import Decimal

from running import DARKROOM, Stack
from support import wait_until

from darkroom.ledger import RequestStatus

AT_PROVIDER_AT_ONCE = 10  # the simulator's
# A gateway may have sent the call before a run has taken up the job.
UNDER_WAY = [(202, "pending"), (202, "running")]


def _cancel(stack: Stack, job_id: str, *, user: str = "ann") -> tuple[int, str]:
    answer = stack.gateway.post(f"/v1/jobs/{job_id}/cancel", headers=stack.bearer(user))
    return answer.status_code, answer.json()["status"]


def _reaches(stack: Stack, job_id: str, status: RequestStatus) -> None:
    wait_until(lambda: stack.rows(job_id)[-1].status is status, timeout=60, every=0.05, what=f"{status} of {job_id}")


def _heard(stack: Stack, prompt: str) -> None:
    """The provider was asked to cancel it."""
    wait_until(
        lambda: [each["cancel_requested"] for each in stack.at_provider(prompt)] == [True],
        every=0.1,
        what="the cancel at the provider",
    )


def test_a_cancel_wakes_a_run_that_sleeps(stack: Stack, prompt: str, no_cron: str) -> None:
    """By the operator's command; the provider is asked by the run, not by reconcile.

    What runs there runs on and is paid, so the slot is held until it is done, and the picture is kept.
    """
    stack.misbehave(prompt, hold=True)
    job_id = stack.order(prompt)
    flow_run_id = stack.flow_run_id(job_id)
    stack.in_state(flow_run_id, "Suspended")

    printed = json.loads(stack.command(DARKROOM, "cancel", job_id).stdout)
    assert "cancel asked for" in printed["waiting_for"]
    _heard(stack, prompt)
    assert stack.rows(job_id)[0].status is RequestStatus.IN_FLIGHT

    stack.release(prompt)
    job = stack.ended(job_id)
    assert (job["status"], len(job["assets"])) == ("completed", 1)
    stack.in_state(flow_run_id, "Completed")


def test_a_cancel_while_the_submit_is_on_its_way_follows_it(stack: Stack, prompt: str, no_cron: str) -> None:
    """There is no id to cancel by yet; as soon as there is, it is cancelled."""
    stack.misbehave(prompt, submit_delay=2, hold=True)
    job_id = stack.order(prompt)
    _reaches(stack, job_id, RequestStatus.SUBMITTING)
    assert _cancel(stack, job_id) in UNDER_WAY
    _heard(stack, prompt)
    stack.release(prompt)
    assert stack.ended(job_id)["status"] == "completed"


def test_what_waits_at_the_provider_is_cancelled_there_and_costs_nothing(
    stack: Stack, prompt: str, no_cron: str
) -> None:
    """It never ran. Its slot is free as soon as the provider's webhook says so."""
    stack.ledger.users.set_plan("wide", in_flight=20, weight=Decimal(1))
    stack.ledger.users.set_account("fal", slots=12)
    stack.keys["wide"] = stack.ledger.users.add("wide", plan="wide").key
    stack.misbehave(f"{prompt} held", hold=True)
    held = [stack.order(f"{prompt} held {n}", user="wide") for n in range(AT_PROVIDER_AT_ONCE)]
    for job_id in held:
        _reaches(stack, job_id, RequestStatus.IN_FLIGHT)
    waiting = stack.order(f"{prompt} waiting", user="wide")
    _reaches(stack, waiting, RequestStatus.IN_FLIGHT)

    assert _cancel(stack, waiting, user="wide") in UNDER_WAY
    job = stack.ended(waiting, user="wide")

    assert (job["status"], job["error"], job["cost_usd"]) == ("cancelled", None, 0)
    assert [row["delivered_via"] for row in job["requests"]] == ["webhook"]
    assert _cancel(stack, waiting, user="wide") == (200, "cancelled"), "asked again"
    stack.release(f"{prompt} held")
    assert {stack.ended(job_id, user="wide")["status"] for job_id in held} == {"completed"}
    stack.ledger.users.set_account("fal", slots=10)


def test_a_job_that_was_not_submitted_ends_with_the_call_that_cancels_it(stack: Stack, prompt: str) -> None:
    """Its run, if one was made ahead of it, finds nothing to do and closes."""
    stack.ledger.users.set_account("fal", slots=1)  # or it is sent as soon as it is ordered
    stack.misbehave(f"{prompt} held", hold=True)
    held = stack.order(f"{prompt} held")
    _reaches(stack, held, RequestStatus.IN_FLIGHT)
    job_id = stack.order(f"{prompt} late", user="fresh")
    assert _cancel(stack, job_id, user="fresh") == (200, "cancelled")
    stack.release(f"{prompt} held")
    assert stack.ended(held)["status"] == "completed"
    assert stack.at_provider(f"{prompt} late") == []
    stack.ledger.users.set_account("fal", slots=10)


def test_a_lost_submit_that_was_cancelled_is_found_by_its_webhook(stack: Stack, prompt: str) -> None:
    """Nobody knows by which id to cancel it. It is paid, so it is kept."""
    stack.misbehave(prompt, submit="cut", latency=3)
    job_id = stack.order(prompt)
    _reaches(stack, job_id, RequestStatus.UNKNOWN)
    assert _cancel(stack, job_id) in UNDER_WAY
    assert stack.ended(job_id)["status"] == "completed"
    assert len(stack.at_provider(prompt)) == 1
