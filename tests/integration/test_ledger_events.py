"""Events on the ledger: what they start and wake, once, whoever comes first; and waits that outlast everything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from implying import assigned, cancelled, creations, notified, wakes
from interleaving import all_at_once, overlap
from ledger_databases import Db
from ledger_scenes import picture_in_flight

from darkroom.clock import utc_now
from darkroom.errors import WrongState
from darkroom.ledger import (
    WAIT,
    EffectKind,
    EventStart,
    EventStatus,
    Implied,
    Job,
    JobStatus,
    Ledger,
    NewEvent,
    Received,
    Wait,
    WaitStatus,
)

NAME = "user.profile_completed"
ONBOARDING = EventStart(deployment="onboard-user/on-demand", parameters={"account": "a-1"})


def matches(condition: str, data: Mapping[str, Any]) -> bool | str:
    """In place of CEL: `field=value`."""
    field, _, value = condition.partition("=")
    return str(data[field]) == value if field in data else f"there is no {field}"


def send(ledger: Ledger, user_id: str, **details: Any) -> tuple[Received, Implied]:
    event = NewEvent(**{"name": NAME, "user_id": user_id, "owner_id": user_id, "data": {"score": 3}, **details})
    (received,), implied = ledger.events.receive("ann's key", [event], matches=matches)
    return received, implied


def job_of(ledger: Ledger, user_id: str) -> Job:
    """Under way, in the hands of a run whose process is there."""
    job = ledger.jobs.post(user_id=user_id, kind="onboard-user", parameters={}).job
    (start,) = creations(ledger.runs.assign(job.id))
    flow_run_id = uuid4()
    ledger.runs.created(start.run_id, flow_run_id)
    assert ledger.runs.enter(flow_run_id, run_key=start.run_id) is not None
    found = ledger.jobs.get(job.id)
    assert found is not None
    return found


def await_it(
    ledger: Ledger, job: Job, *, match: str | None = None, seconds: float = 60, name: str = "completed"
) -> Wait:
    return ledger.waits.for_event(
        job,
        name,
        event=NAME,
        match=match,
        test=lambda data: match is None or matches(match, data) is True,
        until=utc_now() + timedelta(seconds=seconds),
    )


def leave(ledger: Ledger, job: Job, *waits: Wait) -> bool:
    assert job.run_id is not None
    return ledger.runs.on_suspended(job.run_id, {job.id: {WAIT + wait.id for wait in waits}})


def effects(ledger: Ledger, event_id: str) -> list[tuple[EffectKind, str | None]]:
    return [(EffectKind(effect.what), effect.reason) for effect in ledger.events.effects(event_id)]


# -- coming in -------------------------------------------------------------------------------------------------------


def test_an_event_is_on_record_with_the_job_it_starts(ledger: Ledger, ann: str) -> None:
    """The job waits for no slot, and a run is to take it."""
    received, implied = send(ledger, ann, starts=[ONBOARDING])
    (job_id,) = assigned(implied)
    job = ledger.jobs.get(job_id)
    assert job is not None
    assert (job.kind, job.user_id, job.parameters) == ("onboard-user", ann, {"account": "a-1"})
    assert [(each.what, each.job_id) for each in ledger.events.effects(received.id)] == [(EffectKind.STARTED, job_id)]
    assert ledger.jobs.unassigned() == [job_id]


def test_one_event_starts_many_and_says_what_it_did_not(ledger: Ledger, ann: str) -> None:
    """With the reason."""
    declined = EventStart(deployment="sync-profile/debounced", reason="its condition does not hold")
    received, implied = send(ledger, ann, starts=[ONBOARDING, declined, ONBOARDING])
    assert len(assigned(implied)) == 2
    assert effects(ledger, received.id) == [
        (EffectKind.STARTED, None),
        (EffectKind.NOT_STARTED, "its condition does not hold"),
        (EffectKind.STARTED, None),
    ]


def test_the_same_key_again_is_the_same_event(ledger: Ledger, ann: str) -> None:
    """Of several at once, too, and within one call; another source's is another."""
    results: list[Received] = []
    all_at_once([lambda: results.append(send(ledger, ann, key="k-1", starts=[ONBOARDING])[0])] * 6)
    assert len({each.id for each in results}) == 1
    assert sum(each.new for each in results) == 1
    assert len(ledger.jobs.page(ann, limit=10)) == 1
    event = NewEvent(name=NAME, user_id=ann, owner_id=ann, data={}, key="k-2")
    twice, _ = ledger.events.receive("ann's key", [event, event], matches=matches)
    assert (twice[0].id, [each.new for each in twice]) == (twice[1].id, [True, False])
    other, _ = ledger.events.receive("bob's key", [event], matches=matches)
    assert other[0].new


