"""What the day before came to: jobs, failures by class, spend by user and model, latency, slots.

Triggered by cron on weekdays at nine (a Monday's report begins with Friday), or by hand for any past day, from the
Prefect UI or by `prefect deployment run daily-report/weekdays -p day=2026-11-20`. Read from the ledger, shown as an
artifact of the run, and told by the notifier, once for each run. A slot that was missed is made up for as prefect.yaml
says, by its own report day. Fails where the notifier's way fails for good; the artifact is there then.
"""

from __future__ import annotations

import sys
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from prefect import flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.states import Completed

from darkroom.blocks.notifier import Notifier
from darkroom.engine.refusals import refused
from darkroom.engine.resources import Resources, open_resources
from darkroom.errors import BadInput
from darkroom.flows.parts.day_report import headline, markdown, span
from darkroom.orchestrator.missed_runs import skipped
from darkroom.order import field

KIND = "daily-report"
DAY = field("Day", "A past day, as 2026-11-20. Empty: all days since the last weekday.", None)
MOST_SHOWN = 60  # characters of a name that is none
ZONE = field("Time zone", "In which the day begins and ends, e.g. Europe/Berlin.", "UTC")
TELL = field("Tell", "Whether the notifier is told, too.", True)


def report(resources: Resources, flow_run: FlowRun, *, day: date | None, zone: ZoneInfo, tell: bool) -> str:
    """Show the report of the day and return its headline, in one line. Notify if `tell`."""
    # A slot that a worker came to late is the report of its own day.
    begin, end = span(day, now=flow_run.expected_start_time or resources.clock(), zone=zone)
    if begin >= resources.clock():
        raise BadInput("That day has not begun. Name a past one.", field="day")
    figures = resources.ledger.usage.between(begin, end)
    text, subject = markdown(figures, zone), headline(figures, zone)
    resources.orchestrator.show_text(flow_run.id, key=f"{KIND}-{begin:%Y-%m-%d}", markdown=text, description=subject)
    if tell:
        # By the run: where it is done again, it is the same piece of news.
        Notifier.load_default().send(subject, text, key=f"{KIND}-{flow_run.id}")
    return subject


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    # A folder of zones, and what no file can be called, are the file system's own errors; a path is a ValueError.
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        wrong = f"There is no time zone '{name[:MOST_SHOWN]}'. Name one like Europe/Berlin."
        raise BadInput(wrong, field="time_zone") from error


@flow(name=KIND, retries=0, log_prints=False)
def daily_report(day: date | None = DAY, time_zone: str = ZONE, tell: bool = TELL) -> State[Any]:
    """Report what a day came to."""
    context = FlowRunContext.get()
    assert context is not None and context.flow_run is not None
    with open_resources() as resources:
        if (end := skipped(resources.orchestrator, timing=resources.timing, clock=resources.clock)) is not None:
            return end
        try:
            told = report(resources, context.flow_run, day=day, zone=_zone(time_zone), tell=tell)
        except BadInput as error:
            return refused(error)
        return Completed(message=told)


if __name__ == "__main__":
    daily_report(date.fromisoformat(sys.argv[1]) if len(sys.argv) > 1 else None)
