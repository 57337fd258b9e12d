"""Slots that nobody came to: what is declared is read whole or refused, and what it decides is a table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from pydantic import ValidationError

from darkroom.deployments.prefect_yaml import DeploymentEntry
from darkroom.errors import NeedsHuman
from darkroom.orchestrator.missed_runs import slot_of
from darkroom.orchestrator.missed_slots import MOST_MADE, MissedSlots, read_missed_slots, to_be_made, why_skipped
from darkroom.orchestrator.schedules import Schedule, Timetable

NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)  # a Monday
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
ALL, ONCE, SKIP = (MissedSlots.model_validate(word) for word in ("run_all", "run_once", "skip"))
SKIP_AFTER_AN_HOUR = MissedSlots.model_validate({"then": "skip", "after": "1h"})


@pytest.mark.parametrize(
    ("rule", "late", "newest", "following", "skipped"),
    [
        (ALL, 3 * DAY, NINE + 3 * DAY, NINE + DAY, None),
        (ONCE, 3 * DAY, NINE + 3 * DAY, NINE + DAY, "makes up for it"),
        (ONCE, 23 * HOUR, NINE, NINE + DAY, None),  # late, and still the newest
        (ONCE, 3 * DAY, NINE, NINE + DAY, None),  # later slots have no runs: the server was out
        (ONCE, 61 * MINUTE, NINE + 61 * MINUTE, NINE + MINUTE, "the run of Mon 2026-11-23 10:01 UTC"),
        (SKIP, 4 * MINUTE, NINE, NINE + DAY, None),
        (SKIP, 6 * MINUTE, NINE, NINE + DAY, "missed by 6 min; after 5 min it is skipped"),
        (SKIP, 29 * timedelta(seconds=1), NINE, NINE + MINUTE, None),  # half the way to the next
        (SKIP, 31 * timedelta(seconds=1), NINE, NINE + MINUTE, "missed by 31 s; after 30 s"),
        (SKIP, 6 * MINUTE, NINE, None, "after 5 min"),
        (SKIP_AFTER_AN_HOUR, 59 * MINUTE, NINE, NINE + DAY, None),
        (SKIP_AFTER_AN_HOUR, 62 * MINUTE, NINE, NINE + DAY, "missed by 1 h 2 min; after 1 h it"),
        (SKIP, timedelta(seconds=5), NINE + timedelta(seconds=2), NINE + timedelta(seconds=2), None),
    ],
)
def test_a_run_that_comes_late_is_judged_by_what_is_declared(
    rule: MissedSlots, late: timedelta, newest: datetime, following: datetime | None, skipped: str | None
) -> None:
    """Who is skipped is told why, in words."""
    why = why_skipped(rule, NINE, now=NINE + late, newest=newest, following=following)
    assert (skipped in why) if skipped and why else why is skipped


@pytest.mark.parametrize(
    ("rule", "made"),
    [(ALL, [NINE, NINE + 2 * DAY]), (ONCE, [NINE + 2 * DAY]), (SKIP, [])],
)
def test_slots_without_a_run_get_one_as_declared(rule: MissedSlots, made: list[datetime]) -> None:
    """The second of three has one; whatever became of it, it is not made again."""
    due = [NINE, NINE + DAY, NINE + 2 * DAY]
    assert list(to_be_made(rule, due, on_record={NINE + DAY})) == made
    assert list(to_be_made(rule, due, on_record=set(due))) == []
    assert list(to_be_made(rule, [], on_record=set())) == []


def test_a_long_standstill_is_made_up_for_within_bounds() -> None:
    """Of very many slots the newest."""
    due = [NINE + day * DAY for day in range(100)]
    assert list(to_be_made(ALL, due, on_record=set())) == due[-MOST_MADE:]


# -- the declaration -------------------------------------------------------------------------------------------------


def entry(**more: Any) -> dict[str, Any]:
    schedules = [{"cron": "0 9 * * *", "slug": "nine"}]
    made = {"name": "n", "entrypoint": "flows/a_b.py:a_b", "work_pool": {"name": "p"}, "schedules": schedules}
    return made | more


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"missed_slots": "run_twice"}, "run_all"),
        ({"missed_slots": {"then": "run_all", "after": "5m"}}, "goes with 'then: skip'"),
        ({"missed_slots": {"then": "skip", "after": "1s"}}, "at least 10s"),
        ({"missed_slots": {"then": "skip", "after": "soon"}}, "'soon' is no duration"),
        ({"missed_slots": {"then": "skip", "within": "5m"}}, "within"),
        ({"missed_slots": "skip", "schedules": []}, "there are no schedules"),
    ],
)
def test_what_is_declared_wrongly_is_refused_with_its_remedy(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        DeploymentEntry.model_validate(entry(**more))


def test_it_is_read_by_the_deployments_full_name(tmp_path: Path) -> None:
    """A deployment that says nothing is left to Prefect; a file that cannot be read is named."""
    file = tmp_path / "prefect.yaml"
    file.write_text(
        "deployments:\n"
        "  - {name: daily, entrypoint: 'flows/a_b.py:a_b', missed_slots: {then: skip, after: 1h}}\n"
        "  - {name: else, entrypoint: 'flows/a_b.py:a_b'}\n"
    )
    assert read_missed_slots(file) == {"a-b/daily": SKIP_AFTER_AN_HOUR}
    file.write_text("deployments: [{name: n, entrypoint: 'a:b', missed_slots: never}]")
    with pytest.raises(NeedsHuman, match=r"prefect\.yaml.*missed_slots\.then"):
        read_missed_slots(file)
    with pytest.raises(NeedsHuman, match=r"nowhere\.yaml cannot be read"):
        read_missed_slots(tmp_path / "nowhere.yaml")


# -- when slots are --------------------------------------------------------------------------------------------------


def schedule(rule: Any, **more: Any) -> Schedule:
    return Schedule(**{"id": "s", "active": True, "created": NINE - 1000 * DAY, "rule": rule} | more)


WEEKDAYS = schedule(CronSchedule(cron="0 9 * * 1-5", timezone="UTC"))
MINUTES = schedule(CronSchedule(cron="* * * * *"))


@pytest.mark.parametrize("most", [1, 3])
def test_the_newest_slots_are_found_however_far_back_one_looks(most: int) -> None:
    """The last ones before the time, oldest first; one at the time itself is due, one at the beginning was before."""
    assert (
        WEEKDAYS.newest(after=NINE - 900 * DAY, until=NINE, most=most) == [NINE - 4 * DAY, NINE - 3 * DAY, NINE][-most:]
    )
    now = NINE + timedelta(seconds=59)
    assert (
        MINUTES.newest(after=NINE - 900 * DAY, until=now, most=most) == [NINE - 2 * MINUTE, NINE - MINUTE, NINE][-most:]
    )
    assert WEEKDAYS.newest(after=NINE - DAY, until=NINE - MINUTE, most=most) == []
    assert MINUTES.newest(after=NINE, until=NINE + MINUTE, most=most) == [NINE + MINUTE]
    assert WEEKDAYS.following(NINE - 3 * DAY) == NINE


def test_slots_keep_to_the_clock_of_their_time_zone() -> None:
    """Nine in Berlin is eight in London's winter and seven in its summer."""
    berlin = schedule(CronSchedule(cron="0 9 * * *", timezone="Europe/Berlin"))
    (before, after) = berlin.newest(
        after=datetime(2026, 10, 24, tzinfo=UTC), until=datetime(2026, 10, 26, tzinfo=UTC), most=9
    )
    assert (before.hour, after.hour) == (7, 8)


