"""Batches on the ledger: written in bulk, handed out slot by slot, chosen from, paused, ended and put back as one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from batch_scenes import carried_by, children, drafted, end_all, hand_out, manifest, order, rows_of
from implying import assigned, creations, grants, wakes
from ledger_databases import Db
from ledger_scenes import FAILURE, SUCCESS, post

from darkroom.clock import utc_now
from darkroom.errors import BadInput, TooMany, WrongState
from darkroom.ledger import (
    BATCH,
    CHOICE,
    NOTHING,
    ROWS,
    BatchPass,
    JobStatus,
    Ledger,
    Run,
    batches,
    database,
)
from darkroom.ledger.rows import Result


@pytest.fixture
def ann(ledger: Ledger) -> str:
    ledger.users.set_plan("studio", in_flight=10, weight=Decimal(1))
    return ledger.users.add("ann", plan="studio").user_id


def look(ledger: Ledger, run: Run, waits: Mapping[str, set[str]]) -> tuple[str, ...]:
    return ledger.runs.poll_work(run.id, waits).ready


def test_a_batch_is_on_record_with_all_its_rows_or_not_at_all(ledger: Ledger, db: Db, ann: str) -> None:
    """In the manifest's order, each with its first call in the queue; the same key again is the same batch."""
    posted = order(ledger, ann, 30, idempotency_key="one")
    assert order(ledger, ann, 30, idempotency_key="one").job.id == posted.job.id
    found = rows_of(ledger, posted.job)
    assert [row.manifest_row for row in found] == list(range(30))
    assert {(row.kind, row.stage, row.user_id) for row in found} == {("generate-image", BatchPass.DRAFT, ann)}
    granted = [ledger.jobs.get(each.job_id) for each in ledger.grants.grant()]
    assert [job.manifest_row for job in granted if job] == list(range(10)), "the first rows first"
    assert [job.id for job in ledger.jobs.page(ann, limit=100)] == [posted.job.id], "its rows are not among the jobs"
    with pytest.raises(TooMany, match="in parts"):
        order(ledger, ann, 20_000)
    assert db.execute("SELECT count(*) AS n FROM batch").fetchone() == {"n": 1}


def statements_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the statements that are sent from now on, to which more are added."""
    sent: list[str] = []
    execute = database._execute

    def note(driver: Any, name: str, parameters: Mapping[str, Any]) -> Result:
        sent.append(name)
        return execute(driver, name, parameters)

    monkeypatch.setattr(database, "_execute", note)
    return sent


def test_ten_thousand_rows_are_written_and_counted_in_bulk(
    ledger: Ledger, ann: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten rows take as many statements as ten thousand."""
    sent = statements_of(monkeypatch)

    def statements(rows: int) -> tuple[int, int]:
        sent.clear()
        batch = order(ledger, ann, rows)
        written = len(sent)
        assert sum(each.total for each in ledger.batches.counts(batch.job.id)) == rows
        return written, len(sent) - written

    assert statements(10) == statements(10_000) > (0, 0)


def test_its_rows_go_to_the_batchs_own_run_as_slots_come_to_them(ledger: Ledger, ann: str) -> None:
    """Never into a run of the user's single pictures, nor those into its run."""
    single = post(ledger, ann)
    hand_out(ledger)
    batch = order(ledger, ann, 30).job
    run = carried_by(ledger, batch)
    assert creations(hand_out(ledger)) == ()
    work = ledger.runs.poll_work(run.id, {})
    assert len(work.open) == 1 + 9, "the batch, and a row for each slot"
    assert work.open[0] == batch.id
    assert single.id not in work.open
    assert not run.shared


def test_a_slot_before_the_batch_has_a_run_makes_that_run(ledger: Ledger, ann: str) -> None:
    """Whoever comes first; there is one for it in the end."""
    batch = order(ledger, ann, 5).job
    (start,) = creations(hand_out(ledger))
    assert start.deployment == f"{BATCH}/on-demand"
    assert ledger.runs.assign(batch.id) == NOTHING
    assert len(ledger.runs.poll_work(start.run_id, {}).open) == 6


