"""However the provider behaves, a job ends as it should, with one paid request at the provider.

The wait before a test's assertions is for the job's end; what the fixture `stack` checks afterwards is that nothing is
left: no slot, no open request, no open run.
"""

from __future__ import annotations

from typing import Any

import pytest
from running import Stack
from support import wait_until

from blocks.ledger import Request, RequestStatus

LONGER_THAN_PATIENCE = 4.0


def _only_row(stack: Stack, job_id: str) -> Request:
    (row,) = stack.rows(job_id)
    return row


def _completed(stack: Stack, prompt: str, job_id: str, *, via: str = "webhook", timeout: float = 60) -> dict[str, Any]:
    """Completed with one file, from one request at the provider."""
    job = stack.ended(job_id, timeout=timeout)
    assert job["status"] == "completed", job
    assert [request["delivered_via"] for request in job["requests"]] == [via]
    assert len(job["assets"]) == 1
    assert len(stack.at_provider(prompt)) == 1
    return job


def _failed(stack: Stack, job_id: str) -> dict[str, Any]:
    job = stack.ended(job_id)
    assert job["status"] == "failed", job
    assert job["assets"] == []
    return dict(job["error"])


def test_a_webhook_before_the_submit_answer_ends_the_job(stack: Stack, prompt: str) -> None:
    """The row adopts the webhook by its token; the late answer only fills in ids."""
    stack.misbehave(prompt, webhook="early", submit_delay=1)
    _completed(stack, prompt, stack.order(prompt))


def test_a_webhook_before_the_suspension_ends_the_job_in_its_process(stack: Stack, prompt: str) -> None:
    """A short wait is held in the process: no suspension."""
    job_id = stack.order(prompt)
    _completed(stack, prompt, job_id)
    assert "Suspended" not in stack.history(stack.flow_run_id(job_id))


def test_a_webhook_while_the_run_suspends_is_not_lost(stack: Stack, prompt: str) -> None:
    """It comes just when the patience is over; whichever was first, the run goes on."""
    stack.misbehave(prompt, latency=1.9)
    _completed(stack, prompt, stack.order(prompt))


def test_a_webhook_that_comes_twice_is_one_result(stack: Stack, prompt: str) -> None:
    stack.misbehave(prompt, webhook="twice")
    job = _completed(stack, prompt, stack.order(prompt))
    request = job["requests"][0]
    wait_until(lambda: stack.verdicts(request["ref"]) == ["settled", "duplicate"], timeout=10, every=0.1)


@pytest.mark.parametrize("false", ["forged", "old", "other_account", "foreign_token"])
def test_a_false_webhook_changes_nothing(stack: Stack, prompt: str, false: str) -> None:
    """Forged, six minutes old, from another account, or with another request's token: refused; the genuine one ends
    the job."""
    stack.misbehave(prompt, webhook=false, webhook_then_good=True)
    job = _completed(stack, prompt, stack.order(prompt))
    refused, taken = stack.webhook_answers(prompt)[0], stack.webhook_answers(prompt)[-1]
    assert refused in (401, 403), refused
    assert taken == 200
    assert stack.verdicts(job["requests"][0]["ref"]) == ["settled"]


def test_a_webhook_for_an_unknown_id_is_not_acknowledged(stack: Stack) -> None:
    """A 2xx would end the provider's retries for something we might come to know."""
    body = {"request_id": "019e1951-0000-7000-8000-000000000000", "status": "OK", "payload": {"images": []}}
    url = f"{stack.gateway.base_url}/webhooks/fal?token=00000000000000000000000000000000"
    answer = stack.simulator.post("/_sim/webhook", json={"url": url, "body": body})
    assert not 200 <= answer.json()["status_code"] < 300, answer.text


def test_a_lost_webhook_is_adopted_by_reconcile(stack: Stack, prompt: str) -> None:
    stack.misbehave(prompt, webhook="lost")
    job_id = stack.order(prompt)
    stack.in_state(stack.flow_run_id(job_id), "Suspended")
    _completed(stack, prompt, job_id, via="poll", timeout=110)


