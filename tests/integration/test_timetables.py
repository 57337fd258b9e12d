"""Slots of cron at a real Prefect server: reckoned by its code, made by its scheduler, each once whoever makes it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.logging import disable_run_logger
from prefect_server import PrefectServer

from darkroom.clock import utc_now
from darkroom.errors import NeedsHuman
from darkroom.orchestrator import RECONCILE, Orchestrator
from darkroom.orchestrator.missed_runs import COMPLETED, give_way, make_missing, make_missing_of
from darkroom.orchestrator.missed_slots import MissedSlots

DAY = timedelta(days=1)
ALL, ONCE, SKIP = (MissedSlots.model_validate(word) for word in ("run_all", "run_once", "skip"))
MADE_AHEAD = 2  # as our servers are set up: at least two runs, two minutes


@pytest.fixture
def orchestrator(prefect: PrefectServer) -> Orchestrator:
    return Orchestrator(prefect.api)


@pytest.fixture
def daily(prefect: PrefectServer) -> Callable[..., str]:
    """A deployment with a slot each day, and the runs that are made ahead."""

    def deploy(**more: Any) -> str:
        name, flow = uuid4().hex, prefect.call("POST", "/flows/", json={"name": "slots"})
        schedules = [{"schedule": {"cron": "0 9 * * *", "timezone": "UTC"}, "active": True, "slug": "nine"}]
        body = {"name": name, "flow_id": flow["id"], "schedules": schedules, "work_pool_name": "darkroom"}
        deployment = prefect.call("POST", "/deployments/", json=body | more)
        # As the scheduler does it, which would come to it within seconds.
        prefect.call("POST", f"/deployments/{deployment['id']}/schedule", json={"max_runs": MADE_AHEAD})
        return f"slots/{name}"

    return deploy


def runs(prefect: PrefectServer, deployment_id: UUID | str) -> list[dict[str, Any]]:
    """By their slots."""
    body = {"flow_runs": {"deployment_id": {"any_": [str(deployment_id)]}}, "sort": "EXPECTED_START_TIME_ASC"}
    return list(prefect.call("POST", "/flow_runs/filter", json=body))


def slots(prefect: PrefectServer, deployment_id: UUID) -> list[datetime]:
    return [datetime.fromisoformat(run["expected_start_time"]) for run in runs(prefect, deployment_id)]


def complete(prefect: PrefectServer, run: UUID, *, type: str = "COMPLETED", name: str = COMPLETED) -> None:
    for state in ({"type": "RUNNING"}, {"type": type, "name": name}):
        prefect.call("POST", f"/flow_runs/{run}/set_state", json={"state": state, "force": True})


@pytest.mark.parametrize(("rule", "days"), [(ALL, [1, 2, 3, 4, 5]), (ONCE, [1, 2, 5]), (SKIP, [1, 2])])
def test_slots_that_came_while_the_server_was_out_are_made_as_declared(
    prefect: PrefectServer, orchestrator: Orchestrator, daily: Callable[..., str], rule: MissedSlots, days: list[int]
) -> None:
    """In five days from now there are the runs that were made ahead, and no others; looking again makes no more."""
    name, began = daily(), utc_now()
    id = orchestrator.deployment_id(name)
    first = slots(prefect, id)[0]
    for _ in range(2):
        made = make_missing_of(orchestrator, name, rule, since=began, now=first + 4 * DAY + timedelta(hours=1))
        assert slots(prefect, id) == [first + (day - 1) * DAY for day in days]
    assert not made


def test_a_run_that_comes_late_makes_the_one_that_makes_up_for_it(
    prefect: PrefectServer, orchestrator: Orchestrator, daily: Callable[..., str]
) -> None:
    """The server was out for days: of the runs it had made ahead none runs, but the newest slot's."""
    id = orchestrator.deployment_id(daily())
    timetable = orchestrator.timetables.of(id)
    (schedule,) = timetable.schedules
    first, following = slots(prefect, id)
    newest, back = first + 4 * DAY, first + 4 * DAY + timedelta(hours=1)

    def why(slot: datetime) -> str | None:
        return give_way(orchestrator.timetables, timetable, ONCE, schedule, slot, now=back)

    for slot in (following, first):
        assert "makes up for it" in (why(slot) or "")
    assert why(newest) is None
    assert slots(prefect, id) == [first, following, newest]


def test_a_late_run_of_what_is_paused_runs_itself(
    prefect: PrefectServer, orchestrator: Orchestrator, daily: Callable[..., str]
) -> None:
    """No slot has come since, so none makes up for it."""
    id = orchestrator.deployment_id(daily())
    (first, _), (schedule,) = slots(prefect, id), orchestrator.timetables.of(id).schedules
    prefect.call("DELETE", f"/flow_runs/{runs(prefect, id)[1]['id']}")
    prefect.call("PATCH", f"/deployments/{id}", json={"paused": True})
    timetable = orchestrator.timetables.of(id)
    assert give_way(orchestrator.timetables, timetable, ONCE, schedule, first, now=first + 4 * DAY) is None


