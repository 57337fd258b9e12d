"""What is begun, refused or asked for beside the end of a batch: nothing more of it is paid."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from batch_scenes import carried_by, children, drafted, hand_out, manifest, order, rows_of
from implying import grants
from interleaving import overlap
from ledger_databases import Db
from ledger_scenes import FAILURE, SUCCESS, post, spec
from reconciling import resources_of

from darkroom.engine.batch_rows import Rows
from darkroom.engine.signals import Cancelled
from darkroom.errors import WrongState
from darkroom.ledger import BATCH, BatchPass, Job, JobStatus, Ledger, Request, RequestStatus


@pytest.fixture
def ann(ledger: Ledger) -> str:
    ledger.users.set_plan("studio", in_flight=10, weight=Decimal(1))
    return ledger.users.add("ann", plan="studio").user_id


ENDS: dict[str, Callable[[Ledger, Job], object]] = {
    "cancel": lambda ledger, batch: ledger.jobs.cancel(batch.id),
    "finish": lambda ledger, batch: ledger.jobs.finish(batch.id, JobStatus.FAILED),
}
end_of_a_batch = pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())


@end_of_a_batch
@pytest.mark.parametrize("pass_first", [True, False], ids=["pass first", "end first"])
def test_a_pass_that_is_begun_beside_the_end_of_its_batch_is_not_paid(
    ledger: Ledger, db: Db, ann: str, end: Callable[[Ledger, Job], object], pass_first: bool
) -> None:
    """Its run has read before that it may go on. Whichever is first, none of the pass' calls gets a slot."""
    batch = drafted(ledger, ann, 3)

    def add() -> object:
        return ledger.batches.add(batch, BatchPass.FINAL, children(manifest(2)))

    def add_too_late() -> None:
        with pytest.raises(WrongState, match="cancelled"):
            add()

    if pass_first:
        overlap(db, add, lambda: end(ledger, batch), at="INSERT ON request")
    else:
        overlap(db, lambda: end(ledger, batch), add_too_late, at="UPDATE ON job")
    assert ledger.grants.grant() == []
    assert all(row.status.terminal for row in rows_of(ledger, batch))


def sent_row(ledger: Ledger, user_id: str) -> tuple[Job, str]:
    """A batch with a call that is being sent."""
    batch = order(ledger, user_id, 2).job
    carried_by(ledger, batch)
    hand_out(ledger)
    ref = ledger.requests.of_job(rows_of(ledger, batch)[0].id)[0].ref
    assert ledger.requests.begin_submit(ref, deadline=timedelta(hours=1)) is not None
    return batch, ref


ANSWERS: dict[str, Callable[[Ledger, str], object]] = {
    "being sent": lambda ledger, ref: None,
    "lost": lambda ledger, ref: ledger.requests.answer_lost(ref),
    "accepted": lambda ledger, ref: ledger.requests.accepted(ref, request_id="fal-1"),
}


@end_of_a_batch
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_row_whose_call_the_provider_may_have_waits_for_it_after_the_end_of_its_batch(
    ledger: Ledger, ann: str, end: Callable[[Ledger, Job], object], answer: Callable[[Ledger, str], object]
) -> None:
    """It is asked to end, and may have been paid by then: its picture is the row's."""
    batch, ref = sent_row(ledger, ann)
    answer(ledger, ref)
    end(ledger, batch)
    call, row = ledger.requests.get(ref), rows_of(ledger, batch)[0]
    assert call.cancel_requested_at is not None and not call.status.terminal
    assert row.finished_at is None
    ledger.requests.settle(ref, SUCCESS, via="poll")
    assert ledger.requests.get(ref).status is RequestStatus.SUCCEEDED


@end_of_a_batch
@pytest.mark.parametrize("at", ["UPDATE ON job", "UPDATE ON request"])
def test_a_call_that_is_refused_beside_the_end_of_its_batch_is_not_queued(
    ledger: Ledger, db: Db, ann: str, end: Callable[[Ledger, Job], object], at: str
) -> None:
    """It waits for the run. Else it is queued where what was sent is looked for, and sent where what waits is."""
    batch, ref = sent_row(ledger, ann)

    def refuse() -> object:
        return ledger.requests.refused(ref, error={"code": "rate_limited"}, not_before=None)

    overlap(db, lambda: end(ledger, batch), refuse, at=at)
    assert ledger.requests.get(ref).status is RequestStatus.CANCELLED
    assert ledger.grants.grant() == []


@end_of_a_batch
def test_a_call_in_another_run_that_is_refused_beside_the_end_of_its_batch_is_not_queued(
    ledger: Ledger, db: Db, ann: str, end: Callable[[Ledger, Job], object]
) -> None:
    """A row that was put back before its batch was has a run of its own, which the batch's end does not lock."""
    batch = order(ledger, ann, 2).job
    ledger.jobs.cancel(batch.id)
    row = rows_of(ledger, batch)[0]
    ledger.jobs.replay(row.id)
    hand_out(ledger)
    ref = ledger.requests.of_job(row.id)[-1].ref
    assert ledger.requests.begin_submit(ref, deadline=timedelta(hours=1)) is not None
    ledger.jobs.replay(batch.id)

    def refuse() -> object:
        return ledger.requests.refused(ref, error={"code": "rate_limited"}, not_before=None)

    overlap(db, lambda: end(ledger, batch), refuse, at="UPDATE ON request")
    assert ledger.requests.get(ref).status is RequestStatus.CANCELLED


