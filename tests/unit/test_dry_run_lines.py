"""What `darkroom replay --dry-run` prints: a line a job, and a command that is about the same jobs."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from darkroom.deployments.cli.dead_letters import Which
from darkroom.deployments.cli.dry_run import closing, document, left_out, line, live
from darkroom.engine.dry_run import DryRunResult, Verdict
from darkroom.engine.dry_run.job import Ask, How

REFUSED = {"class": "permanent", "code": "content_policy_violation", "step": "generate", "message": "No."}
SINCE, BEFORE = datetime(2030, 1, 1, 12, tzinfo=UTC), datetime(2030, 1, 2, tzinfo=UTC)


def said(**changes: Any) -> DryRunResult:
    given = {"job_id": "job_1", "kind": "generate-image", "verdict": Verdict.COMPLETES, "was": REFUSED}
    return DryRunResult(**given | changes)


def ask(**changes: Any) -> Ask:
    given = {"step": "generate", "endpoint": "fal-ai/flux/dev", "estimate_usd": Decimal("0.025"), "how": How.AGAIN}
    return Ask(**given | changes)


@pytest.mark.parametrize(
    ("result", "today"),
    [
        (said(), "completes        $0.0000"),
        (
            said(verdict=Verdict.PAYS, asks=(ask(how=How.OTHERWISE, changed=("prompt",)),)),
            "pays             $0.0250  asks generate otherwise (prompt)",
        ),
        (
            said(verdict=Verdict.FAILS_THE_SAME, error=REFUSED, asks=(ask(refused="content_policy_violation"),)),
            "fails the same   $0.0250  asks generate again, refused before: content_policy_violation",
        ),
        (
            said(verdict=Verdict.FAILS_OTHERWISE, error=REFUSED | {"step": "small", "code": "rejected"}),
            "fails otherwise  $0.0000  permanent/rejected in small: No.",
        ),
        (
            said(verdict=Verdict.CANNOT_TELL, why="it would do the step 'charge'"),
            "cannot tell      $0.0000  it would do",
        ),
    ],
)
def test_a_line_says_how_it_failed_and_what_would_become_of_it(result: DryRunResult, today: str) -> None:
    """With the price of the calls that are known."""
    told = line(result)
    assert told.startswith("job_1  generate-image   was permanent/content_policy_violation in generate ")
    assert today in told


def test_a_failure_of_the_provider_is_no_line_of_its_own() -> None:
    """Its words are as they came: a line stays one."""
    error = REFUSED | {"message": "No.\nNever.\x1b[2J"}
    told = line(said(verdict=Verdict.FAILS_OTHERWISE, error=error))
    assert "Never." in told and "\n" not in told and "\x1b" not in told


def test_as_json_each_call_is_told_with_what_differs() -> None:
    """Money as text, as everywhere."""
    told = document(said(verdict=Verdict.PAYS, asks=(ask(how=How.OTHERWISE, changed=("prompt",)),)))
    assert told["today"]["price_usd"] == "0.025"
    (asked,) = told["today"]["asks"]
    assert (asked["how"], asked["changed"], asked["estimate_usd"]) == ("otherwise", ["prompt"], "0.025")


def test_the_command_at_the_end_is_about_the_same_jobs() -> None:
    """With absolute times, and a budget of whole cents, rounded up."""
    which = Which(kind="generate-image", since=SINCE, until=BEFORE)
    assert live(which, [], price=Decimal("0.0301")) == (
        "darkroom replay --kind generate-image --failed-since 2030-01-01T12:00:00+00:00 "
        "--failed-before 2030-01-02T00:00:00+00:00 --budget 0.04"
    )
    assert live(Which(), ["job_1", "job_2"], price=Decimal(0)) == "darkroom replay job_1 job_2 --budget 0.01"


def test_the_end_counts_the_verdicts() -> None:
    """And says that nothing has happened."""
    told = "\n".join(closing(Counter({"completes": 3, "pays": 1}), price=Decimal("0.025"), command="darkroom replay"))
    assert told.startswith("4 failed jobs: 3 × completes, 1 × pays.") and "$0.0250" in told
    assert closing(Counter(), price=Decimal(0), command="darkroom replay")[0] == "0 failed jobs: none is meant."


def test_what_is_not_tried_is_told() -> None:
    """A job that was named and has not failed; and those beyond what is tried at once."""
    assert left_out(["job_1", "job_2"], ["job_2"]) == ["job_1: it is no failed job that is meant."]
    assert left_out([], ["job_2"]) == []
    (told,) = left_out([], [f"job_{n}" for n in range(1000)])
    assert told.startswith("1,000 are tried at once")
