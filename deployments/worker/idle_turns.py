"""Which turns of `reconcile` need not be run: those that cron has made while nothing is open.

A turn that finds nothing costs a process, and leaves a run with its states, and events with all they relate to, at
Prefect: each minute of every night. So the worker asks the ledger first, by one statement, and takes a turn that would
find nothing out of Prefect again. Whatever is open is still found within its minute, as the question is asked for each
slot. A turn is run all the same every few minutes, as it also reads bills and deletes what is old, and after a slot
that did not come: then the server, or this worker, was out, and slots of other deployments may have been missed.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from uuid import UUID

from prefect.client.schemas.objects import FlowRun

from darkroom.ledger import OUTAGES, Ledger
from darkroom.orchestrator import RECONCILE
from darkroom.timing import Timing

logger = logging.getLogger(__name__)


class IdleTurns:
    """Of one worker. What it remembers is gone with it, and then the next turn is run."""

    def __init__(self, ledger: Ledger, *, timing: Timing) -> None:
        self._ledger = ledger
        self._timing = timing
        self._deployments = set[UUID]()
        self._slot: datetime | None = None  # the last that came
        self._completed: datetime | None = None  # the slot of the last turn that was run to its end

    def note(self, flow_run: FlowRun, *, flow: str, deployment: str | None) -> None:
        """Remember which deployment is that of `reconcile`."""
        if f"{flow}/{deployment}" == RECONCILE and flow_run.deployment_id is not None:
            self._deployments.add(flow_run.deployment_id)

    def slot(self, flow_run: FlowRun) -> datetime | None:
        """Return the slot of cron that the turn was made for; None of other runs, and of what was begun otherwise."""
        made_by_cron = flow_run.auto_scheduled and not flow_run.run_count
        return flow_run.expected_start_time if made_by_cron and flow_run.deployment_id in self._deployments else None

    def is_needless(self, slot: datetime) -> bool:
        """Tell whether the turn of that slot need not be run. Asks the ledger."""
        before, self._slot = self._slot, slot
        if before is None or self._completed is None:
            return False
        every = self._timing.reconcile_every
        in_line = timedelta() < slot - before < 1.5 * every and self._ledger.clock() - slot < every
        if not in_line or slot - self._completed >= self._timing.idle_turn:
            return False
        try:
            return not self._ledger.housekeeping.anything_open()
        except OUTAGES as error:
            logger.warning("The ledger cannot be asked whether anything is open (%s)", type(error).__name__)
            return False

    def completed(self, slot: datetime) -> None:
        self._completed = slot
        self._slot = max(self._slot or slot, slot)