def test_a_refused_event_is_kept_and_does_nothing(ledger: Ledger, ann: str) -> None:
    """A person can look at it."""
    problem = {"field": "data.score", "message": "It must be a number."}
    wait = await_it(ledger, job_of(ledger, ann))
    received, implied = send(ledger, ann, problem=problem, starts=[ONBOARDING])
    assert (assigned(implied), notified(implied)) == ((), ())
    (kept,) = ledger.events.page(status=EventStatus.REFUSED)
    assert (kept.id, kept.problem) == (received.id, problem)
    assert ledger.waits.take(wait.id).status == WaitStatus.OPEN


def test_what_prefect_was_not_told_of_is_found(ledger: Ledger, ann: str) -> None:
    received, _ = send(ledger, ann)
    soon = utc_now() + timedelta(seconds=1)
    assert [event.id for event in ledger.events.unpublished(before=soon, limit=10)] == [received.id]
    ledger.events.published([received.id])
    assert ledger.events.unpublished(before=soon, limit=10) == []


# -- waiting ---------------------------------------------------------------------------------------------------------


def test_an_event_wakes_who_waits_for_it(ledger: Ledger, ann: str) -> None:
    """Its run left, so it is woken; the wait says which event came."""
    job = job_of(ledger, ann)
    wait = await_it(ledger, job, match="score=3")
    assert leave(ledger, job, wait)
    received, implied = send(ledger, ann)
    assert notified(implied) == (job.id,)
    assert len(wakes(ledger.runs.notify_job(job.id))) == 1
    settled = ledger.waits.take(wait.id)
    assert (settled.status, settled.settled_by, settled.event_id) == (WaitStatus.RECEIVED, "event", received.id)
    assert ledger.waits.event(received.id).data == {"score": 3}


def test_what_does_not_match_is_another_users_or_came_too_late_wakes_nobody(ledger: Ledger, ann: str) -> None:
    """The event says why, where the wait was there."""
    job = job_of(ledger, ann)
    wait = await_it(ledger, job, match="score=4")
    over = await_it(ledger, job, seconds=0, name="over")
    other = ledger.users.add("bob").user_id
    assert notified(send(ledger, other)[1]) == ()
    received, implied = send(ledger, ann)
    assert notified(implied) == ()
    assert effects(ledger, received.id) == [(EffectKind.NOT_WOKEN, "its data does not match: score=4")]
    assert ledger.waits.take(wait.id).status == WaitStatus.OPEN
    assert ledger.waits.take(over.id).settled_by == "time"


def test_an_event_about_nobody_is_for_those_whom_its_sender_speaks_for(ledger: Ledger, ann: str) -> None:
    """A service's own users, also where it came before the wait; not another service's, nor anybody else's."""
    shop, other = (ledger.users.add(name, service=True).user_id for name in ("shop", "other"))
    early, late = (ledger.users.end_user(shop, name).id for name in ("early", "late"))
    stranger = ledger.users.end_user(other, "early").id
    waiting = {user_id: await_it(ledger, job_of(ledger, user_id)) for user_id in (ann, early, stranger)}
    later = job_of(ledger, late)
    event = NewEvent(name=NAME, user_id=None, owner_id=shop, data={})
    _, implied = ledger.events.receive(shop, [event], matches=matches)
    assert notified(implied) == (waiting[early].job_id,)
    assert await_it(ledger, later).status == WaitStatus.RECEIVED
    assert {ledger.waits.take(waiting[each].id).status for each in (ann, stranger)} == {WaitStatus.OPEN}