def test_two_batches_of_a_user_have_a_run_each(ledger: Ledger, ann: str) -> None:
    """A person is asked in it."""
    runs = [carried_by(ledger, order(ledger, ann, 2).job).id for _ in range(2)]
    assert len(set(runs)) == 2


def test_a_batch_can_go_on_when_all_its_rows_have_ended(ledger: Ledger, ann: str) -> None:
    """And not with each of them: it would be called ten thousand times."""
    batch = order(ledger, ann, 3).job
    run = carried_by(ledger, batch)
    hand_out(ledger)
    waits = {batch.id: {ROWS + batch.id}}
    waits |= {row.id: {row.id} for row in rows_of(ledger, batch)}
    assert look(ledger, run, waits) == ()
    for row in rows_of(ledger, batch):
        assert look(ledger, run, waits) == ()
        ledger.jobs.finish(row.id, JobStatus.COMPLETED)
    assert look(ledger, run, waits) == (batch.id,)


def test_a_batch_that_sleeps_is_woken_for_the_end_of_its_rows(ledger: Ledger, ann: str) -> None:
    """Where nobody was there to see it: its last rows were cancelled one by one."""
    batch = order(ledger, ann, 2).job
    run = carried_by(ledger, batch)
    assert ledger.runs.on_suspended(run.id, {batch.id: {ROWS + batch.id}})
    assert ledger.runs.with_granted() == set()
    for row in rows_of(ledger, batch):
        ledger.jobs.cancel(row.id)
    assert ledger.runs.with_granted() == {run.id}


def test_how_far_it_has_come_is_counted_by_pass(ledger: Ledger, ann: str) -> None:
    """Of the whole, and what it has cost."""
    batch = order(ledger, ann, 12).job
    first = ledger.grants.grant()[0]
    ledger.requests.settle(first.ref, SUCCESS, via="poll")
    ledger.jobs.finish(first.job_id, JobStatus.COMPLETED)
    (draft,) = ledger.batches.counts(batch.id)
    assert (draft.stage, draft.total, draft.ended, draft.in_flight) == (BatchPass.DRAFT, 12, 1, 9)
    assert draft.cost_usd == Decimal("0.025")


@pytest.mark.parametrize(
    ("after_seconds", "left"),
    [(12, 9 * 12 / 3), (60, 9 * 60 / 3), (90, None)],
)
def test_the_time_left_is_told_by_the_time_that_has_passed(
    ledger: Ledger, ledger_url: str, ann: str, db: Db, after_seconds: int, left: float | None
) -> None:
    """Also of a batch that has not had its first minute yet, or that was paused until lately."""
    batch = order(ledger, ann, 12).job
    for first in ledger.grants.grant()[:3]:
        ledger.requests.settle(first.ref, SUCCESS, via="poll")
        ledger.jobs.finish(first.job_id, JobStatus.COMPLETED)
    now = utc_now()
    db.execute("UPDATE request SET granted_at = %s", [now])
    ended = now + timedelta(seconds=min(after_seconds, 20))
    db.execute("UPDATE job SET finished_at = %s WHERE finished_at IS NOT NULL", [ended])
    with closing(Ledger(ledger_url, clock=lambda: now + timedelta(seconds=after_seconds))) as later:
        (draft,) = later.batches.counts(batch.id)
    assert draft.seconds_left == (None if left is None else pytest.approx(left))