def test_a_slot_is_the_schedulers_own_whoever_makes_it(
    prefect: PrefectServer, orchestrator: Orchestrator, daily: Callable[..., str]
) -> None:
    """Same key, so never twice; same tags and parameters, and its run knows the schedule that it is of."""
    id = orchestrator.deployment_id(daily())
    ahead = runs(prefect, id)
    (schedule,) = orchestrator.timetables.of(id).schedules
    first, following = slots(prefect, id)[:2]
    assert schedule.following(first) == following
    orchestrator.timetables.make(id, first)
    orchestrator.timetables.make(id, first - 30 * DAY)
    orchestrator.timetables.make(id, first + timedelta(hours=1))  # nobody's
    past, *others = runs(prefect, id)
    assert [run["id"] for run in others] == [run["id"] for run in ahead]
    same = ("auto_scheduled", "tags", "parameters", "created_by", "work_queue_name")
    assert {key: past[key] for key in same} == {key: ahead[0][key] for key in same}
    assert past["created_by"]["id"] == schedule.id


def test_what_was_deleted_after_it_ran_is_on_record_no_more_and_what_a_person_started_never_was(
    prefect: PrefectServer, orchestrator: Orchestrator, daily: Callable[..., str]
) -> None:
    """A run that somebody starts at the time of a slot is not the slot's."""
    name = daily()
    id = orchestrator.deployment_id(name)
    first, following = slots(prefect, id)[:2]
    assert orchestrator.timetables.on_record(id, slots=[first, following]) == {first, following}
    prefect.call("DELETE", f"/flow_runs/{runs(prefect, id)[0]['id']}")
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": first.isoformat()}}
    prefect.call("POST", f"/deployments/{id}/create_flow_run", json={"state": state})
    assert first in slots(prefect, id)
    assert orchestrator.timetables.on_record(id, slots=[first, following]) == {following}


def test_the_newest_slot_is_the_last_one_that_has_a_run(
    prefect: PrefectServer, orchestrator: Orchestrator, daily: Callable[..., str]
) -> None:
    """Up to the time that is asked for, and whatever a person has started since."""
    id = orchestrator.deployment_id(daily())
    first, following = slots(prefect, id)[:2]
    prefect.call("POST", f"/deployments/{id}/create_flow_run", json={})
    newest = orchestrator.timetables.newest_on_record
    assert newest(id, until=first - DAY / 2) is None
    assert newest(id, until=following - DAY / 2) == first
    assert newest(id, until=following + 9 * DAY) == following


def test_nothing_is_made_for_what_is_paused_new_or_unknown(
    prefect: PrefectServer, orchestrator: Orchestrator, daily: Callable[..., str]
) -> None:
    """A deployment does not make up for the time before it was there."""
    began = utc_now()
    paused = daily(paused=True)
    assert not make_missing_of(orchestrator, paused, ALL, since=began, now=began + 5 * DAY)
    new = daily()
    assert not make_missing_of(orchestrator, new, ALL, since=began - 9 * DAY, now=utc_now())
    with pytest.raises(NeedsHuman, match="darkroom provision"):
        make_missing_of(orchestrator, "slots/nowhere", ALL, since=began, now=began + 5 * DAY)


def test_a_deployment_that_is_deployed_again_keeps_its_slots(
    prefect: PrefectServer, orchestrator: Orchestrator
) -> None:
    """The schedule is the same one by its slug, and so are the keys of its runs: nothing is made twice."""
    id = orchestrator.deployment_id("daily-report/weekdays")
    (before,) = orchestrator.timetables.of(id).schedules
    past = before.newest(after=utc_now() - 9 * DAY, until=utc_now(), most=1)[0]
    orchestrator.timetables.make(id, past)
    prefect.provision()
    (after,) = orchestrator.timetables.of(id).schedules
    assert (after.id, after.created) == (before.id, before.created)
    orchestrator.timetables.make(id, past)
    assert slots(prefect, id).count(past) == 1


def test_a_turn_of_reconcile_makes_what_is_missing_since_the_last_that_completed(
    prefect: PrefectServer, orchestrator: Orchestrator
) -> None:
    """Of all that declare it, but not its own: looked at a week from now, each weekday has its report."""
    complete(prefect, orchestrator.run_now(RECONCILE))
    report, turns = orchestrator.deployment_id("daily-report/weekdays"), orchestrator.deployment_id(RECONCILE)
    now = utc_now()
    with disable_run_logger():
        make_missing(orchestrator, now=now + 7 * DAY)
    assert len([slot for slot in slots(prefect, report) if now < slot <= now + 7 * DAY]) == 5
    # Only the scheduler's own, which are a few minutes ahead.
    assert not [slot for slot in slots(prefect, turns) if slot > now + timedelta(hours=1)]


def test_one_knows_when_the_last_turn_began_that_completed(prefect: PrefectServer, orchestrator: Orchestrator) -> None:
    """Others that failed or were skipped since do not count, nor do those of other deployments."""
    id = orchestrator.deployment_id(RECONCILE)

    def turn(of: str = RECONCILE, **end: str) -> datetime:
        run = orchestrator.run_now(of)
        complete(prefect, run, **end)
        return datetime.fromisoformat(prefect.call("GET", f"/flow_runs/{run}")["start_time"]).astimezone(UTC)

    for _ in range(8):  # ids are no help: of runs that are asked for they are random
        last = turn()
        assert orchestrator.timetables.last_start(id, named=COMPLETED) == last
    assert turn(type="FAILED", name="Failed") > last
    assert turn(name="Skipped") > last
    assert turn("daily-report/weekdays") > last
    assert orchestrator.timetables.last_start(id, named=COMPLETED) == last
    assert orchestrator.timetables.last_start(id, named="Never") is None
