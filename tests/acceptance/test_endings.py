"""However the provider behaves, a job ends as it should, with one paid request at the provider.

All of them are ordered in one burst by one user, so one flow run carries many of them side by side and each failure
has to stay its own; the few whose test is about the run itself have a user, and so a run, of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from running import Stack, leaves_nothing
from support import wait_until

from darkroom.ledger import Request, RequestStatus

ONE_REFUSAL = {"times": 1, "retry_after": 1}
MISBEHAVIOUR: dict[str, dict[str, Any]] = {
    "early": {"webhook": "early", "submit_delay": 1},
    "while it suspends": {"latency": 1.9},
    "twice": {"webhook": "twice"},
    "forged": {"webhook": "forged", "webhook_then_good": True},
    "old": {"webhook": "old", "webhook_then_good": True},
    "other_account": {"webhook": "other_account", "webhook_then_good": True},
    "foreign_token": {"webhook": "foreign_token", "webhook_then_good": True},
    "lost": {"webhook": "lost"},
    "error": {"result": "422_content_policy"},
    "null payload": {"webhook": "null_payload"},
    "lost error": {"webhook": "lost", "result": "422_content_policy"},
    "passing error": {"result": "error:internal_server_error", "times": 1},
    "html": {"file": "html"},
    "foreign_host": {"file": "foreign_host"},
    "redirect": {"file": "redirect"},
    "huge": {"file": "huge"},
    "pixel_bomb": {"file": "pixel_bomb"},
    "truncated_once": {"file": "truncated_once"},
    "truncated": {"file": "truncated"},
    "cut": {"submit": "cut", "latency": 4},
    "429": {"submit": "429", **ONE_REFUSAL},
    "500_fal": {"submit": "500_fal", **ONE_REFUSAL},
    "503_nginx": {"submit": "503_nginx", **ONE_REFUSAL},
}
ON_THEIR_OWN = ("while it suspends", "error")


@dataclass(frozen=True)
class Burst:
    stack: Stack
    orders: dict[str, str]

    def prompt(self, case: str) -> str:
        return f"a fox, {case}."

    def user(self, case: str) -> str:
        return f"user of {case}" if case in ON_THEIR_OWN else "burst"

    def job(self, case: str, *, timeout: float = 110) -> dict[str, Any]:
        return self.stack.ended(self.orders[case], user=self.user(case), timeout=timeout)

    def row(self, case: str) -> Request:
        (row,) = self.stack.rows(self.orders[case])
        return row

    def completed(self, case: str, *, via: str = "webhook") -> dict[str, Any]:
        """Completed with one file, from one request at the provider."""
        job = self.job(case)
        assert job["status"] == "completed", job
        assert [request["delivered_via"] for request in job["requests"]] == [via]
        assert len(job["assets"]) == 1
        assert len(self.stack.at_provider(self.prompt(case))) == 1
        return job

    def failed(self, case: str) -> dict[str, Any]:
        job = self.job(case)
        assert job["status"] == "failed", job
        assert job["assets"] == []
        return dict(job["error"])


@pytest.fixture(scope="module")
def burst(running: Stack) -> Iterator[Burst]:
    burst = Burst(stack=running, orders={})
    for case, faults in MISBEHAVIOUR.items():
        running.misbehave(burst.prompt(case), **faults)
    for case in MISBEHAVIOUR:
        burst.orders[case] = running.order(burst.prompt(case), user=burst.user(case))
    yield burst
    leaves_nothing(running)


def test_a_webhook_before_the_submit_answer_ends_the_job(burst: Burst) -> None:
    """The row adopts the webhook by its token; the late answer only fills in ids."""
    burst.completed("early")


def test_a_webhook_while_the_run_suspends_is_not_lost(burst: Burst) -> None:
    """It comes just when the patience is over; whichever was first, the run goes on."""
    burst.completed("while it suspends")


def test_a_webhook_that_comes_twice_is_one_result(burst: Burst) -> None:
    """The second is on record as a duplicate."""
    ref = burst.completed("twice")["requests"][0]["ref"]
    wait_until(lambda: burst.stack.verdicts(ref) == ["settled", "duplicate"], timeout=10, every=0.1)


@pytest.mark.parametrize("false", ["forged", "old", "other_account", "foreign_token"])
def test_a_false_webhook_changes_nothing(burst: Burst, false: str) -> None:
    """Forged, six minutes old, from another account, with another request's token: refused. The genuine one counts."""
    job = burst.completed(false)
    refused, taken = burst.stack.webhook_answers(burst.prompt(false))
    assert (refused, taken) == (401 if false in ("forged", "old") else 403, 200)
    assert burst.stack.verdicts(job["requests"][0]["ref"]) == ["settled"]