def test_a_choice_sends_the_chosen_into_the_second_pass(ledger: Ledger, ann: str) -> None:
    """Once: asked to add them again, nothing is added."""
    batch = drafted(ledger, ann, 6)
    ledger.batches.choose(batch.id, [4, 1], via="api")
    assert ledger.batches.choose(batch.id, [1, 4], via="ui") == NOTHING, "the same choice again"
    found = ledger.batches.get(batch.id)
    assert found is not None and (found.winners, found.chosen_via) == ([1, 4], "api")
    finals = children([row for row in manifest(6) if row.n in (1, 4)])
    assert grants(ledger.batches.add(batch, BatchPass.FINAL, finals))
    assert not grants(ledger.batches.add(batch, BatchPass.FINAL, finals))
    assert [(row.stage, row.manifest_row) for row in rows_of(ledger, batch)][-2:] == [("final", 1), ("final", 4)]


@pytest.mark.parametrize(
    ("winners", "says"), [([0, 2], "no draft came of 2"), ([9], "no draft came of 9"), ([1, 1], "named twice")]
)
def test_a_wrong_choice_is_refused_and_can_be_made_again(
    ledger: Ledger, ann: str, winners: list[int], says: str
) -> None:
    """It names the rows, and chooses nothing."""
    batch = drafted(ledger, ann, 4, failed=(2,))
    with pytest.raises(BadInput, match=says) as refusal:
        ledger.batches.choose(batch.id, winners, via="api")
    assert refusal.value.field == "winners"
    ledger.batches.choose(batch.id, [0, 1], via="api")


def test_nobody_chooses_before_the_drafts_are_done_or_twice(ledger: Ledger, ann: str) -> None:
    """The second pass is under way by then."""
    batch = order(ledger, ann, 3).job
    with pytest.raises(WrongState, match="not done yet"):
        ledger.batches.choose(batch.id, [0], via="api")
    end_all(ledger, batch)
    ledger.batches.await_selection(batch.id, patience=None)
    ledger.batches.choose(batch.id, [0], via="api")
    with pytest.raises(WrongState, match="chosen already"):
        ledger.batches.choose(batch.id, [1], via="api")


def test_a_batch_that_asks_is_woken_by_an_answer_and_by_nothing_else(ledger: Ledger, ann: str) -> None:
    """Not by reconcile either; and the wake tells that an event would not do."""
    batch = drafted(ledger, ann, 3)
    run = carried_by(ledger, batch)
    waits = {batch.id: {CHOICE + batch.id}}
    assert look(ledger, run, waits) == ()
    assert ledger.runs.on_suspended(run.id, waits, awaits_input=True)
    assert ledger.runs.with_granted() == set()
    (wake,) = wakes(ledger.batches.choose(batch.id, [0], via="api"))
    assert wake.awaits_input
    assert look(ledger, run, waits) == (batch.id,)
    assert run.flow_run_id is not None
    again = ledger.runs.enter(run.flow_run_id, run_key=run.id)
    assert again is not None and not again[0].awaits_input


def test_when_the_time_for_a_choice_is_over_the_batch_goes_on(ledger: Ledger, ann: str) -> None:
    """Reconcile finds it, and what is to be done then is the order's to say."""
    batch = order(ledger, ann, 2).job
    end_all(ledger, batch)
    run = carried_by(ledger, batch)
    waits = {batch.id: {CHOICE + batch.id}}
    ledger.batches.await_selection(batch.id, patience=timedelta(hours=1))
    assert ledger.runs.on_suspended(run.id, waits, awaits_input=True)
    assert (look(ledger, run, waits), ledger.runs.with_granted()) == ((), set())
    ledger.batches.await_selection(batch.id, patience=timedelta(0))
    assert ledger.runs.with_granted() == set(), "the first time it was asked counts"


def test_a_paused_batch_gets_no_more_slots_until_it_goes_on(ledger: Ledger, ann: str) -> None:
    """What is under way comes to its end; other work of the user goes on."""
    batch = order(ledger, ann, 30).job
    under_way = ledger.grants.grant()
    ledger.batches.pause(batch.id)
    for each in under_way:
        ledger.requests.settle(each.ref, SUCCESS, via="poll")
    single = post(ledger, ann)
    assert [each.job_id for each in ledger.grants.grant()] == [single.id]
    assert grants(ledger.batches.go_on(batch.id))
    assert len(ledger.grants.grant()) == 9


