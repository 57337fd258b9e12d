"""A failed or cancelled job goes back to work, once, and nothing of it that was paid is paid again."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from implying import assigned, creations, grants
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
    webhook,
)

from darkroom.errors import WrongState
from darkroom.ledger import (
    GRANT,
    NOTHING,
    AssignJobs,
    DeadLetterFilter,
    Implied,
    JobStatus,
    Ledger,
    RequestStatus,
    StoredFile,
    Verdict,
)


@pytest.fixture
def failed(ledger: Ledger, ann: str) -> Picture:
    """Its one step failed at the provider, and its run has closed."""
    picture = picture_in_flight(ledger, ann)
    picture.settle(FAILURE)
    end(picture)
    return picture


@pytest.fixture
def unstored(ledger: Ledger, ann: str) -> Picture:
    """Its step has succeeded and is paid; its file could not be stored."""
    picture = picture_in_flight(ledger, ann)
    picture.settle(SUCCESS)
    end(picture)
    return picture


def end(picture: Picture, status: JobStatus = JobStatus.FAILED) -> None:
    picture.ledger.jobs.finish(picture.job_id, status, error={"code": "content_policy", "message": "No."})
    assert picture.ledger.runs.close(picture.run_id)


def keep_file(picture: Picture) -> None:
    file = StoredFile(key="images/fox.png", sha256="0" * 64, content_type="image/png", bytes=1, width=1, height=1)
    picture.ledger.assets.add(picture.job, ref=picture.ref, step="generate", n=0, file=file)


def attempts(picture: Picture) -> list[tuple[int, RequestStatus]]:
    return [(row.attempt, row.status) for row in picture.ledger.requests.of_job(picture.job_id)]


def replay_or_refusal(picture: Picture) -> Implied | WrongState:
    try:
        return picture.ledger.jobs.replay(picture.job_id)
    except WrongState as refusal:
        return refusal


def test_the_failed_step_is_queued_once_more_beside_the_attempt_that_failed(ledger: Ledger, failed: Picture) -> None:
    """The job waits for a slot as a new one does, and no run has it before."""
    assert ledger.jobs.replay(failed.job_id) == (GRANT,)
    assert attempts(failed) == [(1, RequestStatus.FAILED), (2, RequestStatus.QUEUED)]
    job = failed.job
    assert (job.status, job.error, job.run_id, job.finished_at) == (JobStatus.PENDING, None, None, None)
    assert job.replayed_at is not None
    assert ledger.jobs.unassigned() == [], "it has no slot yet"
    (granted,) = ledger.grants.grant()
    assert (granted.job_id, granted.run_id) == (failed.job_id, None)


def test_a_step_that_has_succeeded_is_not_paid_again(ledger: Ledger, db: Db, unstored: Picture) -> None:
    """Its result is collected from the record; a run takes the job though it needs no slot."""
    before = unstored.row
    assert ledger.jobs.replay(unstored.job_id) == (AssignJobs(job_ids=(unstored.job_id,)),)
    assert unstored.row == before
    assert ledger.grants.grant() == []
    assert ledger.jobs.cost(unstored.job_id) == Decimal("0.025")


def test_an_answer_that_came_to_another_job_meanwhile_serves_a_replay(ledger: Ledger, ann: str) -> None:
    """The step that had failed there costs nothing here, and a run takes the job though it waits for no slot."""
    failed = picture_in_flight(ledger, ann, reuse_hash="a fox, enlarged")
    failed.settle(FAILURE)
    end(failed)
    paid = submitting_picture(ledger, ann, reuse_hash="a fox, enlarged")
    paid.settle(SUCCESS)
    keep_file(paid)
    assert ledger.jobs.replay(failed.job_id) == (AssignJobs(job_ids=(failed.job_id,)),)
    assert attempts(failed) == [(1, RequestStatus.FAILED), (2, RequestStatus.SUCCEEDED)]
    assert ledger.requests.of_job(failed.job_id)[1].reused_from == paid.ref
    assert ledger.jobs.unassigned() == [failed.job_id]


def test_what_is_ordered_once_more_is_made_anew_though_its_answer_would_serve(ledger: Ledger, ann: str) -> None:
    """Another picture is meant, not the same one again: it waits for its slot, and is paid."""
    paid = picture_in_flight(ledger, ann, reuse_hash="a fox, enlarged")
    paid.settle(SUCCESS)
    keep_file(paid)
    end(paid)
    again = ledger.jobs.repeat(paid.job_id)
    (row,) = ledger.requests.of_job(again.job.id)
    assert (row.status, row.reused_from, row.cost_usd) == (RequestStatus.QUEUED, None, None)
    assert [each.job_id for each in ledger.grants.grant()] == [again.job.id]


def test_a_replayed_job_that_needs_no_slot_is_not_forgotten(ledger: Ledger, unstored: Picture) -> None:
    """Whoever put it back may have died before a run had it: it is found until one has."""
    ledger.jobs.replay(unstored.job_id)
    assert ledger.jobs.unassigned() == [unstored.job_id]
    (start,) = creations(ledger.runs.assign(unstored.job_id))
    assert ledger.jobs.unassigned() == []
    assert ledger.runs.poll_work(start.run_id, {}).ready == (unstored.job_id,)


def test_what_came_after_the_cancel_is_taken_up_by_a_replay(ledger: Ledger, ann: str) -> None:
    """The provider ran on and was paid. Nothing is queued: the result is there."""
    picture = picture_in_flight(ledger, ann)
    ledger.jobs.cancel(picture.job_id)
    picture.settle(FAILURE)
    end(picture, JobStatus.CANCELLED)
    ledger.jobs.replay(picture.job_id)
    ledger.jobs.cancel(picture.job_id)
    late = ledger.requests.of_job(picture.job_id)[-1]
    assert ledger.requests.settle(late.ref, SUCCESS, via="webhook")[0] is Verdict.LATE
    assert assigned(ledger.jobs.replay(picture.job_id)) == (picture.job_id,)
    assert attempts(picture) == [(1, RequestStatus.FAILED), (2, RequestStatus.SUCCEEDED)]


def test_a_job_that_has_reserved_nothing_is_put_back_as_it_is(ledger: Ledger, db: Db, ann: str) -> None:
    """E.g. one whose run ended before its first line."""
    job = post(ledger, ann)
    ledger.jobs.finish(job.id, JobStatus.FAILED)
    db.execute("DELETE FROM request")
    assert assigned(ledger.jobs.replay(job.id)) == (job.id,)


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, None], ids=["completed", "under way"])
def test_what_is_not_to_be_replayed_is_left_as_it_is(ledger: Ledger, ann: str, status: JobStatus | None) -> None:
    """The refusal says what to do instead."""
    picture = granted_picture(ledger, ann)
    if status is not None:
        ledger.jobs.finish(picture.job_id, status)
    before = (picture.job, attempts(picture))
    with pytest.raises(WrongState):
        ledger.jobs.replay(picture.job_id)
    assert (picture.job, attempts(picture)) == before


def test_a_job_is_not_replayed_while_the_provider_may_bring_its_result(ledger: Ledger, ann: str) -> None:
    """It was cancelled with its run, and the provider runs on: a second attempt would be paid beside the first."""
    picture = picture_in_flight(ledger, ann)
    end(picture, JobStatus.CANCELLED)
    with pytest.raises(WrongState, match="not done"):
        ledger.jobs.replay(picture.job_id)
    picture.settle(FAILURE)
    assert grants(ledger.jobs.replay(picture.job_id))


# -- beside others ---------------------------------------------------------------------------------------------------


def test_replays_at_once_make_one(ledger: Ledger, failed: Picture) -> None:
    """One puts it back, the others find it under way."""
    answers = all_at_once([lambda: replay_or_refusal(failed)] * 6)
    assert sum(isinstance(answer, tuple) for answer in answers) == 1
    assert attempts(failed) == [(1, RequestStatus.FAILED), (2, RequestStatus.QUEUED)]


def test_a_replay_waits_for_the_one_that_came_first(ledger: Ledger, db: Db, failed: Picture) -> None:
    """The second looks at the job after the first has committed, not before."""
    first, second = overlap(
        db, lambda: replay_or_refusal(failed), lambda: replay_or_refusal(failed), at="UPDATE ON job"
    )
    assert (first, type(second)) == ((GRANT,), WrongState)


BESIDE: dict[str, Callable[[Picture], object]] = {
    "cancel": lambda picture: picture.ledger.jobs.cancel(picture.job_id),
    "a webhook": lambda picture: picture.settle(SUCCESS, webhook("fal-1")),
    "reopening its run": lambda picture: picture.ledger.runs.reopen(picture.run_id),
}


@pytest.mark.parametrize("other", BESIDE.values(), ids=BESIDE.keys())
@pytest.mark.parametrize("replay_first", [True, False], ids=["replay first", "replay second"])
def test_a_replay_beside_anything_else_leaves_one_attempt_or_none(
    ledger: Ledger, db: Db, failed: Picture, other: Callable[[Picture], object], replay_first: bool
) -> None:
    """Whoever is first, the job is one that goes on, with one row in the queue, or has ended, with none."""
    if replay_first:
        overlap(db, lambda: replay_or_refusal(failed), lambda: other(failed), at="UPDATE ON job")
    else:
        all_at_once([lambda: other(failed), lambda: replay_or_refusal(failed)])
    queued = [row.attempt for row in ledger.requests.of_job(failed.job_id) if row.status is RequestStatus.QUEUED]
    assert queued == ([] if failed.job.status.terminal else [2])


def test_a_job_that_is_just_put_back_is_not_discarded(ledger: Ledger, db: Db, failed: Picture) -> None:
    """It is no letter any more once who discards it has its turn."""
    letters = DeadLetterFilter(job_ids=(failed.job_id,))
    _, done = overlap(
        db,
        lambda: replay_or_refusal(failed),
        lambda: ledger.dead_letters.discard(letters, reason="not wanted"),
        at="UPDATE ON job",
    )
    assert (done.job_ids, set(done.refused)) == ((), {failed.job_id})
    assert failed.job.discarded_at is None


def test_a_cancel_after_a_replay_ends_it(ledger: Ledger, failed: Picture) -> None:
    """The closed run that had it is nobody to wait for."""
    ledger.jobs.replay(failed.job_id)
    assert grants(ledger.jobs.cancel(failed.job_id))
    assert failed.job.status is JobStatus.CANCELLED
    assert ledger.grants.grant() == []


# -- in the run that had them ----------------------------------------------------------------------------------------


def test_a_run_that_is_opened_again_goes_on_with_what_failed(ledger: Ledger, failed: Picture) -> None:
    """The job stays its own, and a slot rings for it."""
    opened = ledger.runs.reopen(failed.run_id)
    assert opened is not None
    run, implied = opened
    assert (run.id, run.closed_at, implied) == (failed.run_id, None, (GRANT,))
    assert run.alive_until is not None, "it has a process, and is not taken for lost"
    (granted,) = ledger.grants.grant()
    assert (granted.job_id, granted.run_id) == (failed.job_id, failed.run_id)
    assert ledger.runs.poll_work(failed.run_id, {}).ready == (failed.job_id,)
    assert not ledger.runs.close(failed.run_id)


def test_a_run_that_is_opened_again_stores_what_was_paid(ledger: Ledger, unstored: Picture) -> None:
    """Nothing is queued, and no other run takes it."""
    opened = ledger.runs.reopen(unstored.run_id)
    assert opened is not None and opened[1] == NOTHING
    assert ledger.jobs.unassigned() == []
    assert ledger.runs.poll_work(unstored.run_id, {}).ready == (unstored.job_id,)


def test_a_run_that_is_open_puts_back_nothing_that_has_failed_in_it(ledger: Ledger, ann: str) -> None:
    """One that was retried is taken up anew after each wait: what has failed since would be paid for once more."""
    picture = picture_in_flight(ledger, ann)
    picture.settle(FAILURE)
    ledger.jobs.finish(picture.job_id, JobStatus.FAILED)
    assert ledger.runs.reopen(picture.run_id) is None
    assert picture.job.status is JobStatus.FAILED


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.CANCELLED])
def test_a_run_of_which_nothing_failed_stays_closed(ledger: Ledger, ann: str, status: JobStatus) -> None:
    """What its user had cancelled stays cancelled: the retry of a run is not about it."""
    picture = picture_in_flight(ledger, ann)
    if status is JobStatus.CANCELLED:
        ledger.jobs.cancel(picture.job_id)
    picture.settle(SUCCESS if status is JobStatus.COMPLETED else FAILURE)
    end(picture, status)
    assert ledger.runs.reopen(picture.run_id) is None
    assert picture.job.status is status


def test_jobs_that_were_cancelled_with_their_run_go_on_with_it(ledger: Ledger, ann: str) -> None:
    """Nobody had asked for the end of the job itself."""
    picture = granted_picture(ledger, ann)
    ledger.runs.end(picture.run_id)
    ledger.jobs.finish(picture.job_id, JobStatus.CANCELLED)
    opened = ledger.runs.reopen(picture.run_id)
    assert opened is not None and grants(opened[1])


def test_a_run_whose_jobs_went_elsewhere_stays_closed(ledger: Ledger, failed: Picture) -> None:
    """They were replayed: the run that is retried has nothing to do with them."""
    ledger.jobs.replay(failed.job_id)
    assert ledger.runs.reopen(failed.run_id) is None


def test_a_step_of_its_own_is_queued_beside_one_that_succeeded(ledger: Ledger, ann: str) -> None:
    """Of a job of two steps only the failed one is asked for again."""
    picture = picture_in_flight(ledger, ann)
    picture.settle(SUCCESS)
    second = ledger.requests.reserve_all(picture.job_id, [spec(step="upscale")])[0]
    ledger.requests.settle(second.ref, FAILURE, via="webhook")
    end(picture)
    ledger.jobs.replay(picture.job_id)
    rows = [(row.step, row.attempt, row.status.value) for row in ledger.requests.of_job(picture.job_id)]
    assert rows == [("generate", 1, "succeeded"), ("upscale", 1, "failed"), ("upscale", 2, "queued")]
