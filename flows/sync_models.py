"""The cards of all models are read from their providers' platforms: what there is, what it accepts, what it costs.

Triggered by cron every night, in the Prefect UI, or by `prefect deployment run sync-models/daily`; `darkroom model
sync` does the same. Needs the block `fal-account/default`. What has changed becomes a new version; calls under way
keep the card that they were checked and priced by. What was read stays on record if a later page fails; then the run
fails, and the next one reads all again.
"""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Completed

from darkroom.engine.resources import open_resources
from darkroom.orchestrator.missed_runs import skipped
from darkroom.providers.syncing import sync_all

KIND = "sync-models"


@flow(name=KIND, retries=0, log_prints=False)
def sync_models() -> State[Any]:
    """Bring the cards of all models up to date."""
    context = FlowRunContext.get()
    assert context is not None and context.flow_run is not None
    with open_resources() as resources:
        if (end := skipped(resources.orchestrator, timing=resources.timing, clock=resources.clock)) is not None:
            return end
        return Completed(message=f"{sync_all(resources.ledger)}.")


if __name__ == "__main__":
    sync_models()