def test_a_batch_whose_run_a_person_suspends_is_paused_until_a_person_resumes_it(ledger: Ledger, ann: str) -> None:
    """What comes meanwhile wakes the run, and lets nothing more be sent."""
    batch = order(ledger, ann, 30).job
    run = carried_by(ledger, batch)
    under_way = ledger.grants.grant()
    ledger.runs.suspended_by_hand(run.id)
    for each in under_way:
        ledger.requests.settle(each.ref, SUCCESS, via="poll")
    waits = {batch.id: {ROWS + batch.id}}
    assert ledger.runs.on_suspended(run.id, waits)

    ledger.runs.mark_woken(run.id)
    assert run.flow_run_id is not None
    woken = ledger.runs.enter(run.flow_run_id, run_key=run.id)
    assert woken is not None and not grants(woken[1])
    assert ledger.grants.grant() == []

    assert ledger.runs.on_suspended(run.id, waits)
    resumed = ledger.runs.enter(run.flow_run_id, run_key=run.id)
    assert resumed is not None and grants(resumed[1])
    assert len(ledger.grants.grant()) == 10


def test_a_batch_that_is_cancelled_ends_with_all_its_rows(ledger: Ledger, ann: str) -> None:
    """What was not sent ends at once; what the provider has keeps its slot, and the batch ends with the last of it."""
    batch = order(ledger, ann, 30).job
    run = carried_by(ledger, batch)
    granted = ledger.grants.grant()
    ledger.runs.assign(*[each.job_id for each in granted])
    sent = granted[0]
    ledger.requests.begin_submit(sent.ref, deadline=timedelta(hours=1))
    ledger.requests.accepted(sent.ref, request_id="fal-1")
    ledger.jobs.cancel(batch.id)
    open_rows = [row.id for row in rows_of(ledger, batch) if not row.status.terminal]
    assert open_rows == [sent.job_id]
    assert ledger.requests.get(sent.ref).cancel_requested_at is not None
    assert set(look(ledger, run, {batch.id: {batch.id, ROWS + batch.id}, sent.job_id: {sent.ref}})) == {batch.id}
    ledger.requests.settle(sent.ref, FAILURE, via="poll")
    ledger.jobs.finish(sent.job_id, JobStatus.CANCELLED)
    ledger.jobs.finish(batch.id, JobStatus.CANCELLED)
    assert ledger.requests.holding_slots() == []
    assert [each for each in ledger.grants.grant() if ledger.jobs.get(each.job_id)] == []


def test_a_batch_without_a_run_is_cancelled_at_once(ledger: Ledger, ann: str) -> None:
    """Nothing of it was sent."""
    batch = order(ledger, ann, 5).job
    ledger.jobs.cancel(batch.id)
    found = ledger.jobs.get(batch.id)
    assert found is not None and found.status is JobStatus.CANCELLED
    assert {row.status for row in rows_of(ledger, batch)} == {JobStatus.CANCELLED}


def test_a_replay_puts_back_only_the_rows_that_failed(ledger: Ledger, ann: str) -> None:
    """With the batch itself; a row that its user had cancelled stays cancelled."""
    batch = order(ledger, ann, 6).job
    cancelled = rows_of(ledger, batch)[5]
    ledger.jobs.cancel(cancelled.id)
    end_all(ledger, batch, failed=(1, 3))
    ledger.jobs.finish(batch.id, JobStatus.FAILED)
    implied = ledger.jobs.replay(batch.id)
    assert assigned(implied) == (batch.id,) and grants(implied)
    assert [row.manifest_row for row in rows_of(ledger, batch) if not row.status.terminal] == [1, 3]
    assert len(ledger.grants.grant()) == 2


