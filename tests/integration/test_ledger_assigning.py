"""A job is handed to exactly one run, to one that is open, and whoever changes the job meanwhile finds it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from implying import creations, grants
from interleaving import all_at_once, overlap
from ledger_databases import Db
from ledger_scenes import (
    KIND,
    SUCCESS,
    Picture,
    granted_picture,
    picture_in_flight,
    post,
    spec,
    submitting_picture,
    webhook,
)
from sqlalchemy import Connection

from darkroom.ledger import READY, Job, JobStatus, Ledger, RequestStatus, Run, Verdict, runs
from darkroom.ledger.database import make_engine
from darkroom.ledger.locks import lock_run_of_job, lock_run_of_request
from darkroom.ledger.runs import MOST_JOBS


@pytest.fixture
def idle(ledger: Ledger, ann: str) -> Picture:
    """A run that has finished its job and lingers."""
    picture = granted_picture(ledger, ann)
    ledger.jobs.finish(picture.job_id, JobStatus.COMPLETED)
    return picture


@pytest.fixture
def job(ledger: Ledger, ann: str) -> Job:
    return post(ledger, ann)


def run_and_its_end(db: Db, job: Job) -> tuple[str, bool]:
    """Which run carries the job, and whether that one is closed."""
    found = db.execute(
        "SELECT run.id, run.closed_at FROM job JOIN run ON run.id = job.run_id WHERE job.id = %s", [job.id]
    ).fetchone()
    assert found is not None, "no run carries the job"
    return found["id"], found["closed_at"] is not None


def test_a_job_that_is_being_added_keeps_the_run_open(ledger: Ledger, db: Db, idle: Picture, job: Job) -> None:
    """A close that asks in one statement with the wait (`UPDATE … WHERE NOT EXISTS`) closes over the new job."""
    implied, closed = overlap(
        db, lambda: ledger.runs.assign(job.id), lambda: ledger.runs.close(idle.run_id), at="UPDATE ON job"
    )
    assert not closed
    assert creations(implied) == ()
    assert run_and_its_end(db, job) == (idle.run_id, False)


def test_a_job_that_comes_while_the_run_closes_gets_another(ledger: Ledger, db: Db, idle: Picture, job: Job) -> None:
    """Looked at before the lock only, the closing run would be handed the job, and nobody would ever carry it."""
    closed, implied = overlap(
        db, lambda: ledger.runs.close(idle.run_id), lambda: ledger.runs.assign(job.id), at="UPDATE ON run"
    )
    assert closed
    (start,) = creations(implied)
    assert start.run_id != idle.run_id
    assert run_and_its_end(db, job) == (start.run_id, False)


def test_a_run_that_ended_is_found_until_its_jobs_have(ledger: Ledger, ann: str) -> None:
    """Whoever closes a dead run may die himself before he has ended its jobs."""
    picture = granted_picture(ledger, ann)
    assert ledger.runs.end(picture.run_id) == [picture.job_id]
    assert [run.id for run in ledger.runs.not_closed()] == [picture.run_id]
    ledger.jobs.finish(picture.job_id, JobStatus.FAILED)
    assert ledger.runs.not_closed() == []


def test_two_who_place_one_job_make_one_run(ledger: Ledger, db: Db, job: Job) -> None:
    """The granter of each gateway, and reconcile: one hands it over, the other leaves nothing behind."""
    one, two = overlap(db, lambda: ledger.runs.assign(job.id), lambda: ledger.runs.assign(job.id), at="INSERT ON run")
    (start,) = creations(one) + creations(two)
    assert run_and_its_end(db, job) == (start.run_id, False)
    assert db.execute("SELECT id FROM run").fetchall() == [{"id": start.run_id}]


def test_many_who_place_many_jobs_leave_none_without_a_run(ledger: Ledger, db: Db, ann: str) -> None:
    """Runs close all the while; in the end every job is in an open one."""
    jobs = [post(ledger, ann) for _ in range(24)]

    def place_and_close(mine: Job) -> None:
        for start in creations(ledger.runs.assign(mine.id)):
            ledger.runs.created(start.run_id, uuid4())
        for run in ledger.runs.not_closed():
            ledger.runs.close(run.id)

    all_at_once([lambda mine=each: place_and_close(mine) for each in jobs for _ in range(2)])
    assert [run_and_its_end(db, each)[1] for each in jobs] == [False] * len(jobs)


def test_a_job_goes_to_the_open_run_of_its_user_and_kind(ledger: Ledger, db: Db, ann: str, idle: Picture) -> None:
    """Not to another user's, not to one of another kind, not to one that a person started for himself."""
    bob = ledger.users.add("bob").user_id
    ledger.runs.open_own(uuid4(), user_id=bob, kind=KIND, parameters={})
    hers, his = post(ledger, ann), post(ledger, bob)
    other = ledger.jobs.post(user_id=ann, kind="train-lora", parameters={}, first=spec(step="train")).job
    placed = {each.id: ledger.runs.assign(each.id) for each in (hers, his, other)}
    assert run_and_its_end(db, hers)[0] == idle.run_id
    assert [len(creations(implied)) for implied in placed.values()] == [0, 1, 1]


