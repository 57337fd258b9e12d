"""Failed jobs as letters: what they have cost, what another try would cost, and who has put them away."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from ledger_scenes import DEV, FAILURE, GPT, SUCCESS, picture_in_flight, spec, submitting_picture

from blocks.clock import utc_now
from blocks.ledger import DeadLetterFilter, JobStatus, Ledger

PRICE = Decimal("0.025")


@pytest.fixture
def ann(ledger: Ledger) -> str:
    return ledger.users.add("ann", plan="studio").user_id


@pytest.fixture
def bob(ledger: Ledger) -> str:
    return ledger.users.add("bob", plan="studio").user_id


def dead(
    ledger: Ledger,
    user_id: str,
    *,
    code: str = "content_policy",
    kind: str = "permanent",
    generated: bool = False,
    **changes: Any,
) -> str:
    """A job that failed at its one step; or, with `generated`, at a second one after the first was paid."""
    picture = submitting_picture(ledger, user_id, **changes)
    picture.accept(f"fal-{picture.job_id}")
    picture.settle(SUCCESS if generated else FAILURE)
    ref, step = picture.ref, "generate"
    if generated:
        second = ledger.requests.reserve(picture.job_id, spec(step="upscale", endpoint=GPT))
        ledger.requests.settle(second.ref, FAILURE, via="webhook")
        ref, step = second.ref, "upscale"
    error = {"code": code, "class": kind, "message": "No.", "step": step, "ref": ref, "retryable": False}
    ledger.jobs.finish(picture.job_id, JobStatus.FAILED, error=error)
    assert ledger.runs.close(picture.run_id)
    return picture.job_id


def found(ledger: Ledger, **given: Any) -> list[str]:
    """By both ways to ask for them, which name the same: a page, and all at once."""
    which = DeadLetterFilter(**given)
    paged = [letter.job_id for letter in ledger.dead_letters.page(which, limit=100)]
    assert sorted(ledger.dead_letters.job_ids(which)) == sorted(paged)
    assert ledger.dead_letters.price(which).matching == len(paged)
    return paged


def test_a_letter_says_what_failed_what_was_paid_and_what_another_try_costs(ledger: Ledger, ann: str) -> None:
    """The step that has succeeded serves again; the one that failed is what a replay would queue."""
    job_id = dead(ledger, ann, generated=True)
    (letter,) = ledger.dead_letters.page(DeadLetterFilter(), limit=10)
    assert (letter.job_id, letter.code, letter.error_class, letter.step) == (
        job_id,
        "content_policy",
        "permanent",
        "upscale",
    )
    assert (letter.endpoint, letter.message, letter.paid_usd) == (GPT, "No.", PRICE)
    assert [(each.step, each.endpoint, each.cost_usd) for each in letter.reusable] == [("generate", DEV, PRICE)]
    assert [(each.step, each.endpoint, each.estimate_usd) for each in letter.replay] == [("upscale", GPT, PRICE)]
    assert (letter.replay_usd, letter.replayable) == (PRICE, True)


def test_letters_are_found_by_what_is_asked_of_them(ledger: Ledger, ann: str, bob: str) -> None:
    """All that is asked must hold; a job that did not fail is none."""
    refused = dead(ledger, ann)
    later = dead(ledger, ann, code="expired", kind="retry", generated=True)
    of_bob = dead(ledger, bob, code="expired", kind="needs_human")
    picture_in_flight(ledger, ann)
    now = utc_now()
    assert found(ledger) == [of_bob, later, refused]
    assert found(ledger, user_id=ann) == [later, refused]
    assert found(ledger, code="expired") == [of_bob, later]
    assert found(ledger, code="expired", user_id=ann) == [later]
    assert found(ledger, error_class="permanent") == [refused]
    assert found(ledger, endpoint=GPT) == [later]
    assert found(ledger, kind="generate-image", endpoint=DEV) == [of_bob, refused]
    assert found(ledger, kind="train-lora") == []
    assert found(ledger, job_ids=(refused, of_bob)) == [of_bob, refused]
    assert found(ledger, until=now - timedelta(hours=1)) == found(ledger, since=now) == []
    assert len(found(ledger, since=now - timedelta(hours=1), until=now)) == 3
