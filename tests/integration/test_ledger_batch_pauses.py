"""A paused batch: nothing more of it is granted, by whichever way a call of it comes to the queue."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import pytest
from batch_scenes import carried_by, hand_out, order, rows_of
from implying import grants
from interleaving import overlap
from ledger_databases import Db
from ledger_scenes import FAILURE, SUCCESS, post, spec
from sqlalchemy import text

from darkroom.clock import utc_now
from darkroom.errors import WrongState
from darkroom.ledger import ROWS, Job, JobStatus, Lane, Ledger, Run
from darkroom.ledger.batches import let_go
from darkroom.ledger.database import make_engine

SOON = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A batch of one row whose call is under way."""

    batch: Job
    run: Run
    row: Job
    ref: str


@pytest.fixture
def sent(ledger: Ledger) -> Sent:
    ledger.users.set_plan("studio", in_flight=10, weight=Decimal(1))
    ledger.users.set_account("fal", slots=1)
    batch = order(ledger, ledger.users.add("ann", plan="studio").user_id, 1).job
    run = carried_by(ledger, batch)
    hand_out(ledger)
    (row,) = rows_of(ledger, batch)
    (call,) = ledger.requests.of_job(row.id)
    assert ledger.requests.begin_submit(call.ref, deadline=timedelta(hours=1)) is not None
    return Sent(batch=batch, run=run, row=row, ref=call.ref)


def again(ledger: Ledger, sent: Sent, **changes: object) -> None:
    ledger.requests.settle(sent.ref, FAILURE, via="poll")
    ledger.requests.reserve_all(sent.row.id, [spec(attempt=2, lane=Lane.CONTINUE, **changes)])


def next_step(ledger: Ledger, sent: Sent) -> None:
    ledger.requests.settle(sent.ref, SUCCESS, via="poll")
    ledger.requests.reserve_all(sent.row.id, [spec(step="upscale", lane=Lane.CONTINUE)])


def waits_for(ledger: Ledger, job_id: str) -> str:
    job = ledger.jobs.get(job_id)
    assert job is not None
    return str(ledger.waiting_for(job, ledger.requests.of_job(job_id)))


COMES: dict[str, Callable[[Ledger, Sent], object]] = {
    "refused": lambda ledger, sent: ledger.requests.refused(sent.ref, error={"code": "busy"}, not_before=None),
    "refused for a time": lambda ledger, sent: ledger.requests.refused(
        sent.ref, error={"code": "busy"}, not_before=utc_now() - timedelta(seconds=1)
    ),
    "a new attempt": again,
    "a new attempt after a time": lambda ledger, sent: again(ledger, sent, not_before=utc_now() - timedelta(seconds=1)),
    "the next step": next_step,
}


@pytest.mark.parametrize("comes", COMES.values(), ids=COMES.keys())
def test_what_comes_back_to_the_queue_waits_for_the_batch_to_go_on(
    ledger: Ledger, sent: Sent, comes: Callable[[Ledger, Sent], object]
) -> None:
    """And takes nobody's turn: the slot goes to the next in line."""
    ledger.batches.pause(sent.batch.id)
    comes(ledger, sent)
    single = post(ledger, sent.batch.user_id)
    assert "paused" in waits_for(ledger, sent.row.id), "it has no place in line"
    assert [each.job_id for each in ledger.grants.grant()] == [single.id]
    assert "paused" in waits_for(ledger, sent.row.id)
    ledger.requests.settle(ledger.requests.of_job(single.id)[0].ref, SUCCESS, via="poll")
    assert ledger.grants.grant() == []
    ledger.batches.go_on(sent.batch.id)
    assert "paused" not in waits_for(ledger, sent.row.id)
    assert [each.job_id for each in ledger.grants.grant()] == [sent.row.id]


def test_a_retry_that_falls_due_in_a_pause_waits_for_its_end(ledger: Ledger, ledger_url: str, sent: Sent) -> None:
    """It had its time already as the batch was paused."""
    ledger.requests.refused(sent.ref, error={"code": "busy"}, not_before=utc_now() + SOON)
    ledger.batches.pause(sent.batch.id)
    with closing(Ledger(ledger_url, clock=lambda: utc_now() + 2 * SOON)) as later:
        assert later.grants.grant() == []
    ledger.batches.go_on(sent.batch.id)
    assert [each.job_id for each in ledger.grants.grant()] == [sent.row.id]


def test_a_retry_keeps_its_time_over_a_pause_that_is_shorter(ledger: Ledger, sent: Sent) -> None:
    """The provider has said when."""
    due = utc_now() + SOON
    ledger.requests.refused(sent.ref, error={"code": "busy"}, not_before=due)
    ledger.batches.pause(sent.batch.id)
    assert ledger.grants.grant() == []
    ledger.batches.go_on(sent.batch.id)
    assert ledger.grants.grant() == []
    assert ledger.requests.get(sent.ref).not_before == due


