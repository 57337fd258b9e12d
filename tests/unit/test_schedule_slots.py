"""The slots of a schedule where its clock is put forward or back, as Prefect's own code reckons them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from prefect.server.schemas.schedules import CronSchedule

from darkroom.orchestrator.schedules import Schedule

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def at(day: str, time: str) -> datetime:
    return datetime.fromisoformat(f"2026-{day}T{time}Z")


def cron(rule: str) -> Schedule:
    in_new_york = CronSchedule(cron=rule, timezone="America/New_York")
    return Schedule(id="any", active=True, created=LONG_AGO, rule=in_new_york)


@pytest.mark.parametrize(
    ("rule", "after", "slots"),
    [
        pytest.param("30 2 * * *", at("03-07", "12:00"), [at("03-08", "07:30"), at("03-09", "06:30")], id="skipped"),
        pytest.param("30 1 * * *", at("10-31", "12:00"), [at("11-01", "05:30"), at("11-02", "06:30")], id="twice"),
        pytest.param("*/30 * * * *", at("03-08", "06:00"), [at("03-08", "06:30"), at("03-08", "07:00")], id="forward"),
        pytest.param("*/7 * * * *", at("11-01", "06:17:06.999999"), [at("11-01", "07:00")], id="in the second hour"),
    ],
)
def test_a_slot_comes_once_and_after_the_one_before_whatever_the_clock_does(
    rule: str, after: datetime, slots: list[datetime]
) -> None:
    """A time that is skipped comes an hour later; one that comes twice is a slot the first time."""
    schedule = cron(rule)
    for slot in slots:
        assert schedule.following(after) == slot
        assert schedule.newest(after=after, until=slot, most=5) == [slot]
        after = slot
