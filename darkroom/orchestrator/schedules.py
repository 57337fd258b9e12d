"""When a deployment's schedules have slots, and which of them Prefect has a run for.

A slot is reckoned by Prefect's own code and made by its own scheduler (`POST /deployments/{id}/schedule`, which is
there for backfills), under the key that it gives such a run itself: whoever makes it, it is there once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from darkroom.orchestrator.api import PrefectApi

if TYPE_CHECKING:
    from prefect.server.schemas.schedules import SCHEDULE_TYPES

AUTO_SCHEDULED = "auto-scheduled"  # the tag of runs that Prefect's scheduler has made
# Looked through one after the other for the newest slots: Prefect reckons forward, at most 1,000 from where it begins.
REACHES = (timedelta(hours=1), timedelta(days=1), timedelta(days=60), timedelta(days=1000))
MOMENT = timedelta(microseconds=1)  # Prefect begins with the start itself


@dataclass(frozen=True, kw_only=True)
class Schedule:
    id: str
    active: bool
    created: datetime
    rule: SCHEDULE_TYPES

    def following(self, slot: datetime) -> datetime | None:
        """Return the next slot after that time; None if the schedule has an end."""
        return next(self._slots(after=slot, until=None, most=1), None)

    def newest(self, *, after: datetime, until: datetime, most: int) -> Sequence[datetime]:
        """Return the last slots after the one time and no later than the other, oldest first."""
        for reach in REACHES:
            begin = max(after, until - reach)
            found = list(self._slots(after=begin, until=until, most=1000))
            if len(found) >= most or begin == after:
                return found[-most:]
        return found

    def _slots(self, *, after: datetime, until: datetime | None, most: int) -> Iterator[datetime]:
        # Prefect's `get_dates` around it is a coroutine.
        for slot in self.rule._get_dates_generator(n=most, start=after + MOMENT, end=until):
            yield datetime.fromtimestamp(slot.timestamp(), UTC)


@dataclass(frozen=True, kw_only=True)
class Timetable:
    """A deployment's schedules. `paused`: Prefect makes no runs of any."""

    deployment_id: UUID
    name: str  # without the flow's
    paused: bool
    created: datetime
    schedules: Sequence[Schedule]

    def due(self, *, after: datetime, until: datetime, most: int) -> Sequence[datetime]:
        """Return the last slots in that time of schedules that were there and are switched on, oldest first."""
        if self.paused:
            return []
        found: set[datetime] = set()
        for schedule in self.schedules:
            # A deployment does not make up for the time before it was there.
            begin = max(after, self.created, schedule.created)
            if schedule.active and begin < until:
                found |= set(schedule.newest(after=begin, until=until, most=most))
        return sorted(found)[-most:]

    def schedule(self, id: str | None) -> Schedule | None:
        """Return the schedule; None for one that was taken away since."""
        return next((each for each in self.schedules if each.id == id), None)


class Timetables:
    def __init__(self, api: PrefectApi) -> None:
        self._api = api

    def of(self, deployment_id: UUID) -> Timetable:
        return _timetable(self._api.call("GET", f"/deployments/{deployment_id}"))

    def on_record(self, deployment_id: UUID, *, slots: Sequence[datetime]) -> set[datetime]:
        """Return those of the slots that Prefect's scheduler has made a run for, whatever its outcome.

        `slots`: oldest first.
        """
        between = {"after_": slots[0].isoformat(), "before_": slots[-1].isoformat()}
        wanted = {"deployment_id": {"any_": [str(deployment_id)]}, "expected_start_time": between}
        found = self._api.all_of("/flow_runs/filter", {"flow_runs": wanted, "sort": "ID_DESC"})
        # A run that a person starts at the time of a slot is not the slot's.
        return {_time(run["expected_start_time"]) for run in found if run["auto_scheduled"]}

    def newest_on_record(self, deployment_id: UUID, *, until: datetime) -> datetime | None:
        """Return the last slot up to then that Prefect's scheduler has made a run for, by any of the schedules."""
        wanted = {
            "deployment_id": {"any_": [str(deployment_id)]},
            "expected_start_time": {"before_": until.isoformat()},
            "tags": {"all_": [AUTO_SCHEDULED]},
        }
        body = {"flow_runs": wanted, "sort": "EXPECTED_START_TIME_DESC", "limit": 1}
        found = self._api.call("POST", "/flow_runs/filter", json=body)
        return _time(found[0]["expected_start_time"]) if found else None

    def make(self, deployment_id: UUID, slot: datetime) -> None:
        """Make the run of that slot, as the scheduler would have made it.

        Make none where it is there, or no schedule has the slot.
        """
        at = slot.isoformat()
        body = {"start_time": at, "end_time": at, "min_time": 0.0, "min_runs": 1, "max_runs": 1}
        self._api.call("POST", f"/deployments/{deployment_id}/schedule", json=body)

    def last_start(self, deployment_id: UUID, *, named: str) -> datetime | None:
        """Return when the last run that ended in the state of that name began; None if there is none."""
        wanted = {"deployment_id": {"any_": [str(deployment_id)]}, "state": {"name": {"any_": [named]}}}
        # By time, not by id: only those that Prefect's scheduler makes have ids that bear it.
        body = {"flow_runs": wanted, "sort": "START_TIME_DESC", "limit": 1}
        found = self._api.call("POST", "/flow_runs/filter", json=body)
        return _time(found[0]["start_time"]) if found and found[0]["start_time"] else None


def _timetable(found: Mapping[str, Any]) -> Timetable:
    return Timetable(
        deployment_id=UUID(found["id"]),
        name=found["name"],
        paused=bool(found["paused"]),
        created=_time(found["created"]),
        schedules=[_schedule(each) for each in found["schedules"]],
    )


def _schedule(found: Mapping[str, Any]) -> Schedule:
    # Only here: whoever asks nothing about schedules does without Prefect's code.
    from prefect.server.schemas.schedules import SCHEDULE_TYPES
    from pydantic import TypeAdapter

    rule = TypeAdapter[SCHEDULE_TYPES](SCHEDULE_TYPES).validate_python(found["schedule"])
    return Schedule(id=found["id"], active=found["active"], created=_time(found["created"]), rule=rule)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
