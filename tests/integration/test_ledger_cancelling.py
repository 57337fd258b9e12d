"""A cancel beside everything else that happens to the job: nothing is queued, paid or held for it afterwards.

And nobody waits in a circle: run, job, request, in this order; the grant takes the account and waits for no request.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from implying import creations, grants
from interleaving import all_at_once, overlap
from ledger_databases import Db
from ledger_scenes import (
    FAILURE,
    SUCCESS,
    Picture,
    granted_picture,
    picture_in_flight,
    post,
    spec,
    submitting_picture,
)

from darkroom.ledger import Granted, Job, JobStatus, Ledger, RequestStatus, Verdict, admission
from darkroom.ledger.admission import Candidate, pick

JOBS = 12


def statuses(ledger: Ledger, job_id: str) -> list[RequestStatus]:
    return [row.status for row in ledger.requests.of_job(job_id)]


def test_a_cancel_ends_a_row_that_is_being_granted(ledger: Ledger, db: Db, ann: str) -> None:
    """It waits for the grant, and the slot is free again."""
    job = post(ledger, ann)
    granted, implied = overlap(db, ledger.grants.grant, lambda: ledger.jobs.cancel(job.id), at="UPDATE ON request")
    assert [each.job_id for each in granted] == [job.id]
    assert grants(implied)
    assert statuses(ledger, job.id) == [RequestStatus.CANCELLED]
    assert ledger.requests.holding_slots() == []


def test_a_cancel_waits_for_what_a_gateway_has_sent_before_there_was_a_run(ledger: Ledger, ann: str) -> None:
    """No run has the job yet, but its call may be paid: the run that is made for it hears of the cancel."""
    job = post(ledger, ann)
    (granted,) = ledger.grants.grant()
    assert ledger.requests.begin_ahead({granted.ref: timedelta(minutes=30)}, most=1)
    ledger.jobs.cancel(job.id)
    after = ledger.jobs.get(job.id)
    assert after is not None and (after.finished_at, after.run_id) == (None, None)
    (row,) = ledger.requests.of_job(job.id)
    assert row.status is RequestStatus.SUBMITTING and row.cancel_requested_at is not None


def test_a_row_that_is_being_cancelled_is_not_granted(ledger: Ledger, db: Db, ann: str) -> None:
    """The grant passes it over: one that waited for a row, with the account locked, could wait in a circle."""
    job = post(ledger, ann)

    def grant_and_look() -> tuple[list[Granted], list[RequestStatus]]:
        return ledger.grants.grant(), statuses(ledger, job.id)

    _, (granted, seen) = overlap(db, lambda: ledger.jobs.cancel(job.id), grant_and_look, at="UPDATE ON request")
    assert granted == []
    assert seen == [RequestStatus.QUEUED], "the grant waited until the cancel had committed"
    assert statuses(ledger, job.id) == [RequestStatus.CANCELLED]


def test_a_row_that_has_ended_since_it_was_picked_is_not_granted(
    ledger: Ledger, ann: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The grant holds no row while it decides: a refusal that was none is told by its webhook meanwhile."""
    job = post(ledger, ann)

    def pick_and_settle(*given: Any, **limits: Any) -> list[Candidate]:
        picked = pick(*given, **limits)
        for each in picked:
            ledger.requests.settle(each.ref, SUCCESS, via="webhook")
        return picked

    monkeypatch.setattr(admission, "pick", pick_and_settle)
    assert ledger.grants.grant() == []
    assert statuses(ledger, job.id) == [RequestStatus.SUCCEEDED]


def test_a_result_that_is_being_written_stands(ledger: Ledger, db: Db, ann: str) -> None:
    """What has ended is not asked to end."""
    picture = picture_in_flight(ledger, ann)
    (verdict, _), _ = overlap(db, picture.settle, lambda: ledger.jobs.cancel(picture.job_id), at="UPDATE ON request")
    assert verdict is Verdict.SETTLED
    assert (picture.row.status, picture.row.cancel_requested_at) == (RequestStatus.SUCCEEDED, None)