def test_a_webhook_for_an_unknown_id_is_not_acknowledged(burst: Burst) -> None:
    """A 2xx would end the provider's retries for something we might come to know."""
    body = {"request_id": "019e1951-0000-7000-8000-000000000000", "status": "OK", "payload": {"images": []}}
    url = f"{burst.stack.gateway.base_url}/webhooks/fal?token=00000000000000000000000000000000"
    answer = burst.stack.simulator.post("/_sim/webhook", json={"url": url, "body": body})
    assert answer.json()["status_code"] == 404, answer.text


def test_a_lost_webhook_is_adopted_by_reconcile(burst: Burst) -> None:
    """The cron deployment asks the provider about rows that stay silent."""
    burst.completed("lost", via="poll")


def test_an_error_fails_the_job_by_its_webhook_with_the_providers_words(burst: Burst) -> None:
    """… and without the prompt, which the provider echoes. The flow run fails with the same words."""
    error = burst.failed("error")
    assert (error["code"], error["class"], error["step"]) == ("content_policy_violation", "permanent", "generate")
    assert burst.prompt("error") not in error["message"]
    row = burst.row("error")
    assert row.delivered_via == "webhook"
    assert burst.stack.webhook_answers(burst.prompt("error")) == [200], "taken the first time it came"
    run = burst.stack.in_state(burst.stack.flow_run_id(row.job_id), "Failed")
    assert run["state"]["message"] == error["message"]


def test_a_success_without_payload_is_fetched(burst: Burst) -> None:
    """OK with `payload: null` is a paid success."""
    burst.completed("null payload")


def test_a_result_that_is_a_422_fails_the_job(burst: Burst) -> None:
    """Found by polling: the status says COMPLETED, only the result tells that it was rejected."""
    assert burst.failed("lost error")["code"] == "content_policy_violation"
    assert burst.row("lost error").delivered_via == "poll"


def test_an_error_that_may_pass_is_tried_again_on_record(burst: Burst) -> None:
    """Two attempts, two rows."""
    job = burst.job("passing error")
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
def test_a_file_that_must_not_be_stored_fails_the_job(burst: Burst, file: str, code: str) -> None:
    """The generation is paid, and its result stays on record."""
    error = burst.failed(file)
    assert (error["code"], error["step"]) == (code, "generate")
    assert burst.row(file).status is RequestStatus.SUCCEEDED


def test_a_truncated_file_is_fetched_again_not_generated_again(burst: Burst) -> None:
    """One request at the provider."""
    burst.completed("truncated_once")


def test_a_file_that_stays_truncated_fails_the_job(burst: Burst) -> None:
    """It may pass, so a replay is worth it."""
    error = burst.failed("truncated")
    assert (error["code"], error["retryable"]) == ("file_unverified", True)


def test_a_submit_whose_answer_is_cut_is_one_job_at_the_provider(burst: Burst) -> None:
    """The row is unknown, keeps its slot, and its webhook finds it, if reconcile has not found it at fal before."""
    burst.completed("cut")


@pytest.mark.parametrize("refusal", ["429", "500_fal", "503_nginx"])
def test_a_refused_submit_waits_in_the_queue_and_is_sent_again(burst: Burst, refusal: str) -> None:
    """A sure refusal cost nothing: the same row is granted again when it is due."""
    assert [request["attempt"] for request in burst.completed(refusal)["requests"]] == [1]
