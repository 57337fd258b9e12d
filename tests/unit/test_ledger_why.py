"""What a job waits for is said in one sentence, for every state its rows can be in."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from darkroom.ledger import Batch, BatchPass, Budget, Counts, Job, JobStatus, Lane, Period, Request, RequestStatus
from darkroom.ledger.batches import PAUSED_UNTIL
from darkroom.ledger.why import Line, batch_waits_for, waiting_for

# As of a ledger whose Postgres tells times in a zone of its own: 12:00 in UTC.
NOW = datetime(2026, 11, 20, 14, tzinfo=timezone(timedelta(hours=2)))
AGO = NOW - timedelta(seconds=12)
LINE = Line(
    before=36, in_use=10, slots=10, all_slots=10, own_in_use=1, plan_slots=3, endpoint_in_use=2, endpoint_cap=None
)
DOWN = NOW - timedelta(minutes=7)
GPT = "openai/gpt-image-2"


@dataclass(frozen=True, kw_only=True)
class Case:
    says: str | None
    rows: list[dict[str, Any]] = field(default_factory=list)
    job: dict[str, Any] = field(default_factory=dict)
    line: dict[str, Any] = field(default_factory=dict)


def row(status: RequestStatus, **values: Any) -> dict[str, Any]:
    return {"status": status, "submitted_at": AGO, **values}


def budget(usd: Decimal | None, **values: Any) -> Budget:
    facts = {"period": Period.DAY, "is_own": False, "spent_usd": Decimal(0), "reserved_usd": Decimal(0)} | values
    resets_at = datetime(2026, 11, 21 if facts["period"] is Period.DAY else 30, tzinfo=UTC) + timedelta(days=1)
    return Budget(budget_usd=usd, resets_at=resets_at, **facts)


QUEUED = row(RequestStatus.QUEUED)
ROW = {"parent_id": "job_0"}
RESUME = "until POST /v1/batches/job_0/resume, or Resume in the Studio"
CASES = {
    "no step yet": Case(says="its run to begin"),
    "in line": Case(rows=[QUEUED], says="slot: 10 of 10 in use, place 37"),
    "slots are free, the next grant is about to come": Case(
        rows=[QUEUED], line={"in_use": 0, "before": 0}, says="slot: 0 of 10 in use, place 1"
    ),
    "the plan is used up": Case(
        rows=[QUEUED], line={"own_in_use": 3, "before": 0}, says="slot: 3 of the plan's 3 in use, place 1"
    ),
    "the endpoint is used up": Case(
        rows=[row(RequestStatus.QUEUED, endpoint=GPT)],
        line={"endpoint_in_use": 2, "endpoint_cap": 2, "before": 4},
        says="slot: 2 of 2 for openai/gpt-image-2 in use, place 5",
    ),
    "the account is slowed down": Case(
        rows=[QUEUED],
        line={"in_use": 5, "slots": 5},
        says="slot: 5 of 5 in use (of 10, fewer for a while after a 429), place 37",
    ),
    "the provider is out": Case(
        rows=[QUEUED],
        line={"down_since": DOWN, "probe_at": NOW + timedelta(seconds=39.2)},
        says="fal is down since 11:53 UTC, next probe in 40 s",
    ),
    "the provider is out, a retry of its own comes later": Case(
        rows=[row(RequestStatus.QUEUED, not_before=NOW + timedelta(seconds=190))],
        line={"down_since": DOWN, "probe_at": AGO},
        says="fal is down since 11:53 UTC, a probe is due",
    ),
    "the day's budget is spent": Case(
        rows=[row(RequestStatus.QUEUED, estimate_usd=Decimal("0.025"))],
        line={"budgets": [budget(Decimal(5), spent_usd=Decimal("4.90"), reserved_usd=Decimal("0.08"))]},
        says="budget: $4.98 of the plan's $5.00 a day are spent or reserved and it takes $0.025; "
        "the next day begins at 00:00 UTC",
    ),
    "the month's budget of their own is spent, beside the day's": Case(
        rows=[row(RequestStatus.QUEUED, estimate_usd=Decimal("0.05"))],
        line={
            "budgets": [
                budget(Decimal(5), spent_usd=Decimal("4.98")),
                budget(Decimal(20), period=Period.MONTH, is_own=True, spent_usd=Decimal("19.98")),
            ]
        },
        says="budget: $19.98 of the user's own $20.00 a month are spent or reserved and it takes $0.05; "
        "the next month begins on 2026-12-01 at 00:00 UTC",
    ),
    "it just fits the budget": Case(
        rows=[row(RequestStatus.QUEUED, estimate_usd=Decimal("0.02"))],
        line={"budgets": [budget(Decimal(5), spent_usd=Decimal("4.98")), budget(None, period=Period.MONTH)]},
        says="slot: 10 of 10 in use, place 37",
    ),
    "a retry is due later": Case(
        rows=[row(RequestStatus.QUEUED, not_before=NOW + timedelta(seconds=190))], says="a retry at 12:03:10 UTC"
    ),
    "a retry is due now": Case(
        rows=[row(RequestStatus.QUEUED, not_before=AGO)], says="slot: 10 of 10 in use, place 37"
    ),
    "its batch is paused": Case(
        rows=[row(RequestStatus.QUEUED, not_before=PAUSED_UNTIL)],
        job=ROW,
        line={"batch_paused_at": DOWN},
        says=f"its batch, which is paused since 11:53 UTC, {RESUME}",
    ),
    "its batch is paused, and it came back to the queue in the pause": Case(
        rows=[QUEUED],
        job=ROW,
        line={"batch_paused_at": DOWN, "down_since": DOWN},
        says=f"its batch, which is paused since 11:53 UTC, {RESUME}",
    ),
    "its batch is paused, and a retry is due later": Case(
        rows=[row(RequestStatus.QUEUED, not_before=NOW + timedelta(seconds=190))],
        job=ROW,
        line={"batch_paused_at": DOWN},
        says=f"its batch, which is paused since 11:53 UTC, {RESUME}",
    ),
    "its batch goes on": Case(rows=[QUEUED], job=ROW, says="slot: 10 of 10 in use, place 37"),
    "granted, and no run has it": Case(rows=[row(RequestStatus.GRANTED)], says="a run: it has its slot"),
    "granted, and its run has yet to submit": Case(
        rows=[row(RequestStatus.GRANTED)], job={"run_id": "run_1"}, says="its run to submit: it has its slot"
    ),
    "on its way to the provider": Case(
        rows=[row(RequestStatus.SUBMITTING, submitted_at=NOW)], says="fal-ai/flux/dev at fal: submitted 0 s ago"
    ),
    "at the provider": Case(rows=[row(RequestStatus.IN_FLIGHT)], says="fal-ai/flux/dev at fal: submitted 12 s ago"),
    "at the provider for minutes": Case(
        rows=[row(RequestStatus.IN_FLIGHT, submitted_at=NOW - timedelta(seconds=150))],
        says="fal-ai/flux/dev at fal: submitted 2 min ago",
    ),
    "at the provider for hours": Case(
        rows=[row(RequestStatus.IN_FLIGHT, submitted_at=NOW - timedelta(hours=3))],
        says="fal-ai/flux/dev at fal: submitted 3 h ago",
    ),
    "at the provider, to be cancelled": Case(
        rows=[row(RequestStatus.IN_FLIGHT, cancel_requested_at=NOW)],
        says="fal-ai/flux/dev at fal: submitted 12 s ago, cancel asked for",
    ),
    "nobody knows whether the provider has it": Case(
        rows=[row(RequestStatus.UNKNOWN)],
        says="a sign of fal-ai/flux/dev at fal: the submit's answer was lost 12 s ago",
    ),
    "sent once more, as nobody knows": Case(
        rows=[row(RequestStatus.EXPIRED), row(RequestStatus.IN_FLIGHT, attempt=2)],
        says="fal-ai/flux/dev at fal: submitted 12 s ago (a call before it was given up without an answer, and may be "
        "paid, too)",
    ),
    "sent once more, and it is known what the one before has cost": Case(
        rows=[row(RequestStatus.EXPIRED, cost_usd=Decimal("0.025")), row(RequestStatus.IN_FLIGHT, attempt=2)],
        says="fal-ai/flux/dev at fal: submitted 12 s ago",
    ),
    "another step was sent once more": Case(
        rows=[row(RequestStatus.EXPIRED, step="paint"), row(RequestStatus.IN_FLIGHT)],
        says="fal-ai/flux/dev at fal: submitted 12 s ago",
    ),
    "nobody knows whether the provider has it, and it is to be cancelled": Case(
        rows=[row(RequestStatus.UNKNOWN, cancel_requested_at=NOW)],
        says="a sign of fal-ai/flux/dev at fal: the submit's answer was lost 12 s ago, cancel asked for",
    ),
    "cancelled, and its result is there": Case(
        rows=[row(RequestStatus.SUCCEEDED)], job={"cancel_requested_at": NOW}, says="its run to store the result"
    ),
    "several at once": Case(
        rows=[row(RequestStatus.SUCCEEDED), row(RequestStatus.IN_FLIGHT), row(RequestStatus.GRANTED), QUEUED],
        says="fal-ai/flux/dev at fal: submitted 12 s ago; and 2 more",
    ),
    "all done, to be stored": Case(rows=[row(RequestStatus.SUCCEEDED)], says="its run to store the result"),
    "the store refuses": Case(
        rows=[row(RequestStatus.SUCCEEDED)],
        job={"held_reason": "the media store refuses (AccessDenied)", "held_at": AGO},
        says="its run to store the result: the media store refuses (AccessDenied)",
    ),
    "the store refused an hour ago": Case(
        rows=[row(RequestStatus.SUCCEEDED)],
        job={"held_reason": "the media store refuses (AccessDenied)", "held_at": NOW - timedelta(hours=1)},
        says="its run to store the result",
    ),
    "the balance is exhausted": Case(
        rows=[QUEUED],
        line={"down_since": DOWN, "down_reason": "Exhausted balance (top up)", "probe_at": AGO},
        says="fal is down since 11:53 UTC (Exhausted balance (top up)), a probe is due",
    ),
    "failed, to be decided": Case(rows=[row(RequestStatus.FAILED)], says="its run to take the next step"),
    "cancelled before it was submitted": Case(
        rows=[row(RequestStatus.CANCELLED)], job={"cancel_requested_at": NOW}, says="its run to end it: it is cancelled"
    ),
    "completed": Case(rows=[row(RequestStatus.SUCCEEDED)], job={"status": JobStatus.COMPLETED}, says=None),
    "cancelled, though the provider is not done": Case(
        rows=[row(RequestStatus.IN_FLIGHT)], job={"status": JobStatus.CANCELLED}, says=None
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_job_says_what_it_waits_for(case: Case) -> None:
    """One sentence about the first row that is not finished; none about a job that has ended."""
    defaults = {
        "endpoint": "fal-ai/flux/dev",
        "step": "generate",
        "attempt": 1,
        "lane": Lane.INTERACTIVE,
        "account_id": "fal",
    }
    rows = [Request(**defaults | values) for values in case.rows]
    job = Job(**{"id": "job_1", "user_id": "u1", "kind": "generate-image", "status": JobStatus.RUNNING} | case.job)
    line = Line(**vars(LINE) | case.line)

    assert waiting_for(job, rows, line=line, now=NOW) == case.says


@pytest.mark.parametrize(
    ("batch", "passes", "says"),
    [
        ({}, [(12, 40, 3)], "its drafts: 12 of 40 have ended, 3 are under way"),
        (
            {"paused_at": NOW},
            [(12, 40, 0)],
            "its drafts: 12 of 40 have ended, 0 are under way; it is paused since 12:00 UTC, "
            "until POST /v1/batches/job_1/resume, or Resume in the Studio",
        ),
        ({"asked_at": AGO}, [(40, 40, 0)], "a person to choose the winners, since 12 s"),
        (
            {"asked_at": AGO, "answer_by": NOW + timedelta(days=1)},
            [(40, 40, 0)],
            "a person to choose the winners, since 12 s, until 2026-11-21 12:00 UTC",
        ),
        ({"asked_at": AGO, "winners": [1]}, [(40, 40, 0)], "its run to take the next step"),
    ],
)
def test_a_batch_says_what_it_waits_for(batch: dict[str, Any], passes: list[tuple[int, int, int]], says: str) -> None:
    """Its rows, somebody who lets it go on, or somebody who chooses."""
    counts = [
        Counts(
            stage=BatchPass.DRAFT,
            statuses={JobStatus.COMPLETED: ended, JobStatus.PENDING: total - ended},
            in_flight=in_flight,
            last_minute=0,
            calls=total,
            cost_usd=Decimal(0),
        )
        for ended, total, in_flight in passes
    ]
    assert batch_waits_for(Batch(job_id="job_1", rows=40, **batch), counts, now=NOW) == says
