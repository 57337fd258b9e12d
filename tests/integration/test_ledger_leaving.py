"""A run that leaves, and what comes for it at that moment: exactly one of the two wakes it, in either order.

Whatever comes either finds the run present, and then the run's last look finds what came; or finds it gone, and then
wakes it. Both lock the run's row first and look in the next statement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import cast
from uuid import uuid4

import pytest
from implying import creations, wakes
from interleaving import overlap
from ledger_databases import Db
from ledger_scenes import FAILURE, SUCCESS, Picture, picture_in_flight, post, spec
from psycopg import sql
from support import SLOW

from darkroom.clock import utc_now
from darkroom.ledger import NOTHING, READY, Implied, JobStatus, Ledger
from darkroom.orchestrator import Orchestrator
from darkroom.orchestrator.dispatch import Dispatcher


@dataclass(frozen=True, kw_only=True)
class Comer:
    """Something that comes for a run whose picture is in flight, and the write at which it can be held up."""

    comes: Callable[[Picture], Implied]
    at: str


def grant_of_a_second_step(picture: Picture) -> Implied:
    granted = picture.ledger.grants.grant()
    return sum((picture.ledger.runs.notify(picture.run_id, each.ref) for each in granted), NOTHING)


def further_job(picture: Picture) -> Implied:
    return picture.ledger.runs.assign(post(picture.ledger, picture.user_id).id)


COMERS = {
    "success": Comer(comes=lambda picture: picture.settle(SUCCESS)[1], at="UPDATE ON request"),
    "failure": Comer(comes=lambda picture: picture.settle(FAILURE)[1], at="UPDATE ON request"),
    "grant": Comer(comes=grant_of_a_second_step, at="UPDATE ON request"),
    "cancel": Comer(comes=lambda picture: picture.ledger.jobs.cancel(picture.job_id), at="UPDATE ON job"),
    "further job": Comer(comes=further_job, at="UPDATE ON job"),
}
each_comer = pytest.mark.parametrize("comer", COMERS.values(), ids=COMERS.keys())


@pytest.fixture
def picture(ledger: Ledger) -> Picture:
    return picture_in_flight(ledger, ledger.users.add("ann").user_id)


@pytest.fixture
def leave(picture: Picture) -> Callable[[], bool]:
    """The run waits for its picture, for a second step that is queued beside it, and for word of a cancel."""
    second = picture.ledger.requests.reserve_all(picture.job_id, [spec(step="upscale")])[0]
    return lambda: picture.ledger.runs.on_suspended(
        picture.run_id, {picture.job_id: {picture.ref, second.ref, picture.job_id}}
    )


@each_comer
def test_what_is_not_committed_yet_when_the_run_leaves_wakes_it(
    db: Db, picture: Picture, leave: Callable[[], bool], comer: Comer
) -> None:
    """Without its row's lock the run would look past what is about to be committed, and be told by nobody."""
    implied, left = overlap(db, lambda: comer.comes(picture), leave, at=comer.at)
    assert len(wakes(implied)) == (1 if left else 0)
    assert picture.run.suspended_at is None and picture.run.woken_at is not None


@each_comer
def test_what_comes_between_the_last_look_and_the_leaving_wakes_it(
    db: Db, picture: Picture, leave: Callable[[], bool], comer: Comer
) -> None:
    """Without the run's lock the comer would read a run that is still there, and tell nobody."""
    left, implied = overlap(db, leave, lambda: comer.comes(picture), at="UPDATE ON run")
    assert left
    assert [wake.flow_run_id for wake in wakes(implied)] == [picture.flow_run_id]
    assert picture.run.suspended_at is None and picture.run.woken_at is not None


@each_comer
def test_a_run_that_is_woken_is_not_woken_again(picture: Picture, leave: Callable[[], bool], comer: Comer) -> None:
    """The second event would find a run that is not suspended any more, and fail in Prefect's feed."""
    assert leave()
    picture.ledger.runs.notify(picture.run_id, picture.ref)
    assert wakes(comer.comes(picture)) == ()


@pytest.mark.parametrize("by", ["run", "job"])
def test_a_run_that_is_notified_as_it_leaves_is_woken(
    ledger: Ledger, db: Db, picture: Picture, leave: Callable[[], bool], by: str
) -> None:
    """By who knows the run, or the job alone: an event that ended its wait, or its child's end."""

    def notify() -> Implied:
        runs = ledger.runs
        return runs.notify_job(picture.job_id) if by == "job" else runs.notify(picture.run_id, picture.ref)

    left, implied = overlap(db, leave, notify, at="UPDATE ON run")
    assert left
    assert [wake.flow_run_id for wake in wakes(implied)] == [picture.flow_run_id]


