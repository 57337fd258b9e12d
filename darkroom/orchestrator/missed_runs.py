"""Missed slots of cron: a run asks at its start whether it is still wanted, `reconcile` makes those that are not there.

What is to be done is declared beside the schedule (`darkroom/orchestrator/missed_slots.py`). A run decides for itself,
from its slot, the time and what runs there are, so nobody has to agree with anybody; one that is not wanted ends as
Skipped, and says why. A run that a person started has no slot, and one that was begun before is not stopped half-way:
both go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from prefect import State
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger
from prefect.states import Completed

from darkroom.clock import Clock, utc_now
from darkroom.errors import DarkroomError, NeedsHuman
from darkroom.orchestrator import RECONCILE, Orchestrator
from darkroom.orchestrator.missed_slots import (
    MOST_MADE,
    Missed,
    MissedSlots,
    read_missed_slots,
    to_be_made,
    why_skipped,
)
from darkroom.orchestrator.schedules import Schedule, Timetable, Timetables
from darkroom.timing import UNSCALED, Timing

SKIPPED = "Skipped"
COMPLETED = "Completed"


def skipped(orchestrator: Orchestrator, *, timing: Timing = UNSCALED, clock: Clock = utc_now) -> State[None] | None:
    """Return the end of the flow run that asks, if its slot was missed and is not to be made up for.

    Return None if it goes on.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or (slot := slot_of(context.flow_run)) is None:
        return None
    now = clock()
    if now - slot < timing.on_time:  # nothing is asked for what is always so
        return None
    try:
        flow = context.flow.name if context.flow else ""
        why = _why_skipped(orchestrator, context.flow_run, slot, flow=flow, timing=timing, now=now)
    except DarkroomError as error:
        get_run_logger().warning("Whether the slot of %s was missed cannot be told, so it counts: %s", slot, error)
        return None
    return None if why is None else Completed(name=SKIPPED, message=why)


def slot_of(flow_run: FlowRun) -> datetime | None:
    """Return the slot for which the run was made; None: a person made it, or it was begun before."""
    if not flow_run.auto_scheduled or flow_run.run_count > 1 or flow_run.expected_start_time is None:
        return None
    return datetime.fromtimestamp(flow_run.expected_start_time.timestamp(), UTC)


def _why_skipped(
    orchestrator: Orchestrator, flow_run: FlowRun, slot: datetime, *, flow: str, timing: Timing, now: datetime
) -> str | None:
    assert flow_run.deployment_id is not None
    timetable = orchestrator.timetables.of(flow_run.deployment_id)
    rule = read_missed_slots().get(f"{flow}/{timetable.name}")
    schedule = timetable.schedule(str(flow_run.created_by.id) if flow_run.created_by else None)
    if rule is None or schedule is None:
        return None
    return give_way(orchestrator.timetables, timetable, rule, schedule, slot, now=now, timing=timing)


def give_way(
    timetables: Timetables,
    timetable: Timetable,
    rule: MissedSlots,
    schedule: Schedule,
    slot: datetime,
    *,
    now: datetime,
    timing: Timing = UNSCALED,
) -> str | None:
    """Say why a run of that slot, which is one of the schedule, is not to run; None: it is."""
    # The run that it gives way to is made where it is missing: after an outage of the server the last run that was made
    # ahead is there before `reconcile` has looked.
    if rule.then is Missed.RUN_ONCE:
        _make_missing(timetables, timetable, rule, since=slot, now=now)
    newest = timetables.newest_on_record(timetable.deployment_id, until=now)
    following = schedule.following(slot)
    return why_skipped(rule, slot, now=now, newest=newest or slot, following=following, timing=timing)


def make_missing(orchestrator: Orchestrator, *, now: datetime) -> None:
    """Make the runs of slots that came while Prefect's server was out: it makes none for times that are over."""
    # The last turn of `reconcile` that has completed has looked, too. What Prefect cannot do now is raised: then this
    # turn has not completed, and the next one looks further back.
    since = orchestrator.timetables.last_start(orchestrator.deployment_id(RECONCILE), named=COMPLETED)
    if since is None:
        return
    for name, rule in _declared().items():
        try:
            made = make_missing_of(orchestrator, name, rule, since=since, now=now)
        except NeedsHuman as error:  # it is in the file, and was not deployed
            get_run_logger().warning("%s: missed slots are not looked for: %s", name, error)
            continue
        for slot in made:
            get_run_logger().warning("%s: a run was made for its missed slot of %s (%s)", name, slot, rule.then)


def _declared() -> dict[str, MissedSlots]:
    """Return the rules of all deployments but `reconcile`: a turn of it is what looks."""
    try:
        return {name: rule for name, rule in read_missed_slots().items() if name != RECONCILE}
    except NeedsHuman as error:
        get_run_logger().warning("Missed slots are not looked for: %s", error)
        return {}


def make_missing_of(
    orchestrator: Orchestrator, name: str, rule: MissedSlots, *, since: datetime, now: datetime
) -> Sequence[datetime]:
    """Make the missing runs of the deployment of that full name, and return their slots.

    Raises `NeedsHuman` if there is no such deployment.
    """
    timetable = orchestrator.timetables.of(orchestrator.deployment_id(name))
    return _make_missing(orchestrator.timetables, timetable, rule, since=since, now=now)


def _make_missing(
    timetables: Timetables, timetable: Timetable, rule: MissedSlots, *, since: datetime, now: datetime
) -> Sequence[datetime]:
    due = timetable.due(after=since, until=now, most=MOST_MADE)
    if not due:
        return []
    missing = to_be_made(rule, due, on_record=timetables.on_record(timetable.deployment_id, slots=due))
    for slot in missing:
        timetables.make(timetable.deployment_id, slot)
    return missing
