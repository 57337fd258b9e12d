"""The work pool of all flows, and the queues that exist before any user does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from darkroom.orchestrator import WORK_POOL, Orchestrator
from darkroom.orchestrator.api import PrefectApi

POOL_TYPE = "warm"
OLD_COMMAND = "python -m prefect.engine"
# Runs per queue at once. `default` takes what is started in the UI without a queue; `system` keeps reconcile going
# however many of those there are. It has no limit: a reconcile that dies with its worker counts as running until
# somebody says otherwise, and as many as the limit would be the end of whoever brings runs back. One works at a time.
QUEUES: dict[str, int | None] = {"default": 4, "system": None}


def ensure_work_pool(api: PrefectApi, *, overwrite: bool) -> None:
    """Make the work pool and its queues. Leave an existing pool as operators set it up, unless `overwrite`.

    One that still names the first release's command is updated all the same: the warm worker refuses a command.
    """
    path = f"/work_pools/{WORK_POOL}"
    existing = api.call("GET", path, absent=True)
    if existing is None:
        body = {
            "name": WORK_POOL,
            "type": POOL_TYPE,
            "description": "Runs the flows of Darkroom.",
            "base_job_template": _template(),
        }
        api.call("POST", "/work_pools/", json=body, conflict=True)  # a worker that starts beside us makes it, too
    elif overwrite or _names_the_old_command(existing["base_job_template"]):
        api.call("PATCH", path, json={"base_job_template": _template()})
    orchestrator = Orchestrator(api)
    for name, limit in QUEUES.items():
        orchestrator.ensure_named_queue(name, limit=limit)


def _names_the_old_command(template: Mapping[str, Any]) -> bool:
    """Return whether it is as the first release made it, for Prefect's own worker."""
    # The warm worker starts no command and refuses one.
    command = template.get("variables", {}).get("properties", {}).get("command", {})
    return bool(command.get("default") == OLD_COMMAND)


def _template() -> dict[str, Any]:
    """Prefect's own for this type of pool. Secrets have no place in it: flows load them from blocks."""
    from darkroom.deployments.worker import WarmWorker

    return WarmWorker.get_default_base_job_template()