def test_a_result_that_comes_while_the_job_is_cancelled_is_kept(ledger: Ledger, db: Db, ann: str) -> None:
    """It is paid."""
    picture = picture_in_flight(ledger, ann)
    _, (verdict, _) = overlap(db, lambda: ledger.jobs.cancel(picture.job_id), picture.settle, at="UPDATE ON job")
    assert verdict is Verdict.SETTLED
    assert picture.row.status is RequestStatus.SUCCEEDED
    assert picture.row.cancel_requested_at is not None


ENDS: dict[str, Callable[[Picture], object]] = {
    "cancel": lambda picture: picture.ledger.jobs.cancel(picture.job_id),
    "finish": lambda picture: picture.ledger.jobs.finish(picture.job_id, JobStatus.FAILED),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize("reserve_first", [True, False], ids=["step first", "end first"])
def test_a_step_reserved_beside_the_end_of_its_job_is_not_queued(
    ledger: Ledger, db: Db, ann: str, end: Callable[[Picture], object], reserve_first: bool
) -> None:
    """Without the job's lock in `reserve` the row would be granted, and hold its slot with nobody to submit it."""
    picture = granted_picture(ledger, ann)

    def reserve() -> object:
        return ledger.requests.reserve_all(picture.job_id, [spec(step="upscale")])[0]

    if reserve_first:
        overlap(db, reserve, lambda: end(picture), at="INSERT ON request")
    else:
        overlap(db, lambda: end(picture), reserve, at="UPDATE ON job")
    assert statuses(ledger, picture.job_id) == [RequestStatus.CANCELLED, RequestStatus.CANCELLED]


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_a_call_that_is_refused_beside_the_end_of_its_job_is_not_queued(
    ledger: Ledger, db: Db, ann: str, end: Callable[[Picture], object]
) -> None:
    """Looked at while the refusal is being written it is neither sent nor queued, and would be paid for nobody."""
    picture = submitting_picture(ledger, ann)

    def refuse() -> object:
        return ledger.requests.refused(picture.ref, error={"code": "busy"}, not_before=None)

    overlap(db, refuse, lambda: end(picture), at="UPDATE ON request")
    assert picture.row.status is RequestStatus.CANCELLED


def test_a_cancelled_row_is_not_submitted(ledger: Ledger, db: Db, ann: str) -> None:
    """The POST leaves only after the row says so, and a row that was cancelled cannot say so."""
    picture = granted_picture(ledger, ann)
    ledger.jobs.cancel(picture.job_id)
    with pytest.raises(AssertionError):
        picture.submit()
    assert picture.row.submitted_at is None


def test_a_gateway_sends_nothing_for_a_job_whose_cancel_was_asked_for(ledger: Ledger, db: Db, ann: str) -> None:
    """However its call still has a slot: a run is made for it, and finds out."""
    picture = granted_picture(ledger, ann)
    db.execute("UPDATE job SET cancel_requested_at = now() WHERE id = %s", [picture.job_id])
    assert not ledger.requests.begin_ahead({picture.ref: timedelta(hours=1)}, most=1)
    assert picture.row.submitted_at is None


@pytest.mark.parametrize("picture_of", [submitting_picture, picture_in_flight])
def test_a_cancel_keeps_the_slot_of_what_the_provider_may_have(
    ledger: Ledger, ann: str, picture_of: Callable[[Ledger, str], Picture]
) -> None:
    """A running job runs on and is billed: the slot is free when the provider is done with it."""
    picture = picture_of(ledger, ann)
    status = picture.row.status
    assert not grants(ledger.jobs.cancel(picture.job_id))
    assert (picture.row.status, picture.row.finished_at) == (status, None)
    assert picture.row.cancel_requested_at is not None
    assert grants(picture.settle()[1])


def test_a_refusal_after_the_cancel_ends_the_row(ledger: Ledger, ann: str) -> None:
    """Back in the queue it would be submitted, and paid, for a job that was cancelled."""
    picture = submitting_picture(ledger, ann)
    ledger.jobs.cancel(picture.job_id)
    assert grants(ledger.requests.refused(picture.ref, error={"code": "rate_limited"}, not_before=None))
    assert picture.row.status is RequestStatus.CANCELLED
    assert ledger.grants.grant() == []


def test_a_cancel_of_what_has_ended_changes_nothing(ledger: Ledger, ann: str) -> None:
    """Neither the job's status nor its news."""
    picture = granted_picture(ledger, ann)
    ledger.jobs.finish(picture.job_id, JobStatus.COMPLETED)
    ledger.jobs.cancel(picture.job_id)
    assert (picture.job.status, picture.job.cancel_requested_at) == (JobStatus.COMPLETED, None)


def test_nobody_waits_in_a_circle(ledger: Ledger, db: Db, ann: str) -> None:
    """Eight threads do anything to the same few jobs, in any order: no deadlock, and at the end no slot is held.

    With the request locked before its run, or the rows of a job before the job, Postgres ends some with an error.
    """
    jobs = [post(ledger, ann) for _ in range(JOBS)]

    def meddle(seed: int) -> None:
        chance = random.Random(seed)
        for job in jobs:
            for action in chance.sample(ACTIONS, k=6):
                action(ledger, job, chance)

    all_at_once([lambda seed=seed: meddle(seed) for seed in range(8)])
    for job in jobs:
        ledger.jobs.cancel(job.id)
        ledger.jobs.finish(job.id, JobStatus.CANCELLED)
        for row in ledger.requests.of_job(job.id):
            ledger.requests.settle(row.ref, FAILURE, via="poll")
    assert ledger.requests.holding_slots() == []
    assert ledger.grants.grant() == []


def _grant(ledger: Ledger, job: Job, chance: random.Random) -> None:
    for granted in ledger.grants.grant():
        if granted.run_id is None:
            ledger.runs.assign(granted.job_id)
        else:
            ledger.runs.notify(granted.run_id, granted.ref)


def _place(ledger: Ledger, job: Job, chance: random.Random) -> None:
    for start in creations(ledger.runs.assign(job.id)):
        ledger.runs.created(start.run_id, uuid4())


def _leave_or_close(ledger: Ledger, job: Job, chance: random.Random) -> None:
    run_id = _run_id(ledger, job)
    if run_id is not None:
        waits = {each.id: {row.ref for row in ledger.requests.of_job(each.id)} for each in ledger.jobs.of_run(run_id)}
        ledger.runs.on_suspended(run_id, waits)
        ledger.runs.close(run_id)


def _submit(ledger: Ledger, job: Job, chance: random.Random) -> None:
    for row in ledger.requests.of_job(job.id):
        if ledger.requests.begin_submit(row.ref, deadline=timedelta(hours=1)) is None:
            continue
        if chance.random() < 0.5:
            ledger.requests.answer_lost(row.ref)
        else:
            ledger.requests.accepted(row.ref, request_id=row.ref)


def _settle(ledger: Ledger, job: Job, chance: random.Random) -> None:
    for row in ledger.requests.of_job(job.id):
        ledger.requests.settle(row.ref, chance.choice([SUCCESS, FAILURE]), via="webhook")


def _reserve(ledger: Ledger, job: Job, chance: random.Random) -> None:
    ledger.requests.reserve_all(job.id, [spec(step=chance.choice(["upscale", "watermark"]))])


def _cancel(ledger: Ledger, job: Job, chance: random.Random) -> None:
    ledger.jobs.cancel(job.id)


def _finish(ledger: Ledger, job: Job, chance: random.Random) -> None:
    ledger.jobs.finish(job.id, chance.choice([JobStatus.COMPLETED, JobStatus.FAILED]))


def _run_id(ledger: Ledger, job: Job) -> str | None:
    found = ledger.jobs.get(job.id)
    return found and found.run_id


ACTIONS = [_grant, _place, _leave_or_close, _submit, _settle, _reserve, _cancel, _finish]
