"""What the ledger keeps of runs that were lost, and of what was paid for nobody."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from implying import creations
from ledger_databases import Db
from ledger_scenes import OUTPUT, SUCCESS, Picture, picture_in_flight, post, spec, webhook

from darkroom.clock import utc_now
from darkroom.ledger import GRANT, NOTHING, JobStatus, Ledger, Outcome, Run, Transition, Verdict

HOUR = timedelta(hours=1)
EMPTY_SUCCESS = Outcome(transition=Transition.SUCCEED)


@pytest.fixture
def picture(ledger: Ledger) -> Picture:
    return picture_in_flight(ledger, ledger.users.add("ann").user_id)


def run_of(picture: Picture) -> Run:
    run = picture.ledger.runs.get(picture.run_id)
    assert run is not None
    return run


def test_a_recovery_is_counted_until_the_run_has_left_again(picture: Picture) -> None:
    """What comes as far as leaving is not lost for the same reason each time."""
    assert picture.ledger.runs.recovering(run_of(picture), recoveries=4)
    run = run_of(picture)
    assert (run.recoveries, run.alive_until) == (4, None)
    assert run.recovered_at is not None
    picture.ledger.runs.enter(picture.flow_run_id, run_key=None)
    assert run_of(picture).recoveries == 4
    picture.leave()
    assert run_of(picture).recoveries == 0


@pytest.mark.parametrize("what", ["entered", "recovered", "closed"])
def test_a_run_of_which_something_was_heard_meanwhile_is_not_brought_back(picture: Picture, what: str) -> None:
    """Between looking at it and putting it back it may have been taken up again, or have ended.

    Also where no process has renewed its lease since it was brought back the last time.
    """
    picture.ledger.runs.recovering(run_of(picture), recoveries=1)
    seen = run_of(picture)
    if what == "entered":
        picture.ledger.runs.renew(picture.run_id)
    elif what == "recovered":
        assert picture.ledger.runs.recovering(seen, recoveries=2)
    else:
        picture.ledger.runs.end(picture.run_id)
    before = run_of(picture)
    assert not picture.ledger.runs.recovering(seen, recoveries=2)
    assert run_of(picture) == before


ENDS: dict[str, Callable[[Picture], object]] = {
    "closed": lambda picture: picture.ledger.runs.end(picture.run_id),
    "suspended": lambda picture: picture.leave(),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_run_that_no_process_carries_does_not_look_alive(picture: Picture, end: Callable[[Picture], object]) -> None:
    """The process that has left it, or was thought dead, may renew its lease once more."""
    end(picture)
    picture.ledger.runs.renew(picture.run_id)
    assert run_of(picture).alive_until is None


def test_a_run_whose_process_has_fallen_silent_takes_no_further_job(picture: Picture, db: Db) -> None:
    """The job would wait until that is found lost and brought back; another of its user's need not."""
    runs = picture.ledger.runs
    assert creations(runs.assign(post(picture.ledger, picture.user_id).id)) == ()
    db.execute("UPDATE run SET alive_until = now() - interval '1 second' WHERE id = %s", [picture.run_id])
    assert len(creations(runs.assign(post(picture.ledger, picture.user_id).id))) == 1


def test_a_run_that_cannot_go_on_hands_over_what_is_open_of_it(picture: Picture) -> None:
    """What has ended in it stays there: it was that run's."""
    runs, jobs = picture.ledger.runs, picture.ledger.jobs
    ended = post(picture.ledger, picture.user_id).id
    runs.assign(ended)
    jobs.finish(ended, JobStatus.COMPLETED)
    (start,) = creations(runs.reassign(picture.run_id))
    assert picture.job.run_id == start.run_id
    assert [job.id for job in jobs.of_run(picture.run_id)] == [ended]
    assert run_of(picture).closed_at is not None


def test_a_run_deleted_at_prefect_is_made_anew_for_its_open_job(picture: Picture) -> None:
    """Under the same key, with the parameters of a job that is open; the new one is noted over the old."""
    (start,) = creations(picture.ledger.runs.start_again(picture.run_id))
    assert (start.run_id, start.parameters["user"]) == (picture.run_id, picture.user_id)
    anew = uuid4()
    picture.ledger.runs.created(picture.run_id, anew)
    assert run_of(picture).flow_run_id == anew


