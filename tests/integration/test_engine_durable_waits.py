"""What a job function waits for, on a real ledger: time and events, in whatever order they come."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from implying import assigned
from job_calls import COMPLETED, DAY, Call, called, calling, waits
from job_calls import call as call
from job_calls import resources as resources
from job_calls import row as row

from darkroom import ForEvent, Job, Sleep
from darkroom.clock import utc_now
from darkroom.engine.resources import Resources
from darkroom.errors import BadInput
from darkroom.events import EventIngest, Sender
from darkroom.ledger import WAIT, EffectKind, Ledger, WaitStatus
from darkroom.ledger import Job as JobRow

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def send(ledger: Ledger, row: JobRow, name: str = COMPLETED, **data: Any) -> str:
    sender = Sender(source="test", owner_id=row.user_id, user_id=row.user_id)
    (taken,), _ = EventIngest(ledger).take(sender, [{"name": name, "data": {"account": "a-1"} | data}])
    assert taken.problem is None
    return taken.id


def test_a_sleep_counts_from_the_moment_it_was_first_come_to(call: Call, ledger: Ledger, row: JobRow) -> None:
    """Nothing is expected meanwhile, so no process need stay for it."""
    first = waits(lambda: call().sleep(DAY))
    again = waits(lambda: call().sleep(DAY))
    (wait,) = ledger.waits.of_job(row.id)
    assert first.due == again.due == wait.until
    assert (first.refs, first.expected) == ({WAIT + wait.id}, False)
    ledger.waits.wake(wait.id)
    call().sleep(DAY)


@pytest.mark.parametrize("duration", [timedelta(days=366 * 101), timedelta.max])
def test_a_sleep_that_nobody_can_mean_is_refused(call: Call, duration: timedelta) -> None:
    with pytest.raises(BadInput, match="hundred years"):
        call().sleep(duration)
    with pytest.raises(BadInput, match="time zone"):
        call().sleep_until(datetime(2030, 1, 1))  # noqa: DTZ001


def test_an_event_is_found_back_to_the_start_of_the_job(call: Call, ledger: Ledger, row: JobRow) -> None:
    """The first that matches, by any way to say what matches."""
    send(ledger, row, account="b-2")
    event_id = send(ledger, row)
    for match in ({"account": "a-1"}, "event.data.account == 'a-1'"):
        found = call().wait_for_event(COMPLETED, match=match, timeout=DAY, step="completed")
        assert found is not None
        assert (found.id, found.name, found.data) == (event_id, COMPLETED, {"account": "a-1"})


def test_an_event_that_comes_later_wakes_it_and_one_that_does_not_is_none(
    call: Call, ledger: Ledger, row: JobRow
) -> None:
    def say() -> object:
        return call().wait_for_event(COMPLETED, timeout=DAY, step="completed")

    waits(say)
    event_id = send(ledger, row)
    found = say()
    assert getattr(found, "id", None) == event_id
    assert call().wait_for_event("order.placed", timeout=timedelta(0)) is None


def test_each_wait_of_a_job_takes_an_event_of_its_own(call: Call, ledger: Ledger, row: JobRow) -> None:
    """In the order in which they came: a job can follow what happens, one after the other."""
    sent = [send(ledger, row) for _ in range(2)]

    def follow() -> list[str]:
        job, found = call(), []
        while (event := job.wait_for_event(COMPLETED, timeout=DAY)) is not None:
            found.append(event.id)
        return found

    waits(follow)
    *taken, last = ledger.waits.of_job(row.id)
    assert [wait.event_id for wait in taken] == sent
    assert last.status == WaitStatus.OPEN


def test_the_event_that_started_a_job_is_not_one_it_waits_for(
    call: Call, ledger: Ledger, row: JobRow, resources: Resources
) -> None:
    """Or a flow that an order starts could not wait for the next one."""
    from darkroom.ledger import EventStart, NewEvent

    start = EventStart(deployment="process-order/on-demand")
    event = NewEvent(name="order.placed", user_id=row.user_id, owner_id=row.user_id, data={}, starts=[start])
    _, implied = ledger.events.receive("test", [event], matches=lambda *_: True)
    (record,) = ledger.jobs.take_up(assigned(implied))
    waits(lambda: Job(record, resources, as_tasks=False).wait_for_event("order.placed"))


@pytest.mark.parametrize(
    "value", ["it's", 'say "x"', "a\\b", "a\nb\u2028c\x01", "' || true || '", "🦊", "", True, None, 7, -1.5]
)
def test_what_a_user_typed_is_compared_and_never_read_as_a_condition(value: Any) -> None:
    from darkroom.engine.conditions import as_text
    from darkroom.events import matches

    text = as_text({"field": value})
    assert text is not None
    assert matches(text, {"field": value}) is True
    assert matches(text, {"field": "another"}) is not True


@pytest.mark.parametrize("match", ["event.data.", "account == 'a'", {"a b": 1}, {"account": ["a"]}, {"a": 2**70}])
def test_a_condition_that_cannot_be_read_is_refused_at_once(call: Call, match: Any) -> None:
    """It would be waited for in vain. So would an event that nobody can send."""
    with pytest.raises(BadInput) as caught:
        call().wait_for_event(COMPLETED, match=match)
    assert (caught.value.field, caught.value.step) == ("match", None)
    with pytest.raises(BadInput, match="registered"):
        call().wait_for_event("user.profile_compleeted")


# -- one of several --------------------------------------------------------------------------------------------------

EITHER: Mapping[str, Sleep | ForEvent] = {"done": ForEvent(COMPLETED), "late": Sleep(DAY)}


def test_the_first_of_several_is_the_one_for_ever(call: Call, ledger: Ledger, row: JobRow) -> None:
    """The others have passed: their time wakes nobody, and a later wait may take their event."""
    waiting = waits(lambda: call().wait_any(EITHER))
    by_name = {wait.name: wait for wait in ledger.waits.of_job(row.id)}
    assert waiting.due == by_name["wait_any-1:late"].until
    assert waiting.refs == {WAIT + wait.id for wait in by_name.values()}
    ledger.waits.wake(by_name["wait_any-1:late"].id)
    event_id = send(ledger, row)
    for _ in range(2):
        job = call()
        assert job.wait_any(EITHER) == ("late", None)
        found = job.wait_for_event(COMPLETED)
        assert found is not None and found.id == event_id
    assert ledger.waits.take(by_name["wait_any-1:done"].id).status == WaitStatus.SUPERSEDED


def test_an_event_before_the_time_is_the_one_of_several(call: Call, ledger: Ledger, row: JobRow) -> None:
    """With what it brought, and the time over or not."""
    event_id = send(ledger, row)
    key, event = call().wait_any({"late": Sleep(timedelta(milliseconds=1)), "done": ForEvent(COMPLETED)})
    assert key == "done" and event is not None and event.id == event_id


def test_nothing_to_wait_for_is_refused(call: Call) -> None:
    with pytest.raises(BadInput, match="at least one"):
        call().wait_any({})


def test_a_run_knows_when_it_is_worth_to_stay(resources: Resources, row: JobRow) -> None:
    """Not for what has its time; until then nothing is expected."""
    with calling(resources, lambda job: job.sleep(DAY)) as (calls, _):
        called(calls, row.id)
        assert calls.sleep([row.id]) and not calls.sleep([row.id, "another"])
        assert calls.next_time is not None and calls.next_time > utc_now() + DAY / 2
    with calling(resources, lambda job: job.invoke("generate-image", prompt="a fox")) as (calls, _):
        called(calls, row.id)
        assert not calls.sleep([row.id]) and calls.next_time is None


def test_an_event_says_that_it_came_before_the_wait(call: Call, ledger: Ledger, row: JobRow) -> None:
    """On its own record, for whoever looks at what it did."""
    event_id = send(ledger, row)
    call().wait_for_event(COMPLETED)
    assert [effect.what for effect in ledger.events.effects(event_id)] == [EffectKind.WOKE]
