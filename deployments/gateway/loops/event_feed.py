"""The one thread of a gateway that brings accepted events into Prefect's feed, a few at a time.

It comes when an event was accepted here, and every few seconds for those that flows sent; with the gateway gone,
`reconcile` tells what was not told.
"""

from __future__ import annotations

from darkroom.deployments.gateway.loops.loop import Loop
from darkroom.events.feed import CHUNK, publish_some
from darkroom.ledger import Ledger
from darkroom.orchestrator import Orchestrator

# 200 events a second, which Prefect can take beside its own (`darkroom/events/feed.py`): ten thousand in a minute.
BETWEEN_SECONDS = 0.25


class EventPublisher(Loop):
    def __init__(self, ledger: Ledger, orchestrator: Orchestrator) -> None:
        failing = "Events are not in Prefect's feed yet"
        super().__init__("event publisher", failing=failing, after_failure=ledger.timing.events_failed)
        self._ledger = ledger
        self._orchestrator = orchestrator
        self._idle = ledger.timing.events_idle.total_seconds()

    def _turn(self) -> float:
        while publish_some(self._ledger, self._orchestrator, before=self._ledger.clock()) == CHUNK:
            if self._stopping.wait(BETWEEN_SECONDS):
                break
        return self._idle
