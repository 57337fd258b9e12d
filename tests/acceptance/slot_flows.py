"""The flow of `test_late_slots.py`, and its deployments: one for each thing that can be declared of missed slots."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from prefect import State, flow
from prefect.states import Completed

from darkroom.clock import utc_now
from darkroom.orchestrator import Orchestrator
from darkroom.orchestrator.missed_runs import skipped

DECLARED = {
    "all": "run_all",
    "once": "run_once",
    "skip": "skip",
    "skip-later": "{then: skip, after: 55m}",
    "as-prefect-does": None,
}


def deployments() -> str:
    """As they stand in prefect.yaml: hourly, the last slot ten minutes ago."""
    minute = (utc_now() - timedelta(minutes=10)).minute
    return "".join(_deployment(name, minute, declared) for name, declared in DECLARED.items())


def _deployment(name: str, minute: int, declared: str | None) -> str:
    missed = f"\n    missed_slots: {declared}" if declared else ""
    return f"""
  - name: {name}
    entrypoint: flows/slot_flows.py:slot
    work_pool: {{name: darkroom}}
    schedules:
      - {{cron: "{minute} * * * *", timezone: UTC, slug: hourly}}{missed}
"""


@flow(name="slot", retries=0)
def slot() -> State[Any]:
    with Orchestrator() as orchestrator:
        return skipped(orchestrator) or Completed(message="It ran.")