def test_a_full_run_takes_no_further_job(ledger: Ledger, db: Db, ann: str, idle: Picture) -> None:
    """Past one process's strength a second run of the user opens, and then the emptier one is preferred."""
    for _ in range(MOST_JOBS):
        assert creations(ledger.runs.assign(post(ledger, ann).id)) == ()
    (start,) = creations(ledger.runs.assign(post(ledger, ann).id))
    last = post(ledger, ann)
    ledger.runs.assign(last.id)
    assert run_and_its_end(db, last)[0] == start.run_id


def test_a_run_of_old_takes_no_further_job(ledger: Ledger, db: Db, ann: str, idle: Picture) -> None:
    """A user who always has a next job would keep it for ever, with the code and the settings of its start."""
    db.execute("UPDATE run SET created_at = created_at - %s WHERE id = %s", [ledger.timing.takes_jobs_for, idle.run_id])
    assert len(creations(ledger.runs.assign(post(ledger, ann).id))) == 1


def test_jobs_of_one_grant_fill_runs_one_after_the_other(ledger: Ledger, db: Db, ann: str) -> None:
    """A burst is as few runs as can keep up with it: full ones, and one for the rest."""
    jobs = [post(ledger, ann).id for _ in range(2 * MOST_JOBS + 5)]
    implied = ledger.runs.assign(*jobs)
    sizes = db.execute("SELECT count(*) AS n FROM job GROUP BY run_id ORDER BY n").fetchall()
    assert [row["n"] for row in sizes] == [5, MOST_JOBS, MOST_JOBS]
    assert {start.run_id for start in creations(implied)} == {run.id for run in ledger.runs.not_closed()}
    assert [creations(ledger.runs.start_again(start.run_id)) for start in creations(implied)] == [
        (start,) for start in creations(implied)
    ]


def test_a_run_with_room_takes_what_it_can_and_is_notified(ledger: Ledger, ann: str, idle: Picture) -> None:
    """The rest of the batch opens a second run; nobody waits for the first to be through."""
    jobs = [post(ledger, ann).id for _ in range(MOST_JOBS + 2)]
    with ledger.listen(idle.run_id) as listener:
        (start,) = creations(ledger.runs.assign(*jobs))
        assert listener.wait(5)
    assert len(ledger.jobs.of_run(idle.run_id)) == 1 + MOST_JOBS
    assert [job.id for job in ledger.jobs.of_run(start.run_id)] == jobs[MOST_JOBS:]


def test_a_run_is_told_which_jobs_something_came_for(ledger: Ledger, ann: str) -> None:
    """It then looks at those alone: at one that was handed to it, one that got its slot, one whose result is there."""
    picture, second = picture_in_flight(ledger, ann), post(ledger, ann)
    with ledger.listen(picture.run_id) as listener:

        def told() -> set[str]:
            assert listener.wait(5)
            return listener.heard()

        ledger.runs.assign(second.id)
        assert told() == {second.id}
        (granted,) = ledger.grants.grant()
        ledger.runs.notify(picture.run_id, granted.ref, job_ids=[granted.job_id])
        assert told() == {second.id}
        picture.settle()
        assert told() == {picture.job_id}
        ledger.runs.notify_job(second.id)
        assert told() == {""}
    work = ledger.runs.poll_work(picture.run_id, picture.waits, only=[picture.job_id])
    assert (work.open, work.ready, work.came) == ((picture.job_id,), (picture.job_id,), {picture.job_id})


