"""What a replay does with each step of a job, case by case."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from darkroom.errors import WrongState
from darkroom.ledger import Job, JobStatus, Lane, Request, RequestStatus
from darkroom.ledger.replay import Replay, plan_replay

LATE = {"images": []}


def job(status: JobStatus = JobStatus.FAILED) -> Job:
    return Job(id="job_1", user_id="u1", kind="generate-image", status=status)


def row(status: str, *, step: str = "generate", attempt: int = 1, **columns: Any) -> Request:
    given = {"lane": Lane.INTERACTIVE, "input": {"prompt": "a fox"}, "estimate_usd": Decimal("0.025")} | columns
    return Request(
        ref=f"req_{step}_{attempt}",
        step=step,
        attempt=attempt,
        status=RequestStatus(status),
        endpoint="fal-ai/flux/dev",
        account_id="fal",
        **given,
    )


def said(replay: Replay) -> list[tuple[str, int]]:
    """The new attempts, and as attempt 0 those whose late result is taken up."""
    return [(each.step, 0) for each in replay.late] + [(each.step, each.attempt) for each in replay.again]


@pytest.mark.parametrize(
    ("rows", "then"),
    [
        ([], []),
        ([row("succeeded")], []),
        ([row("failed")], [("generate", 2)]),
        ([row("cancelled")], [("generate", 2)]),
        ([row("expired")], [("generate", 2)]),
        ([row("failed"), row("expired", attempt=2)], [("generate", 3)]),
        ([row("expired"), row("succeeded", attempt=2)], []),
        ([row("succeeded"), row("failed", step="upscale")], [("upscale", 2)]),
        ([row("failed", step="b"), row("cancelled", step="a")], [("a", 2), ("b", 2)]),
        ([row("cancelled", output=LATE)], [("generate", 0)]),
        ([row("expired", output=LATE)], [("generate", 0)]),
        ([row("failed", output=LATE)], [("generate", 2)]),
        ([row("expired", output=LATE), row("failed", attempt=2)], [("generate", 0)]),
    ],
)
def test_what_has_succeeded_is_reused_and_the_rest_is_tried_once_more(
    rows: list[Request], then: list[tuple[str, int]]
) -> None:
    """Also what has succeeded after it had been cancelled or given up: it is paid."""
    assert said(plan_replay(job(), rows)) == then
    assert said(plan_replay(job(JobStatus.CANCELLED), rows[::-1])) == then


def test_a_completed_job_has_its_failed_steps_to_replay() -> None:
    """Some jobs go on without them: what has come stays as it is."""
    rows = [row("succeeded", step="image-1"), row("failed", step="image-2"), row("failed", step="image-2", attempt=2)]
    rows += [row("cancelled", step="image-3")]  # the job was completed without waiting for it
    assert said(plan_replay(job(JobStatus.COMPLETED), rows)) == [("image-2", 3)]


def test_a_new_attempt_asks_for_the_same_in_the_same_lane() -> None:
    """Attempts after the first go before others' new pictures; a replay does not."""
    rows = [row("failed"), row("failed", attempt=2, lane=Lane.CONTINUE, estimate_usd=Decimal("0.05"))]
    (again,) = plan_replay(job(), rows).again
    assert (again.input, again.estimate_usd) == ({"prompt": "a fox"}, Decimal("0.05"))
    assert again.lane is Lane.INTERACTIVE


@pytest.mark.parametrize(
    ("status", "rows", "remedy"),
    [
        (JobStatus.COMPLETED, [row("succeeded")], "Order it anew"),
        (JobStatus.PENDING, [row("queued")], "cancel it"),
        (JobStatus.RUNNING, [row("in_flight")], "cancel it"),
        (JobStatus.CANCELLED, [row("in_flight")], "none of its requests is open"),
        (JobStatus.FAILED, [row("succeeded"), row("unknown", step="upscale")], "none of its requests is open"),
    ],
)
def test_what_must_not_be_replayed_says_what_to_do_instead(status: JobStatus, rows: list[Request], remedy: str) -> None:
    """While the provider may yet bring a result, a second attempt would be paid beside it."""
    with pytest.raises(WrongState, match=remedy):
        plan_replay(job(status), rows)