def test_an_event_before_the_wait_counts_back_to_the_start_of_the_job(ledger: Ledger, ann: str) -> None:
    """The first that matches; what came before the job does not."""
    send(ledger, ann, data={"score": 9})
    job = job_of(ledger, ann)
    send(ledger, ann, data={"score": 1})
    second, _ = send(ledger, ann, data={"score": 2})
    wait = await_it(ledger, job, match="score=2")
    assert (wait.status, wait.event_id) == (WaitStatus.RECEIVED, second.id)
    assert effects(ledger, second.id) == [(EffectKind.WOKE, "it came before the job waited for it")]
    assert await_it(ledger, job, match="score=9", name="earlier").status == WaitStatus.OPEN


def test_an_event_at_the_moment_of_the_wait_is_never_missed(ledger: Ledger, db: Db, ann: str) -> None:
    """One that has looked for who waits, and is not committed, holds up who begins to wait: its look back finds it."""
    job = job_of(ledger, ann)
    (received, _), wait = overlap(
        db, lambda: send(ledger, ann, starts=[ONBOARDING]), lambda: await_it(ledger, job), at="INSERT ON event_effect"
    )
    assert (wait.status, wait.event_id) == (WaitStatus.RECEIVED, received.id)


def test_senders_of_one_event_do_not_wait_for_each_other(ledger: Ledger, db: Db, ann: str) -> None:
    """Only who begins to wait for it does: a burst of one name is not one after the other."""

    def send_and_look() -> list[str]:
        send(ledger, ann)
        return [event.id for event in ledger.events.page()]

    (first, _), seen = overlap(
        db, lambda: send(ledger, ann, starts=[ONBOARDING]), send_and_look, at="INSERT ON event_effect"
    )
    assert len(seen) == 1 and first.id not in seen


def test_a_wait_is_settled_once(ledger: Ledger, db: Db) -> None:
    """By an event, or by its time, at the same moment: the other one comes to nothing."""
    for n in range(10):
        user_id = ledger.users.add(f"user {n}").user_id
        job = job_of(ledger, user_id)
        wait = await_it(ledger, job, seconds=0.02)
        all_at_once([lambda wait=wait: ledger.waits.take(wait.id), lambda user_id=user_id: send(ledger, user_id)] * 3)
        while ledger.waits.take(wait.id).status == WaitStatus.OPEN:
            pass
        settled = ledger.waits.take(wait.id)
        woke = db.execute("SELECT * FROM event_effect WHERE wait_id = %s AND what = 'woke'", [wait.id]).fetchall()
        assert len(woke) == (settled.status == WaitStatus.RECEIVED)


def test_a_wait_that_an_event_is_settling_is_not_extended(ledger: Ledger, db: Db, ann: str) -> None:
    """Who would extend it is told that it waits no longer, and not that it waits until later."""
    wait = await_it(ledger, job_of(ledger, ann))

    def extend() -> str:
        with pytest.raises(WrongState) as refused:
            ledger.waits.extend(wait.id, until=utc_now() + timedelta(days=1))
        return str(refused.value)

    _, said = overlap(db, lambda: send(ledger, ann), extend, at="UPDATE ON wait")
    assert "waits no longer" in said
    settled = ledger.waits.take(wait.id)
    assert (settled.status, settled.until) == (WaitStatus.RECEIVED, wait.until)


def test_an_event_that_is_just_settling_one_of_several_is_the_one_for_ever(ledger: Ledger, db: Db, ann: str) -> None:
    """It came before the time was over, though who chooses finds that over before the event is committed."""
    job = job_of(ledger, ann)
    event = await_it(ledger, job)
    time = ledger.waits.sleep(job, "a while", until=utc_now())
    _, chosen = overlap(
        db, lambda: send(ledger, ann), lambda: ledger.waits.choose([event.id, time.id]), at="UPDATE ON wait"
    )
    assert chosen is not None and (chosen.id, chosen.status) == (event.id, WaitStatus.RECEIVED)
    assert ledger.waits.take(time.id).status == WaitStatus.SUPERSEDED