def test_a_run_that_begins_knows_which_results_are_there(ledger: Ledger, ann: str) -> None:
    """A gateway has sent calls while it was started: results go first, and what the provider still has goes last."""
    sent = submitting_picture(ledger, ann)
    came = post(ledger, ann)
    to_submit = post(ledger, ann)
    ledger.grants.grant()
    (call,) = ledger.requests.of_job(came.id)
    assert ledger.requests.begin_ahead({call.ref: timedelta(hours=1)}, most=1)
    for job in (came, to_submit):
        ledger.runs.assign(job.id)
    ledger.requests.settle(call.ref, SUCCESS, via="webhook")
    for work in (
        ledger.runs.poll_work(sent.run_id, {}),
        ledger.runs.poll_work(sent.run_id, {}, only=[sent.job_id, to_submit.id, came.id]),
    ):
        assert work.ready == (came.id, to_submit.id, sent.job_id)
        assert (work.came, work.sent) == ({came.id}, {sent.job_id})
    ledger.jobs.cancel(sent.job_id)
    assert ledger.runs.poll_work(sent.run_id, {}).sent == frozenset(), "whose cancel is asked for is called at once"


def test_jobs_of_several_users_and_kinds_are_kept_apart(ledger: Ledger, ann: str) -> None:
    """One grant gives slots to many; a run carries one user's jobs of one kind."""
    bob = ledger.users.add("bob").user_id
    other = ledger.jobs.post(user_id=ann, kind="train-lora", parameters={}, first=spec(step="train")).job
    jobs = [post(ledger, ann).id, post(ledger, bob).id, post(ledger, ann).id, other.id]
    starts = creations(ledger.runs.assign(*jobs))
    placed = {
        (start.user_id, start.deployment): [job.id for job in ledger.jobs.of_run(start.run_id)] for start in starts
    }
    pictures, training = f"{KIND}/on-demand", "train-lora/on-demand"
    assert placed == {(ann, pictures): [jobs[0], jobs[2]], (bob, pictures): [jobs[1]], (ann, training): [other.id]}


def test_two_who_place_the_same_jobs_share_them_out(ledger: Ledger, db: Db, ann: str) -> None:
    """What the other has just taken is left to it: each job ends up in one run, and no run is left empty."""
    jobs = [post(ledger, ann).id for _ in range(6)]
    one, two = overlap(
        db, lambda: ledger.runs.assign(*jobs[:4]), lambda: ledger.runs.assign(*reversed(jobs[2:])), at="UPDATE ON job"
    )
    starts = creations(one) + creations(two)
    carried = [job.id for start in starts for job in ledger.jobs.of_run(start.run_id)]
    assert sorted(carried) == sorted(jobs)
    assert {start.run_id for start in starts} == {run.id for run in ledger.runs.not_closed()}


def test_a_run_that_closes_while_a_batch_comes_takes_none_of_it(
    ledger: Ledger, db: Db, ann: str, idle: Picture
) -> None:
    """The whole batch goes to a run that is open."""
    jobs = [post(ledger, ann).id for _ in range(3)]
    closed, implied = overlap(
        db, lambda: ledger.runs.close(idle.run_id), lambda: ledger.runs.assign(*jobs), at="UPDATE ON run"
    )
    assert closed
    (start,) = creations(implied)
    assert [job.id for job in ledger.jobs.of_run(start.run_id)] == jobs


def test_a_batch_that_is_being_added_keeps_the_run_open(ledger: Ledger, db: Db, ann: str, idle: Picture) -> None:
    """The close waits for the run's row, and then finds the jobs."""
    jobs = [post(ledger, ann).id for _ in range(3)]
    implied, closed = overlap(
        db, lambda: ledger.runs.assign(*jobs), lambda: ledger.runs.close(idle.run_id), at="UPDATE ON job"
    )
    assert (creations(implied), closed) == ((), False)


def test_two_batches_for_one_run_do_not_overfill_it(ledger: Ledger, db: Db, ann: str, idle: Picture) -> None:
    """Counted before the lock only, both would see the whole room."""
    jobs = [post(ledger, ann).id for _ in range(2 * MOST_JOBS - 10)]
    half = len(jobs) // 2
    one, two = overlap(
        db, lambda: ledger.runs.assign(*jobs[:half]), lambda: ledger.runs.assign(*jobs[half:]), at="UPDATE ON job"
    )
    assert len(creations(one) + creations(two)) == 1
    sizes = db.execute("SELECT count(*) AS n FROM job WHERE finished_at IS NULL GROUP BY run_id ORDER BY n").fetchall()
    assert [row["n"] for row in sizes] == [len(jobs) - MOST_JOBS, MOST_JOBS]


FINDERS: dict[str, Callable[[Connection, Picture], Run | None]] = {
    "by the job": lambda connection, picture: lock_run_of_job(connection, picture.job_id),
    "by the request": lambda connection, picture: lock_run_of_request(connection, picture.ref),
}