@pytest.mark.parametrize("grant_first", [True, False], ids=["grant first", "go on first"])
def test_what_a_grant_holds_while_its_batch_goes_on_is_not_held_for_good(
    ledger: Ledger, db: Db, sent: Sent, grant_first: bool
) -> None:
    """Whoever lets it go on asks for a grant afterwards, and that finds the call."""
    ledger.batches.pause(sent.batch.id)
    ledger.requests.refused(sent.ref, error={"code": "busy"}, not_before=None)

    def go_on() -> object:
        return ledger.batches.go_on(sent.batch.id)

    if grant_first:
        granted, _ = overlap(db, ledger.grants.grant, go_on, at="UPDATE ON request")
    else:
        _, granted = overlap(db, go_on, ledger.grants.grant, at="UPDATE ON batch")
    assert granted == []
    assert [each.job_id for each in ledger.grants.grant()] == [sent.row.id]


def test_a_batch_that_goes_on_in_the_midst_of_a_grant_is_not_held_for_good(
    ledger: Ledger, ledger_url: str, db: Db, sent: Sent
) -> None:
    """The grant has seen the pause when it comes to hold the call: who let the batch go on has found nothing held."""
    ledger.batches.pause(sent.batch.id)
    ledger.requests.refused(sent.ref, error={"code": "busy"}, not_before=None)
    engine = make_engine(ledger_url)

    def go_on() -> None:
        with engine.begin() as connection:
            # A grant that reads the batches passes by this lock; one that is to lock a batch waits for it.
            connection.execute(text("LOCK TABLE batch IN EXCLUSIVE MODE"))
            let_go(connection, sent.batch.id)

    try:
        _, granted = overlap(db, go_on, ledger.grants.grant, at="UPDATE ON batch")
    finally:
        engine.dispose()
    assert granted == []
    assert [each.job_id for each in ledger.grants.grant()] == [sent.row.id]


def test_a_grant_waits_for_nobody_who_holds_a_paused_batch(ledger: Ledger, db: Db, sent: Sent) -> None:
    """It could wait in a circle; and what it cannot hold it does not grant either."""
    ledger.batches.pause(sent.batch.id)
    ledger.requests.refused(sent.ref, error={"code": "busy"}, not_before=None)
    with db.transaction():
        db.execute("SELECT FROM batch FOR UPDATE")
        assert ledger.grants.grant() == []


def test_a_batch_that_is_put_back_is_paused_no_more(ledger: Ledger, sent: Sent) -> None:
    """Nor is a row that is put back by itself once its batch has ended: nobody could let that go on."""
    ledger.batches.pause(sent.batch.id)
    ledger.requests.settle(sent.ref, FAILURE, via="poll")
    ledger.jobs.finish(sent.row.id, JobStatus.FAILED)
    ledger.jobs.finish(sent.batch.id, JobStatus.FAILED)

    ledger.jobs.replay(sent.row.id)
    (granted,) = ledger.grants.grant()
    ledger.requests.settle(granted.ref, FAILURE, via="poll")
    ledger.jobs.finish(sent.row.id, JobStatus.FAILED)

    ledger.jobs.replay(sent.batch.id)
    found = ledger.batches.get(sent.batch.id)
    assert found is not None and found.paused_at is None
    assert [each.job_id for each in ledger.grants.grant()] == [sent.row.id]


def test_who_resumes_a_run_that_is_just_leaving_lets_its_batch_go_on(ledger: Ledger, db: Db, sent: Sent) -> None:
    """Prefect lets a person resume it before the process that leaves has its own word on record."""
    ledger.runs.suspended_by_hand(sent.run.id)
    ledger.requests.settle(sent.ref, FAILURE, via="poll")
    ledger.requests.reserve_all(sent.row.id, [spec(attempt=2, lane=Lane.CONTINUE)])
    waits = {sent.batch.id: {ROWS + sent.batch.id}, sent.row.id: {sent.row.id}}
    flow_run_id = sent.run.flow_run_id
    assert flow_run_id is not None

    left, resumed = overlap(
        db,
        lambda: ledger.runs.on_suspended(sent.run.id, waits),
        lambda: ledger.runs.enter(flow_run_id, run_key=sent.run.id),
        at="UPDATE ON run",
    )
    assert left and resumed is not None and grants(resumed[1])
    assert [each.job_id for each in ledger.grants.grant()] == [sent.row.id]


def test_a_batch_that_ends_as_a_person_suspends_its_run_has_ended(ledger: Ledger, db: Db, sent: Sent) -> None:
    """Who notes the suspension finds nothing to pause any more, and that is no mistake of the run's."""
    overlap(
        db,
        lambda: ledger.jobs.finish(sent.batch.id, JobStatus.COMPLETED),
        lambda: ledger.runs.suspended_by_hand(sent.run.id),
        at="UPDATE ON job",
    )
    found = ledger.batches.get(sent.batch.id)
    assert found is not None and found.paused_at is None


def test_a_batch_that_has_ended_is_not_paused_and_does_not_go_on(ledger: Ledger, sent: Sent) -> None:
    """Who asks for it is told so."""
    ledger.jobs.finish(sent.batch.id, JobStatus.COMPLETED)
    for change in (ledger.batches.pause, ledger.batches.go_on):
        with pytest.raises(WrongState, match="has ended"):
            change(sent.batch.id)
