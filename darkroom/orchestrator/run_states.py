"""The state of a flow run as Prefect tells it, and what can be read from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from darkroom.orchestrator.state_names import REFUSED

FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})
# How Prefect's engine says why a run has failed.
_EXCEPTION = re.compile(r"encountered an exception: (\w+)")
# How a flow ends that was called with what it does not take: at Prefect's own check, or at the flow's.
_REFUSED = (REFUSED, "Validation of flow parameters failed", "Flow run encountered an exception: BadInput")
_FIELD = re.compile(rf"^(?: *- |{REFUSED})?([\w.]+):", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class RunState:
    """A flow run's state. `type` is Prefect's (`RUNNING`, `PAUSED`, …), `name` what the UI shows (`Suspended`, …).

    `deployed`: a worker can start it again; a run that somebody started as a script has only its own process.
    `stranded`: it has a deployment, but its queue was deleted, and no worker is ever offered it.
    """

    type: str
    name: str
    timestamp: datetime
    message: str = ""
    deployed: bool = True
    stranded: bool = False

    @property
    def reason(self) -> str:
        """Return the state's name and the exception's, without what that said."""
        # About refused parameters that would be the values, and so the prompt.
        kind = _EXCEPTION.search(self.message)
        return f"{self.name} ({kind[1]})" if kind else self.name

    @property
    def refused(self) -> bool:
        """Return whether it failed for its parameters, and would again."""
        return self.type == "FAILED" and self.message.startswith(_REFUSED)

    @property
    def refused_fields(self) -> tuple[str, ...]:
        """Return the refused fields, as far as Prefect names them. What they were is not told: it may be anything."""
        return tuple(dict.fromkeys(_FIELD.findall(self.message))) if self.refused else ()

    @property
    def is_final(self) -> bool:
        return self.type in FINAL


def run_state_of(state: Mapping[str, Any], run: Mapping[str, Any] | None = None) -> RunState:
    deployed = run is None or run["deployment_id"] is not None
    return RunState(
        type=state["type"],
        name=state["name"],
        timestamp=datetime.fromisoformat(state["timestamp"]),
        message=state.get("message") or "",
        deployed=deployed,
        stranded=run is not None and deployed and run["work_queue_id"] is None,
    )
