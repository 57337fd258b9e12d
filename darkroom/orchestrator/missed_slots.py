"""The outcome of the slots that cron has and nobody came to: `missed_slots` beside `schedules` in prefect.yaml.

    missed_slots: run_all                        # each for itself
    missed_slots: run_once                       # the newest, for all of them
    missed_slots: {then: skip, after: 10m}       # none; `after` may be left out

Prefect makes runs ahead of their time and starts every one it has made, however late; slots that came while its server
was out it never makes. Without a word here it stays so. The decisions are pure functions;
`darkroom/orchestrator/missed_runs.py` asks them at a run's start, and `reconcile` for the slots that have no run.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from darkroom.durations import duration
from darkroom.orchestrator.project_file import Entry, read_entries
from darkroom.timing import UNSCALED, Timing

MOST_MADE = 31  # slots of one deployment that `reconcile` makes up for at once; older ones are lost


class Missed(StrEnum):
    RUN_ALL = "run_all"
    RUN_ONCE = "run_once"
    SKIP = "skip"


class MissedSlots(BaseModel):
    """As it stands in prefect.yaml: `then` alone, or with `after`, a duration like 10m."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    then: Missed
    # Later than this a slot is missed; else five minutes, or half the way to the next slot where that is less.
    after: timedelta | None = None

    @model_validator(mode="before")
    @classmethod
    def _in_one_word(cls, given: Any) -> Any:
        return {"then": given} if isinstance(given, str) else given

    @field_validator("after", mode="before")
    @classmethod
    def _as_people_write_it(cls, given: Any) -> Any:
        return duration(given) if isinstance(given, str) else given

    @model_validator(mode="after")
    def _means_something(self) -> MissedSlots:
        if self.after is not None and self.then is not Missed.SKIP:
            raise ValueError("'after' says from when on a slot is skipped: it goes with 'then: skip' alone.")
        if self.after is not None and self.after < UNSCALED.on_time:
            least = UNSCALED.on_time.total_seconds()
            raise ValueError(f"'after' is at least {least:.0f}s: a run takes its time to start.")
        return self

    def grace(self, slot: datetime, following: datetime | None, *, timing: Timing) -> timedelta:
        """Return how long after its slot a run may still begin, where it would be skipped."""
        if self.after is not None:
            return self.after
        return min(timing.slot_missed, (following - slot) / 2) if following else timing.slot_missed


def why_skipped(
    rule: MissedSlots,
    slot: datetime,
    *,
    now: datetime,
    newest: datetime,
    following: datetime | None,
    timing: Timing = UNSCALED,
) -> str | None:
    """Say why a run that starts now for that slot is skipped; None: it is to run.

    `newest`: the last slot by now that there is a run for, be it its own; `following`: the slot after its own. A slot
    that is due and has no run makes up for none: whoever asks sees to that run first.
    """
    late = now - slot
    if late < timing.on_time:
        return None
    match rule.then:
        case Missed.RUN_ONCE if newest > slot:
            return f"The slot of {_told(slot)} was missed, and the run of {_told(newest)} makes up for it."
        case Missed.SKIP if late > (grace := rule.grace(slot, following, timing=timing)):
            return f"The slot of {_told(slot)} was missed by {_long(late)}; after {_long(grace)} it is skipped."
        case _:
            return None


def to_be_made(rule: MissedSlots, due: Sequence[datetime], *, on_record: Collection[datetime]) -> Sequence[datetime]:
    """Return those of the slots that are due (oldest first) for which a run has to be made, as there is none."""
    match rule.then:
        case Missed.RUN_ALL:
            return [slot for slot in due[-MOST_MADE:] if slot not in on_record]
        case Missed.RUN_ONCE:
            # The newest makes up for the others, also where its run is there already.
            return [slot for slot in due[-1:] if slot not in on_record]
        case Missed.SKIP:
            return []


class _Deployment(Entry):
    missed_slots: MissedSlots | None = None


def read_missed_slots(file: Path | None = None) -> dict[str, MissedSlots]:
    """Read what is declared, by the deployment's full name. Raises `NeedsHuman`, naming the place."""
    entries = read_entries(_Deployment, [file] if file else None)
    return {entry.full_name: entry.missed_slots for entry in entries if entry.missed_slots is not None}


def _told(slot: datetime) -> str:
    return f"{slot:%a %Y-%m-%d %H:%M:%S %Z}" if slot.second else f"{slot:%a %Y-%m-%d %H:%M %Z}"


def _long(span: timedelta) -> str:
    minutes, seconds = divmod(round(span.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (seconds if not hours else 0, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"