def test_a_job_that_sleeps_is_woken_when_its_time_has_come(ledger: Ledger, ann: str) -> None:
    """The first call says until when; reconcile and the gateway both find it."""
    job = job_of(ledger, ann)
    until = utc_now() + timedelta(milliseconds=300)
    wait = ledger.waits.sleep(job, "a while", until=until)
    assert ledger.waits.sleep(job, "a while", until=until + timedelta(days=1)).until == wait.until
    assert leave(ledger, job, wait)
    outlook = ledger.grants.outlook()
    assert outlook.due == wait.until or outlook.waits_over  # on a slow machine
    assert (notified(ledger.waits.wake_due()), ledger.runs.with_granted()) == ((), set())
    while utc_now() < until:
        pass
    assert (notified(ledger.waits.wake_due()), ledger.runs.with_granted()) == ((job.id,), {job.run_id})
    assert len(wakes(ledger.runs.notify_job(job.id))) == 1
    assert notified(ledger.waits.wake_due()) == (), "it was woken"
    assert ledger.waits.take(wait.id).status == WaitStatus.TIMED_OUT


def test_what_came_while_its_run_left_keeps_it_here(ledger: Ledger, ann: str) -> None:
    job = job_of(ledger, ann)
    wait = await_it(ledger, job)
    send(ledger, ann)
    assert not leave(ledger, job, wait)


def test_a_child_that_ends_while_the_run_leaves_keeps_it_here(ledger: Ledger, ann: str) -> None:
    """Its end is on record before the wait for it is settled, which the job does that waits."""
    job = job_of(ledger, ann)
    wait, _ = ledger.waits.for_child(job, "child", kind="generate-image", parameters={})
    assert wait.child_job_id is not None
    ledger.jobs.finish(wait.child_job_id, JobStatus.COMPLETED)
    assert not leave(ledger, job, wait)


def test_a_person_wakes_a_wait_or_extends_it(ledger: Ledger, ann: str) -> None:
    """One that is settled is neither."""
    job = job_of(ledger, ann)
    wait = await_it(ledger, job)
    longer = utc_now() + timedelta(days=365)
    extended, implied = ledger.waits.extend(wait.id, until=longer)
    assert (extended.until, notified(implied)) == (longer, (job.id,))
    woken, implied = ledger.waits.wake(wait.id)
    assert (woken.status, woken.settled_by, notified(implied)) == (WaitStatus.TIMED_OUT, "hand", (job.id,))
    with pytest.raises(WrongState):
        ledger.waits.wake(wait.id)
    with pytest.raises(WrongState):
        ledger.waits.extend(wait.id, until=longer)


# -- other jobs ------------------------------------------------------------------------------------------------------


def test_the_end_of_another_job_wakes_who_started_it(ledger: Ledger, ann: str) -> None:
    """Asked for twice, it is started once."""
    job = job_of(ledger, ann)
    wait, implied = ledger.waits.for_child(job, "picture", kind="generate-image", parameters={"prompt": "a fox"})
    again, nothing = ledger.waits.for_child(job, "picture", kind="generate-image", parameters={"prompt": "a fox"})
    assert (again.id, assigned(implied), assigned(nothing)) == (wait.id, (wait.child_job_id,), ())
    assert leave(ledger, job, wait)
    assert wait.child_job_id is not None
    assert notified(ledger.jobs.finish(wait.child_job_id, JobStatus.COMPLETED)) == (job.id,)
    assert ledger.runs.with_granted() == {job.run_id}, "reconcile finds it where nobody told"
    assert ledger.waits.take(wait.id).status == WaitStatus.RECEIVED


def test_who_is_cancelled_cancels_what_it_waits_for(ledger: Ledger, ann: str) -> None:
    """And what it waited for, once it has ended, is nobody's any more."""
    job = job_of(ledger, ann)
    wait, _ = ledger.waits.for_child(job, "picture", kind="generate-image", parameters={})
    sleep = ledger.waits.sleep(job, "long", until=utc_now() + timedelta(days=1))
    assert leave(ledger, job, wait, sleep)
    implied = ledger.jobs.cancel(job.id)
    assert cancelled(implied) == (wait.child_job_id,)
    assert {each.status for each in ledger.waits.of_job(job.id)} == {WaitStatus.CANCELLED}