def test_a_batch_that_was_completed_without_some_rows_has_those_to_replay(ledger: Ledger, ann: str) -> None:
    """And none where every row has come."""
    batch = order(ledger, ann, 3).job
    end_all(ledger, batch, failed=(1,))
    ledger.jobs.finish(batch.id, JobStatus.COMPLETED, result={"rows": 3})
    assert grants(ledger.jobs.replay(batch.id))
    with pytest.raises(WrongState, match="under way"):
        ledger.jobs.replay(batch.id)
    end_all(ledger, batch)
    ledger.jobs.finish(batch.id, JobStatus.COMPLETED)
    with pytest.raises(WrongState, match="nothing to replay"):
        ledger.jobs.replay(batch.id)


def test_a_run_that_a_person_retries_goes_on_with_its_batch_and_the_rows_that_failed(ledger: Ledger, ann: str) -> None:
    """Though the batch as a whole was completed; where every row has come, there is nothing to go on with."""
    batch = order(ledger, ann, 4).job
    run = carried_by(ledger, batch)
    end_all(ledger, batch, failed=(2,))
    ledger.jobs.finish(batch.id, JobStatus.COMPLETED)
    assert ledger.runs.close(run.id)
    reopened = ledger.runs.reopen(run.id)
    assert reopened is not None and grants(reopened[1])
    assert set(look(ledger, run, {})) >= {batch.id}
    assert [row.manifest_row for row in rows_of(ledger, batch) if not row.status.terminal] == [2]
    end_all(ledger, batch)
    ledger.jobs.finish(batch.id, JobStatus.COMPLETED)
    assert ledger.runs.close(run.id)
    assert ledger.runs.reopen(run.id) is None


def test_beside_a_batch_that_holds_every_slot_a_single_picture_is_next(ledger: Ledger, ann: str) -> None:
    """Another user's is granted with the next slot that comes free, however long the batch is."""
    order(ledger, ann, 300)
    held = ledger.grants.grant()
    assert len(held) == 10
    single = post(ledger, ledger.users.add("bob").user_id)
    granted: list[str] = []
    for each in held[:2]:
        ledger.requests.settle(each.ref, SUCCESS, via="poll")
        granted += [row.job_id for row in ledger.grants.grant()]
    assert single.id in granted[:2]
    assert len(granted) == 2


def test_the_rows_of_a_paused_batch_wait_with_it_in_the_second_pass_too(ledger: Ledger, ann: str) -> None:
    """Whenever they are written."""
    batch = drafted(ledger, ann, 3)
    ledger.batches.pause(batch.id)
    ledger.batches.choose(batch.id, [0], via="api")
    ledger.batches.add(batch, BatchPass.FINAL, children(manifest(1)))
    assert ledger.grants.grant() == []
    ledger.batches.go_on(batch.id)
    assert len(ledger.grants.grant()) == 1


def test_its_user_hears_of_the_batch_and_not_of_every_row(ledger: Ledger, db: Db, ann: str) -> None:
    """Ten thousand news are none."""
    batch = order(ledger, ann, 5).job
    end_all(ledger, batch)
    ledger.jobs.finish(batch.id, JobStatus.COMPLETED)
    told = db.execute("SELECT job_id, event FROM notification ORDER BY id").fetchall()
    assert [(each["job_id"], each["event"]) for each in told] == [
        (batch.id, "job.created"),
        (batch.id, "job.completed"),
    ]
    assert {row.status for row in rows_of(ledger, batch)} == {JobStatus.COMPLETED}


def test_the_audit_is_read_in_pages_and_has_every_call_of_every_row(
    ledger: Ledger, ann: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "PAGE", 2)
    batch = order(ledger, ann, 5).job
    asked = statements_of(monkeypatch)
    rows = ledger.batches.audit(batch.id)
    assert next(rows)["n"] == 0
    assert asked.count("children_audit") == 1, "what comes later is read later"
    assert [row["n"] for row in rows] == [1, 2, 3, 4]
    assert asked.count("children_audit") == 3
