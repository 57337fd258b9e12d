"""The automation that resumes a run when what it waits for has come.

`within` is 0 because a window would fire once for everybody in it. Automations have no unique names and creating one
twice would resume twice, so they are upserted by name, and surplus ones removed.
"""

from __future__ import annotations

from typing import Any

from blocks.orchestrator import RESUME_EVENTS
from blocks.prefect_api import PrefectApi

RESUME_ON_CALLBACK: dict[str, Any] = {
    "name": "Darkroom: resume on callback",
    "description": "Resumes the flow run named by the event. The fast path: reconcile resumes what this one missed.",
    "trigger": {
        "type": "event",
        "posture": "Reactive",
        "expect": sorted(RESUME_EVENTS),
        "threshold": 1,
        "within": 0,
    },
    # No run is named: it is the first flow run among the event's resources.
    "actions": [{"type": "resume-flow-run"}],
}


def ensure_automation(api: PrefectApi, wanted: dict[str, Any]) -> None:
    """Brought up to date where it differs; whether it is enabled stays as the operator left it."""
    found = api.call("POST", "/automations/filter", json={"automations": {"name": {"any_": [wanted["name"]]}}})
    for surplus in found[1:]:
        api.call("DELETE", f"/automations/{surplus['id']}", absent=True)
    if not found:
        api.call("POST", "/automations/", json=wanted, repeatable=False)
    elif _differs(found[0], wanted):
        api.call("PUT", f"/automations/{found[0]['id']}", json={**wanted, "enabled": found[0]["enabled"]})


def _differs(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    trigger = {name: _comparable(found["trigger"].get(name)) for name in wanted["trigger"]}
    actions = [{"type": action["type"]} for action in found["actions"]]
    return {**wanted, "trigger": trigger, "actions": actions} != wanted


def _comparable(value: Any) -> Any:
    """Prefect keeps the names of events as a set, in no order."""
    return sorted(value) if isinstance(value, list) else value
