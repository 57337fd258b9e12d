"""The flow of `test_late_slots.py`: put into a copy of the project, under deployments that say what they do."""

from __future__ import annotations

from typing import Any

from prefect import State, flow
from prefect.states import Completed

from blocks.orchestrator import Orchestrator
from flows.engine.slots import skipped


@flow(name="slot", retries=0)
def slot() -> State[Any]:
    with Orchestrator() as orchestrator:
        return skipped(orchestrator) or Completed(message="It ran.")
