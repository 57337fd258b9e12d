"""prefect.yaml as deployments, with one import of Prefect instead of the CLI's.

The file is the one source: `prefect deploy --all` reads it too, and a test holds the two against each other. Only what
the file uses is understood here; anything else is an error rather than silently left out.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, model_validator

from darkroom.events import CancelEntry, FlowControlEntry, TriggerEntry
from darkroom.orchestrator import RECONCILE
from darkroom.orchestrator.missed_slots import MissedSlots
from darkroom.orchestrator.project_file import PREFECT_YAML, Entry, project_files, read_entries
from darkroom.timing import UNSCALED, Timing

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment
    from prefect.schedules import Schedule


# A turn takes about half a second of a core, and one that comes before the last has ended leaves at once.
LEAST_INTERVAL = timedelta(seconds=5)
# Slots are counted from here, so that they are the same whenever it is deployed.
ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PoolPlace(_Strict):
    name: str
    work_queue_name: str | None = None


class ScheduleEntry(_Strict):
    cron: str
    # Identifies the schedule, so that deploying again changes it instead of adding one.
    slug: str
    timezone: str | None = None


class DeploymentEntry(Entry):
    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str | None = None
    work_pool: PoolPlace
    schedules: tuple[ScheduleEntry, ...] = ()
    # Its runs' and reconcile's: Prefect passes over what it does not know here.
    missed_slots: MissedSlots | None = None
    # The gateway's, and as little Prefect's.
    starts_on: tuple[TriggerEntry, ...] = ()
    flow_control: FlowControlEntry | None = None
    cancel_on: tuple[CancelEntry, ...] = ()

    @model_validator(mode="after")
    def _has_slots_to_miss(self) -> DeploymentEntry:
        if self.missed_slots is not None and not self.schedules:
            raise ValueError("missed_slots says what becomes of a schedule's slots; there are no schedules.")
        return self


def read_prefect_yaml(file: Path = PREFECT_YAML) -> list[DeploymentEntry]:
    """Read the file's deployments. Raise `NeedsHuman`, naming the place of what is wrong."""
    return read_entries(DeploymentEntry, [file])


def deploy_all(*, timing: Timing = UNSCALED) -> list[str]:
    """Create or update every deployment of the project's files. Return their names as `flow/deployment`.

    Where `timing` is scaled, `reconcile` comes at its interval instead of by the file's cron.
    """
    # One of the user's stands in for one of ours that has its name.
    wanted = {entry.full_name: (entry, file.parent) for file in project_files() for entry in read_prefect_yaml(file)}
    for entry, project in wanted.values():
        _deployment(entry, project=project, timing=timing).apply()
    return list(wanted)


def _deployment(entry: DeploymentEntry, *, project: Path, timing: Timing) -> RunnerDeployment:
    """Deploy it with its code where it is now."""
    # Workers go to that folder, as after `prefect deploy` without a pull step.
    from prefect.deployments.runner import RunnerDeployment
    from prefect.runner.storage import LocalStorage

    deployment = RunnerDeployment.from_storage(
        storage=LocalStorage(path=str(project)),
        entrypoint=entry.entrypoint,
        name=entry.name,
        description=entry.description,
        tags=entry.tags,
        schedules=[_schedule(each, of=entry.full_name, timing=timing) for each in entry.schedules],
        work_pool_name=entry.work_pool.name,
        work_queue_name=entry.work_pool.work_queue_name,
    )
    assert isinstance(deployment, RunnerDeployment)  # a coroutine only where a loop runs
    return deployment


def _schedule(entry: ScheduleEntry, *, of: str, timing: Timing) -> Schedule:
    """Return the file's cron; for `reconcile` its interval, where that is not the minute of the file."""
    from prefect.schedules import Cron, Interval

    if of == RECONCILE and timing.reconcile_every != UNSCALED.reconcile_every:
        every = max(timing.reconcile_every, LEAST_INTERVAL)
        return Interval(every, anchor_date=ANCHOR, slug=entry.slug)
    return Cron(entry.cron, slug=entry.slug, timezone=entry.timezone)