def test_the_end_of_a_batch_waits_for_who_holds_its_run(ledger: Ledger, db: Db, ann: str) -> None:
    """Its rows' calls are settled with the run locked, several at a time."""
    batch, ref = sent_row(ledger, ann)
    refused, _ = overlap(
        db,
        lambda: ledger.requests.refused(ref, error={"code": "rate_limited"}, not_before=None),
        lambda: ledger.jobs.finish(batch.id, JobStatus.FAILED),
        at="UPDATE ON request",
    )
    assert grants(refused)
    assert ledger.requests.get(ref).status is RequestStatus.CANCELLED
    assert ledger.requests.holding_slots() == []


def test_a_call_of_a_job_that_has_ended_is_ended_by_the_grant(ledger: Ledger, db: Db, ann: str) -> None:
    """However it was left behind. The slot goes to the next in line."""
    left = post(ledger, ann)
    db.execute("UPDATE job SET status = 'failed', finished_at = now() WHERE id = %s", [left.id])
    other = post(ledger, ann)
    ledger.users.set_account("fal", slots=1)
    assert [each.job_id for each in ledger.grants.grant()] == [other.id]
    (call,) = ledger.requests.of_job(left.id)
    assert call.status is RequestStatus.CANCELLED and call.finished_at is not None


@end_of_a_batch
@pytest.mark.parametrize("step_first", [True, False], ids=["step first", "end first"])
def test_a_row_reserves_no_further_step_beside_the_end_of_its_batch(
    ledger: Ledger, db: Db, ann: str, end: Callable[[Ledger, Job], object], step_first: bool
) -> None:
    """A row that has its picture goes on to its end, as that is paid; what would come after it is not."""
    batch = order(ledger, ann, 2).job
    carried_by(ledger, batch)
    hand_out(ledger)
    row = rows_of(ledger, batch)[0]
    (first,) = ledger.requests.of_job(row.id)
    ledger.requests.settle(first.ref, SUCCESS, via="poll")

    def reserve() -> object:
        return ledger.requests.reserve_all(row.id, [spec(step="upscale")])

    if step_first:
        overlap(db, reserve, lambda: end(ledger, batch), at="INSERT ON request")
    else:
        overlap(db, lambda: end(ledger, batch), reserve, at="UPDATE ON request")
    statuses = {each.step: each.status for each in ledger.requests.of_job(row.id)}
    assert statuses == {"generate": RequestStatus.SUCCEEDED, "upscale": RequestStatus.CANCELLED}
    found = ledger.jobs.get(row.id)
    assert found is not None and not found.status.terminal


def test_a_row_that_is_put_back_after_the_end_of_its_batch_is_paid_again(ledger: Ledger, ann: str) -> None:
    """By itself, with the steps that it has yet to take; and so are those that are put back with their batch."""
    batch = order(ledger, ann, 2).job
    ledger.jobs.cancel(batch.id)
    row = rows_of(ledger, batch)[0]
    ledger.jobs.replay(row.id)
    assert [each.job_id for each in ledger.grants.grant()] == [row.id]
    (upscale,) = ledger.requests.reserve_all(row.id, [spec(step="upscale")])
    assert upscale.status is RequestStatus.QUEUED
    ledger.jobs.replay(batch.id)
    assert len(ledger.grants.grant()) == 2


def test_the_function_of_a_batch_that_was_cancelled_meanwhile_ends_as_cancelled(ledger: Ledger, ann: str) -> None:
    """In the first pass and in the second."""
    unwritten = ledger.jobs.post(user_id=ann, kind=BATCH, parameters={}).job
    batch = drafted(ledger, ann, 2)
    for job in (unwritten, batch):
        ledger.jobs.cancel(job.id)
    with pytest.raises(Cancelled):
        Rows(unwritten, resources_of(ledger)).open(manifest(1), children(manifest(1)), forecast={})
    with pytest.raises(Cancelled):
        Rows(batch, resources_of(ledger)).add(BatchPass.FINAL, children(manifest(1)))
    assert ledger.grants.grant() == []


def test_a_run_that_is_retried_before_the_provider_is_done_requeues_no_row(ledger: Ledger, ann: str) -> None:
    """Not even those before the one that the provider still has: they would be paid for a batch that has ended."""
    batch = order(ledger, ann, 3).job
    run = carried_by(ledger, batch)
    first, second, _ = hand_out_all(ledger)
    ledger.requests.settle(first.ref, FAILURE, via="poll")
    ledger.jobs.finish(first.job_id, JobStatus.FAILED)
    ledger.requests.begin_submit(second.ref, deadline=timedelta(hours=1))
    ledger.requests.accepted(second.ref, request_id="fal-1")
    for job_id in ledger.runs.end(run.id):  # it has ended in Prefect
        ledger.jobs.finish(job_id, JobStatus.FAILED)
    assert ledger.runs.reopen(run.id) is None
    assert all(row.status.terminal for row in rows_of(ledger, batch))
    assert ledger.grants.grant() == []

    ledger.requests.settle(second.ref, FAILURE, via="poll")
    assert ledger.runs.reopen(run.id) is not None
    assert len(ledger.grants.grant()) == 3


def hand_out_all(ledger: Ledger) -> list[Request]:
    granted = ledger.grants.grant()
    ledger.runs.assign(*[each.job_id for each in granted])
    return granted
