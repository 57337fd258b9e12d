"""What a committed change asks for outside the ledger, as data.

A transition returns these; its caller carries them out after the commit (`darkroom/orchestrator/dispatch.py`), and
`reconcile` does again whatever was not done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID


@dataclass(frozen=True, kw_only=True)
class Wake:
    """A run that left is to be told that something came."""

    flow_run_id: UUID
    ref: str
    event: str
    awaits_input: bool = False  # it was suspended with a form: an event does not resume it


@dataclass(frozen=True, kw_only=True)
class Start:
    """A run on record for which a Prefect flow run is to be created."""

    run_id: str
    deployment: str  # "generate-image/on-demand"
    user_id: str
    plan: str
    in_flight: int
    parameters: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Implied:
    wakes: tuple[Wake, ...] = ()
    starts: tuple[Start, ...] = ()
    assigns: tuple[str, ...] = ()  # jobs that go on without a slot: a run is to take them
    notifies: tuple[str, ...] = ()  # jobs for which something came: their runs are to be notified
    cancels: tuple[str, ...] = ()  # jobs that nobody waits for any more
    begins: tuple[str, ...] = ()  # deployments of which a start may begin that flow control has held
    grant: bool = False  # a slot became free, or a row came to wait for one

    def __add__(self, other: Implied) -> Implied:
        return Implied(
            wakes=self.wakes + other.wakes,
            starts=self.starts + other.starts,
            assigns=self.assigns + other.assigns,
            notifies=self.notifies + other.notifies,
            cancels=self.cancels + other.cancels,
            begins=self.begins + other.begins,
            grant=self.grant or other.grant,
        )


NOTHING = Implied()