def test_other_schedules_than_cron_have_slots_too() -> None:
    """A person may have added them in Prefect."""
    hours = schedule(IntervalSchedule(interval=HOUR, anchor_date=NINE - 30 * DAY))
    daily = schedule(RRuleSchedule(rrule="FREQ=DAILY;BYHOUR=9;BYMINUTE=0;BYSECOND=0"))
    assert hours.newest(after=NINE - DAY, until=NINE, most=2) == [NINE - HOUR, NINE]
    assert daily.newest(after=NINE - 3 * DAY, until=NINE, most=2) == [NINE - DAY, NINE]


@pytest.mark.parametrize(
    ("more", "schedule_more", "due"),
    [
        ({}, {}, [NINE - 3 * DAY, NINE]),
        ({"paused": True}, {}, []),
        ({}, {"active": False}, []),
        ({"created": NINE - DAY}, {}, [NINE]),
        ({}, {"created": NINE - DAY}, [NINE]),
        ({"created": NINE + DAY}, {}, []),
    ],
)
def test_slots_of_what_was_not_there_or_switched_off_are_not_due(
    more: dict[str, Any], schedule_more: dict[str, Any], due: list[datetime]
) -> None:
    """A new deployment does not make up for the time before it."""
    made = {"deployment_id": uuid4(), "name": "n", "paused": False, "created": NINE - 1000 * DAY}
    timetable = Timetable(**made | more, schedules=[schedule(WEEKDAYS.rule, **schedule_more)])
    assert timetable.due(after=NINE - 4 * DAY, until=NINE + MINUTE, most=31) == due


@pytest.mark.parametrize(
    ("more", "has_a_slot"),
    [({}, True), ({"auto_scheduled": False}, False), ({"run_count": 2}, False)],
    ids=["made by the scheduler", "made by a person", "begun before"],
)
def test_only_what_the_scheduler_made_and_nobody_began_has_a_slot(more: dict[str, Any], has_a_slot: bool) -> None:
    """A person's run, and one that a person retries, is never skipped."""
    made = {"flow_id": uuid4(), "auto_scheduled": True, "run_count": 1, "expected_start_time": NINE}
    assert slot_of(FlowRun.model_validate(made | more)) == (NINE if has_a_slot else None)