@pytest.mark.parametrize("find", FINDERS.values(), ids=FINDERS)
def test_a_job_that_is_handed_over_is_followed(
    ledger: Ledger, ledger_url: str, db: Db, ann: str, find: Callable[[Connection, Picture], Run | None]
) -> None:
    """Whoever waited for the old run would else tell one that is closed, and nobody the one that has the job."""
    picture = picture_in_flight(ledger, ann)

    def lock() -> str | None:
        engine = make_engine(ledger_url)
        with engine.begin() as connection:
            locked = find(connection, picture)
        engine.dispose()
        return locked and locked.id

    implied, found = overlap(db, lambda: ledger.runs.reassign(picture.run_id), lock, at="UPDATE ON job")
    (start,) = creations(implied)
    assert found == start.run_id


def test_a_webhook_settles_a_job_that_is_being_handed_over(ledger: Ledger, db: Db, ann: str) -> None:
    """It waits for the old run's row, and what it settles is found by the new run."""
    picture = picture_in_flight(ledger, ann)
    implied, settled = overlap(
        db,
        lambda: ledger.runs.reassign(picture.run_id),
        lambda: ledger.requests.settle_arrival(webhook("fal-1"), lambda _: SUCCESS),
        at="UPDATE ON job",
    )
    assert settled is not None and settled[0] is Verdict.SETTLED
    (start,) = creations(implied)
    assert ledger.runs.poll_work(start.run_id, picture.waits).ready == (picture.job_id,)


NEXT_RUN = "run_next"  # known before the run is there, to be listened to
NEWS: dict[str, Callable[[Picture], object]] = {
    "a result": lambda picture: picture.settle(),
    "news of the job": lambda picture: picture.ledger.runs.notify_job(picture.job_id),
}