def test_an_error_fails_the_job_within_seconds_with_the_providers_words(stack: Stack, prompt: str) -> None:
    """… and without the prompt, which the provider echoes."""
    stack.misbehave(prompt, result="422_content_policy")
    job_id = stack.order(prompt)
    error = _failed(stack, job_id)
    assert error["code"] == "content_policy_violation"
    assert error["class"] == "permanent"
    assert prompt not in error["message"]
    row = _only_row(stack, job_id)
    assert row.finished_at is not None and row.submitted_at is not None
    assert (row.finished_at - row.submitted_at).total_seconds() < 5
    assert stack.in_state(stack.flow_run_id(job_id), "Failed")["state"]["message"] == error["message"]


def test_a_success_without_payload_is_fetched(stack: Stack, prompt: str) -> None:
    stack.misbehave(prompt, webhook="null_payload")
    _completed(stack, prompt, stack.order(prompt))


def test_a_result_that_is_a_422_fails_the_job(stack: Stack, prompt: str) -> None:
    """Found by polling: the status says COMPLETED, only the result tells that it was rejected."""
    stack.misbehave(prompt, webhook="lost", result="422_content_policy")
    job_id = stack.order(prompt)
    wait_until(lambda: _only_row(stack, job_id).status.terminal, timeout=110, every=0.5)
    assert _failed(stack, job_id)["code"] == "content_policy_violation"


def test_an_error_that_may_pass_is_tried_again_on_record(stack: Stack, prompt: str) -> None:
    stack.misbehave(prompt, result="error:internal_server_error", times=1)
    job = stack.ended(stack.order(prompt))
    assert job["status"] == "completed", job
    assert [(request["attempt"], request["status"]) for request in job["requests"]] == [(1, "failed"), (2, "succeeded")]


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("html", "wrong_type"),
        ("foreign_host", "foreign_host"),
        ("redirect", "foreign_host"),
        ("huge", "too_large"),
        ("pixel_bomb", "too_many_pixels"),
    ],
)
def test_a_file_that_must_not_be_stored_fails_the_job(stack: Stack, prompt: str, file: str, code: str) -> None:
    stack.misbehave(prompt, file=file)
    job_id = stack.order(prompt)
    error = _failed(stack, job_id)
    assert (error["code"], error["step"]) == (code, "generate")
    assert _only_row(stack, job_id).status is RequestStatus.SUCCEEDED  # paid, and its result is on record


def test_a_truncated_file_is_fetched_again_not_generated_again(stack: Stack, prompt: str) -> None:
    stack.misbehave(prompt, file="truncated_once")
    _completed(stack, prompt, stack.order(prompt))


def test_a_file_that_stays_truncated_fails_the_job(stack: Stack, prompt: str) -> None:
    stack.misbehave(prompt, file="truncated")
    error = _failed(stack, stack.order(prompt))
    assert (error["code"], error["retryable"]) == ("file_unverified", True)


def test_a_submit_whose_answer_is_cut_is_one_job_at_the_provider(stack: Stack, prompt: str) -> None:
    """The row is unknown, keeps its slot, and its webhook finds it by its token."""
    stack.misbehave(prompt, submit="cut", latency=LONGER_THAN_PATIENCE)
    job_id = stack.order(prompt)
    wait_until(lambda: stack.rows(job_id)[0].status is RequestStatus.UNKNOWN, timeout=30, every=0.05)
    _completed(stack, prompt, job_id)


@pytest.mark.parametrize("refusal", ["429", "500_fal", "503_nginx"])
def test_a_refused_submit_waits_in_the_queue_and_is_sent_again(stack: Stack, prompt: str, refusal: str) -> None:
    """A sure refusal cost nothing: the same row is granted again when it is due."""
    stack.misbehave(prompt, submit=refusal, retry_after=1, times=1)
    job = _completed(stack, prompt, stack.order(prompt))
    assert [request["attempt"] for request in job["requests"]] == [1]


def test_an_exhausted_balance_fails_the_job_at_once(stack: Stack, prompt: str) -> None:
    stack.misbehave(prompt, submit="403_locked")
    assert _failed(stack, stack.order(prompt))["class"] == "permanent"
    assert stack.at_provider(prompt) == []