def test_a_result_that_comes_as_its_job_is_handed_to_a_run_is_told_to_that_run(db: Db, picture: Picture) -> None:
    """Of a call that a gateway has sent; the run may have looked at the job before the result was committed."""
    ledger = picture.ledger
    job = post(ledger, picture.user_id)
    (call,) = ledger.grants.grant()
    assert ledger.requests.begin_ahead({call.ref: timedelta(hours=1)}, most=1)
    db.execute(sql.SQL("LISTEN {}").format(sql.Identifier(picture.run_id)))
    overlap(
        db,
        lambda: ledger.runs.assign(job.id),
        lambda: ledger.requests.settle(call.ref, SUCCESS, via="webhook"),
        at="UPDATE ON job",
    )
    told = [each.payload for each in db.notifies(timeout=SLOW, stop_after=2)]
    assert told == [job.id, job.id]


def test_what_is_left_of_a_job_that_is_over_wakes_no_run(picture: Picture) -> None:
    """Its process would be started to find nothing. The call is on record with its cost."""
    ledger = picture.ledger
    over = post(ledger, picture.user_id)
    (granted,) = ledger.grants.grant()
    ledger.runs.assign(over.id)
    assert ledger.requests.begin_submit(granted.ref, deadline=timedelta(hours=1)) is not None
    ledger.jobs.finish(over.id, JobStatus.FAILED)
    assert picture.leave()
    _, implied = ledger.requests.settle(granted.ref, SUCCESS, via="webhook")
    assert wakes(implied) == ()
    assert picture.run.suspended_at is not None
    assert ledger.requests.get(granted.ref).cost_usd == SUCCESS.cost_usd


def test_the_wake_says_what_came(picture: Picture, leave: Callable[[], bool]) -> None:
    """The automation and the feed know completed from failed."""
    assert leave()
    (wake,) = wakes(picture.settle(FAILURE)[1])
    assert (wake.ref, wake.event) == (picture.ref, "fal.job.failed")


@pytest.mark.parametrize("resumed", [True, False])
def test_the_workers_hear_of_a_run_that_prefect_has_resumed(
    picture: Picture, leave: Callable[[], bool], resumed: bool
) -> None:
    """Of another there is nothing to ask for: somebody else has resumed it, or the automation does."""

    class Prefect:
        def wake(self, *_: object, **__: object) -> bool:
            return resumed

    assert leave()
    implied = picture.settle()[1]
    with picture.ledger.listen(READY) as listener:
        Dispatcher(picture.ledger, cast(Orchestrator, Prefect())).carry_out(wakes(implied))
        assert listener.wait(5 if resumed else 0.2) is resumed


def test_a_run_that_comes_back_counts_as_present(picture: Picture, leave: Callable[[], bool]) -> None:
    """What comes then is found by its look; an event would fail."""
    assert leave()
    picture.ledger.runs.enter(picture.flow_run_id, run_key=None)
    assert picture.run.alive_until is not None and picture.run.alive_until > utc_now()
    assert wakes(picture.settle()[1]) == ()
    assert picture.look() == (picture.job_id,)


def test_a_process_that_is_there_before_its_creation_was_noted_takes_up_its_run(picture: Picture) -> None:
    """Prefect may be faster than the gateway that has asked it; the run's id is the key of the creation."""
    bob = picture.ledger.users.add("bob").user_id
    (start,) = creations(picture.ledger.runs.assign(post(picture.ledger, bob).id))
    entered = picture.ledger.runs.enter(flow_run_id := uuid4(), run_key=start.run_id)
    assert entered is not None
    assert (entered[0].id, entered[0].flow_run_id) == (start.run_id, flow_run_id)


def test_a_run_that_is_present_is_notified(picture: Picture) -> None:
    """The process that waits hears it at once, also if it was notified before it began to wait."""
    with picture.ledger.listen(picture.run_id) as listener:
        picture.settle()
        assert listener.wait(5)
        assert not listener.wait(0)


def test_a_ring_comes_with_the_commit(db: Db, picture: Picture) -> None:
    """A ring for something that cannot be seen yet would send the run to look in vain, and then to sleep."""
    with picture.ledger.listen(picture.run_id) as listener:
        overlap(db, picture.settle, lambda: listener.wait(0), at="UPDATE ON request")
        assert listener.wait(5)
        assert picture.look() == (picture.job_id,)


def test_a_cancel_is_news_until_the_process_has_acted_on_it(picture: Picture) -> None:
    """Then the job waits for the provider again: it would be called without end otherwise."""
    picture.ledger.jobs.cancel(picture.job_id)
    assert picture.look() == (picture.job_id,)
    assert picture.ledger.runs.poll_work(picture.run_id, {picture.job_id: {picture.ref}}).ready == ()


def test_those_for_which_a_result_came_are_first_in_line(picture: Picture) -> None:
    """Before jobs that are new or may submit: a burst of those would make finished pictures wait."""
    ledger = picture.ledger
    new = post(ledger, picture.user_id)
    ledger.grants.grant()
    ledger.runs.assign(new.id)
    picture.settle()
    assert picture.look() == (picture.job_id, new.id)
    waits = {new.id: {row.ref for row in ledger.requests.of_job(new.id)}, **picture.waits}
    assert ledger.runs.poll_work(picture.run_id, waits).ready == (picture.job_id, new.id)
    assert ledger.runs.poll_work(picture.run_id, waits | {picture.job_id: {"nothing"}}).ready == (new.id,)