@pytest.mark.parametrize("comes", NEWS.values(), ids=NEWS)
def test_what_comes_while_a_job_is_handed_over_is_told_to_its_new_run(
    ledger: Ledger, db: Db, ann: str, comes: Callable[[Picture], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have looked already, and be about to suspend itself. The old one is closed and hears nothing."""
    picture = picture_in_flight(ledger, ann)
    monkeypatch.setattr(runs, "new_id", lambda _: NEXT_RUN)
    with ledger.listen(NEXT_RUN) as listener:
        overlap(db, lambda: ledger.runs.reassign(picture.run_id), lambda: comes(picture), at="UPDATE ON job")
        assert listener.wait(5)


def test_a_result_that_comes_while_its_job_gets_its_first_run_is_told_to_that(
    ledger: Ledger, db: Db, ann: str, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway has sent the call before there was a run, which has looked before the result was there."""
    ledger.grants.grant()
    (call,) = ledger.requests.of_job(job.id)
    assert ledger.requests.begin_ahead({call.ref: timedelta(hours=1)}, most=1)
    monkeypatch.setattr(runs, "new_id", lambda _: NEXT_RUN)
    with ledger.listen(NEXT_RUN) as listener:
        overlap(
            db,
            lambda: ledger.runs.assign(job.id),
            lambda: ledger.requests.settle(call.ref, SUCCESS, via="webhook"),
            at="UPDATE ON job",
        )
        assert listener.wait(5)
        assert listener.heard() == {job.id}


def test_a_run_finds_no_work_in_a_job_that_another_has(ledger: Ledger, ann: str) -> None:
    """Though it was told of it by name: the word is of before the hand-over, and two would go on with the job."""
    picture = picture_in_flight(ledger, ann)
    (start,) = creations(ledger.runs.reassign(picture.run_id))
    picture.settle()
    assert ledger.runs.poll_work(picture.run_id, picture.waits, only=[picture.job_id]).open == ()
    assert ledger.runs.poll_work(start.run_id, {}, only=[picture.job_id]).open == (picture.job_id,)


def test_a_start_names_all_that_prefect_needs(ledger: Ledger, ann: str, job: Job) -> None:
    """It can be done again from the record, word for word."""
    first = ledger.runs.assign(job.id)
    (start,) = creations(first)
    assert (start.deployment, start.user_id, start.plan, start.in_flight) == (f"{KIND}/on-demand", ann, "studio", 8)
    assert start.parameters == {"prompt": "a fox", "user": ann}
    assert ledger.runs.start_again(start.run_id) == first


def test_a_cancelled_job_that_no_run_carries_ends_at_once(ledger: Ledger, db: Db, ann: str, job: Job) -> None:
    """Nothing of it was submitted; a run would be started only in order to end it."""
    assert grants(ledger.jobs.cancel(job.id))
    cancelled = ledger.jobs.get(job.id)
    assert cancelled is not None and cancelled.status is JobStatus.CANCELLED
    assert creations(ledger.runs.assign(job.id)) == ()
    assert db.execute("SELECT id FROM run").fetchall() == []


def test_a_job_is_not_placed_while_it_is_being_cancelled(ledger: Ledger, db: Db, job: Job) -> None:
    """The hand-over asks again as it writes; a run would be started for a job that has ended."""
    _, implied = overlap(db, lambda: ledger.jobs.cancel(job.id), lambda: ledger.runs.assign(job.id), at="UPDATE ON job")
    assert creations(implied) == ()
    assert db.execute("SELECT id FROM run").fetchall() == []


def test_a_cancel_finds_the_run_that_has_just_been_handed_the_job(
    ledger: Ledger, db: Db, idle: Picture, job: Job
) -> None:
    """Without the job's lock it would end a job that its run is about to submit, whose result could yet come."""
    ledger.grants.grant()
    (row,) = ledger.requests.of_job(job.id)

    def submit() -> None:
        ledger.runs.assign(job.id)
        ledger.requests.begin_submit(row.ref, deadline=timedelta(hours=1))

    def cancel() -> None:
        ledger.jobs.cancel(job.id)

    overlap(db, submit, cancel, at="UPDATE ON job")
    found, row = ledger.jobs.get(job.id), ledger.requests.get(row.ref)
    assert found is not None
    assert (found.finished_at is None) == (row.status is RequestStatus.SUBMITTING)
    assert (found.finished_at is None) == (ledger.runs.poll_work(idle.run_id, {}).open.count(job.id) == 1)


def test_workers_are_told_once_the_flow_run_of_a_run_exists(ledger: Ledger, job: Job) -> None:
    """After the commit, not before: a worker that asks Prefect then finds it."""
    with ledger.listen(READY) as listener:
        (start,) = creations(ledger.runs.assign(job.id))
        assert not listener.wait(0)
        ledger.runs.created(start.run_id, uuid4())
        assert listener.wait(5)


# -- runs that are made a little ahead of their slots ------------------------------------------------------------------


@pytest.fixture
def full(ledger: Ledger, ann: str) -> Picture:
    """The account's one slot is taken, by ann's picture."""
    ledger.users.set_account("fal", slots=1)
    return picture_in_flight(ledger, ann)


def test_the_next_in_line_are_those_whose_turn_it_is(ledger: Ledger, full: Picture) -> None:
    """No more than asked for, in the order of the grant, though no slot is free."""
    bob, eve = (ledger.users.add(name).user_id for name in ("bob", "eve"))
    jobs = [post(ledger, bob).id, post(ledger, eve).id, post(ledger, bob).id]
    assert ledger.grants.grant() == []
    assert ledger.grants.next_without_run(1) == jobs[:1]
    assert set(ledger.grants.next_without_run(2)) == set(jobs[:2])


def test_nobody_is_next_for_whom_an_open_run_is_there(ledger: Ledger, ann: str, full: Picture) -> None:
    """It takes the job when its slot comes. Nor somebody whose plan is used up: his slot is not next."""
    post(ledger, ann)
    assert ledger.grants.next_without_run(9) == []
    free = ledger.users.add("free", plan="free").user_id
    ledger.users.set_account("fal", slots=2)
    post(ledger, free)
    assert len(ledger.grants.grant()) == 1
    post(ledger, free)
    assert ledger.grants.next_without_run(9) == []


def test_no_more_runs_are_made_ahead_than_the_users_queue_lets_run(ledger: Ledger, full: Picture) -> None:
    """Another one would wait at Prefect, in front of runs that have something to do."""
    free = ledger.users.add("free", plan="free").user_id
    ledger.runs.open_own(uuid4(), user_id=free, kind=KIND, parameters={})
    post(ledger, free)
    assert ledger.grants.next_without_run(9) == []


def test_a_job_that_was_placed_ahead_is_granted_to_its_run(ledger: Ledger, full: Picture) -> None:
    """Its run is notified, as for any further slot, and it is not made again."""
    job = post(ledger, ledger.users.add("bob").user_id)
    (start,) = creations(ledger.runs.assign(*ledger.grants.next_without_run(1)))
    assert ledger.grants.next_without_run(1) == []
    full.settle()
    (granted,) = ledger.grants.grant()
    assert (granted.job_id, granted.run_id) == (job.id, start.run_id)
