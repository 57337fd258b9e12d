"""The one thread of a gateway that makes events of the ends of jobs (`darkroom/events/job_ends.py`).

It comes when the news feed has read of one, and every few seconds for those that it missed; with the gateway gone,
`reconcile` does it.
"""

from __future__ import annotations

from collections.abc import Callable

from darkroom.deployments.gateway.loops.loop import Loop
from darkroom.events import EventIngest, ingest_ends
from darkroom.events.job_ends import AT_ONCE
from darkroom.ledger import Implied, Ledger


class JobEvents(Loop):
    collects_seconds = 0.25  # a burst of ends is one turn

    def __init__(self, ledger: Ledger, ingest: EventIngest, act_on: Callable[[Implied], None]) -> None:
        """`act_on`: carries out what the events imply."""
        failing = "Ends of jobs are no events yet"
        super().__init__("job events", failing=failing, after_failure=ledger.timing.events_failed)
        self._ledger = ledger
        self._ingest = ingest
        self._act_on = act_on
        self._idle = ledger.timing.events_idle.total_seconds()

    def _turn(self) -> float:
        while not self._stopping.is_set():
            found, implied = ingest_ends(self._ledger, self._ingest)
            if implied:
                self._act_on(implied)
            if found < AT_ONCE:
                break
        return self._idle