OPENS: dict[str, Callable[[Ledger, Job], object]] = {
    "sleep": lambda ledger, job: ledger.waits.sleep(job, "new", until=utc_now()),
    "event": await_it,
    "child": lambda ledger, job: ledger.waits.for_child(job, "new", kind="generate-image", parameters={}),
}


@pytest.mark.parametrize("opens", OPENS.values(), ids=OPENS)
@pytest.mark.parametrize("has_ended", [True, False], ids=["has ended", "was cancelled"])
def test_a_job_that_is_over_begins_no_wait(
    ledger: Ledger, ann: str, opens: Callable[[Ledger, Job], object], has_ended: bool
) -> None:
    """Its process may not know yet. A job that it starts would be paid for, and waited for by nobody."""
    job = picture_in_flight(ledger, ann).job
    if has_ended:
        ledger.jobs.finish(job.id, JobStatus.FAILED)
    else:
        ledger.jobs.cancel(job.id)
    with pytest.raises(WrongState):
        opens(ledger, job)
    assert ledger.waits.of_job(job.id) == []
    assert [each.id for each in ledger.jobs.page(ann, limit=10)] == [job.id]


def test_a_replay_waits_on_and_starts_what_had_failed_anew(ledger: Ledger, ann: str) -> None:
    job = job_of(ledger, ann)
    ledger.waits.sleep(job, "long", until=utc_now() + timedelta(days=1))
    wait, _ = ledger.waits.for_child(job, "picture", kind="generate-image", parameters={})
    assert wait.child_job_id is not None
    ledger.jobs.finish(wait.child_job_id, JobStatus.FAILED, error={"message": "no"})
    ledger.waits.take(wait.id)
    ledger.jobs.finish(job.id, JobStatus.FAILED, error={"message": "no"})
    ledger.jobs.replay(job.id)
    assert [(each.name, each.status) for each in ledger.waits.of_job(job.id)] == [("long", WaitStatus.OPEN)]
    anew, _ = ledger.waits.for_child(job, "picture", kind="generate-image", parameters={})
    assert anew.child_job_id != wait.child_job_id


# -- steps -----------------------------------------------------------------------------------------------------------


def test_a_step_is_done_once_and_its_attempts_are_counted(ledger: Ledger, ann: str) -> None:
    job = job_of(ledger, ann)
    assert ledger.steps.begin(job.id, "charge").attempts == 1
    second = ledger.steps.begin(job.id, "charge")
    assert (second.attempts, second.done_at) == (2, None)
    ledger.steps.done(job.id, "charge", {"charge_id": "ch_1"})
    done = ledger.steps.begin(job.id, "charge")
    assert (done.attempts, done.result) == (2, {"value": {"charge_id": "ch_1"}})
    assert done.done_at is not None


def test_a_step_that_is_done_stays_as_it_was_done_first(ledger: Ledger, ann: str) -> None:
    """A process that was taken for dead carries it out after all: what the job went on with is what is on record."""
    job = job_of(ledger, ann)
    ledger.steps.begin(job.id, "charge")
    ledger.steps.done(job.id, "charge", {"charge_id": "ch_1"})
    done = ledger.steps.get(job.id, "charge")
    assert ledger.steps.begin(job.id, "charge") == done
    ledger.steps.done(job.id, "charge", {"charge_id": "ch_2"})
    ledger.steps.failed(job.id, "charge", {"message": "charged already"})
    assert ledger.steps.get(job.id, "charge") == done


def test_why_says_what_a_job_waits_for(ledger: Ledger, ann: str) -> None:
    """In words for somebody who did not write the flow."""
    job = job_of(ledger, ann)
    wait = await_it(ledger, job, match="score=4")
    said = ledger.waiting_for(job, [])
    assert said is not None
    assert f"an event '{NAME}' with score=4, until " in said and wait.id in said
    ledger.waits.wake(wait.id)
    ledger.waits.sleep(job, "a year", until=utc_now() + timedelta(days=365))
    assert "its step 'a year' sleeps" in str(ledger.waiting_for(job, []))