def test_a_run_deleted_after_its_last_job_is_closed(picture: Picture) -> None:
    """There is nothing to start it for."""
    picture.ledger.jobs.finish(picture.job_id, JobStatus.COMPLETED)
    assert picture.ledger.runs.start_again(picture.run_id) == NOTHING
    assert run_of(picture).closed_at is not None


def test_runs_that_have_just_closed_are_told_from_those_with_open_jobs(ledger: Ledger, picture: Picture) -> None:
    """The one may have died before Prefect heard of its end; the other's jobs are still to be ended."""
    before = utc_now()
    picture.ledger.runs.end(picture.run_id)
    assert [run.id for run in ledger.runs.not_closed()] == [picture.run_id]
    assert ledger.runs.closed_since(before) == []
    ledger.jobs.finish(picture.job_id, JobStatus.FAILED, error={"code": "run_ended"})
    assert ledger.runs.not_closed() == []
    assert [run.id for run in ledger.runs.closed_since(before)] == [picture.run_id]
    assert ledger.runs.closed_since(utc_now()) == []


def test_a_success_without_payload_that_comes_late_is_known_to_be_paid(ledger: Ledger, picture: Picture) -> None:
    """Until what it cost is on record."""
    picture.settle(Outcome(transition=Transition.EXPIRE))
    assert ledger.requests.paid_unseen(since=utc_now() - HOUR) == []
    assert picture.settle(EMPTY_SUCCESS, webhook("fal-1"))[0] is Verdict.LATE
    assert [row.ref for row in ledger.requests.paid_unseen(since=utc_now() - HOUR)] == [picture.ref]
    assert ledger.requests.paid_unseen(since=utc_now()) == []
    ledger.requests.fill_output(picture.ref, output=OUTPUT, cost_usd=SUCCESS.cost_usd)
    assert ledger.requests.paid_unseen(since=utc_now() - HOUR) == []


def test_a_success_that_nobody_can_cost_has_cost_what_was_expected(ledger: Ledger, picture: Picture) -> None:
    """It is paid, and counts, until its bill comes. What the provider says goes before, nothing at all included."""
    picture.settle(EMPTY_SUCCESS)
    ledger.requests.fill_output(picture.ref, output=OUTPUT, cost_usd=None)
    assert picture.row.cost_usd == picture.row.estimate_usd
    ledger.requests.fill_output(picture.ref, output=OUTPUT, cost_usd=Decimal(0))
    assert picture.row.cost_usd == 0


def test_a_success_without_payload_of_a_job_that_is_over_is_known_to_be_paid(ledger: Ledger, picture: Picture) -> None:
    """As long as its job is open, the job asks for it."""
    picture.settle(EMPTY_SUCCESS)
    assert ledger.requests.paid_unseen(since=utc_now() - HOUR) == []
    ledger.jobs.finish(picture.job_id, JobStatus.CANCELLED)
    assert [row.ref for row in ledger.requests.paid_unseen(since=utc_now() - HOUR)] == [picture.ref]


def test_a_run_that_has_left_is_not_woken_for_a_job_that_is_over(ledger: Ledger, db: Db, picture: Picture) -> None:
    """It waits for another job; the slot that came free is all that is implied."""
    beside = post(ledger, picture.user_id)
    ledger.runs.assign(beside.id)
    second = ledger.requests.reserve_all(beside.id, [spec(step="generate")])[0]
    waits = picture.waits | {beside.id: {second.ref, beside.id}}
    assert ledger.runs.on_suspended(picture.run_id, waits)
    ledger.jobs.finish(picture.job_id, JobStatus.FAILED)
    assert picture.settle()[1] == (GRANT,)
    assert run_of(picture).suspended_at is not None


def test_the_plans_of_those_with_an_open_run_are_known(ledger: Ledger, picture: Picture) -> None:
    """As they are now: a plan may be changed while runs are under way."""
    ledger.users.add("idle")
    assert ledger.runs.limits_of_open() == {picture.user_id: ledger.users.plan_of(picture.user_id).in_flight}
    picture.ledger.jobs.finish(picture.job_id, JobStatus.COMPLETED)
    assert ledger.runs.close(picture.run_id)
    assert ledger.runs.limits_of_open() == {}
