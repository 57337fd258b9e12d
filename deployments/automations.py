"""The automations: one resumes a run when what it waits for has come, one has reconcile look at a run that ended badly.

Both are upserted by name, and surplus ones removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from darkroom.orchestrator import RESUME_EVENTS, RESUMED_ROLE
from darkroom.orchestrator.api import PrefectApi
from darkroom.timing import Timing

RESUME_ON_CALLBACK: dict[str, Any] = {
    "name": "Darkroom: resume on callback",
    "description": "Resumes the run that an event names, unless its sender has. Reconcile resumes what is missed.",
    "trigger": {
        "type": "event",
        "posture": "Reactive",
        "expect": sorted(RESUME_EVENTS),
        # A run that the event names as resumed already is passed over: the action would fail, and say so.
        "match_related": {"prefect.resource.id": "prefect.flow-run.*", "prefect.resource.role": f"!{RESUMED_ROLE}"},
        "threshold": 1,
        "within": 0,  # each resumption is its run's own, and a window fires once for everybody in it
    },
    # No run is named: it is the first flow run among the event's resources.
    "actions": [{"type": "resume-flow-run"}],
}


# A burst of cancelled runs is two turns of reconcile, one for the first and one at the end of the window for the rest;
# and a run that crashes again and again is no more. Not shorter: each turn costs half a second of a core.
LEAST_WINDOW = timedelta(seconds=2)


def reconcile_on_bad_end(*, reconcile: str, deployments: Sequence[str], timing: Timing) -> dict[str, Any]:
    """Watch these deployments' runs. Reconcile is none of them, or its own crash would start it again."""
    window = max(timing.bad_end_window, LEAST_WINDOW).total_seconds()
    look: dict[str, Any] = {"type": "run-deployment", "source": "selected", "deployment_id": reconcile}
    return {
        "name": "Darkroom: reconcile on a bad end",
        "description": "Has reconcile look at once after a run was cancelled, crashed or failed. Its cron is the net.",
        "trigger": {
            "type": "event",
            "posture": "Reactive",
            "expect": ["prefect.flow-run.Cancelled", "prefect.flow-run.Crashed", "prefect.flow-run.Failed"],
            # By their deployments: found by tags, runs that a person started would be missed, as they get theirs late.
            "match_related": {"prefect.resource.id": sorted(f"prefect.deployment.{each}" for each in deployments)},
            "threshold": 1,
            "within": window,  # once for everybody in it is just right here: a turn looks at all of them
        },
        "actions": [look, look | {"schedule_after": window}],
    }


def ensure_automation(api: PrefectApi, wanted: dict[str, Any]) -> None:
    """Brought up to date where it differs; whether it is enabled stays as the operator left it."""
    # Prefect holds no name unique, and of two that are the same each would act.
    found = api.call("POST", "/automations/filter", json={"automations": {"name": {"any_": [wanted["name"]]}}})
    for surplus in found[1:]:
        api.call("DELETE", f"/automations/{surplus['id']}", absent=True)
    if not found:
        api.call("POST", "/automations/", json=wanted, repeatable=False)  # sent again it would be there twice
    elif _differs(found[0], wanted):
        api.call("PUT", f"/automations/{found[0]['id']}", json={**wanted, "enabled": found[0]["enabled"]})


def _differs(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    trigger = {name: _comparable(found["trigger"].get(name)) for name in wanted["trigger"]}
    actions = [
        {name: there.get(name) for name in action}
        for there, action in zip(found["actions"], wanted["actions"], strict=False)
    ]
    return {**wanted, "trigger": trigger, "actions": actions} != wanted


def _comparable(value: Any) -> Any:
    # Prefect keeps the names of events as a set, in no order.
    return sorted(value) if isinstance(value, list) else value
