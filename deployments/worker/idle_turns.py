"""Which turns of `reconcile` need not be run: those that would find nothing to do.

A turn costs a process, and leaves a run with its states, and events with all they relate to, at Prefect: each minute of
every night, and as often while jobs are under way with which nothing is wrong. So the worker looks first at what the
turn would look at (`darkroom/engine/reconcile_due.py`), and takes one that would find nothing out of Prefect again.
What is to be done is still found within its minute, as the question is asked for each slot. A turn is run all the same
every few minutes, as it also reads bills and deletes what is old, and after a slot that did not come: then the server,
or this worker, was out, and slots of other deployments may have been missed.

Those that an automation begins, as a run has ended badly, are asked about as well: most such runs have said in the
ledger themselves how they ended. What a person begins is run.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from datetime import datetime, timedelta
from uuid import UUID

from prefect.client.schemas.objects import FlowRun

from darkroom.engine.reconcile_due import DueDuties
from darkroom.errors import DarkroomError
from darkroom.ledger import OUTAGES, Ledger
from darkroom.orchestrator import RECONCILE, Orchestrator
from darkroom.settings import Settings
from darkroom.timing import Timing

logger = logging.getLogger(__name__)

AUTOMATION = "AUTOMATION"  # as Prefect calls it in `created_by`


class IdleTurns:
    """Of one worker. What it remembers is gone with it, and then the next turn is run."""

    def __init__(self, ledger: Ledger, due: DueDuties, *, timing: Timing) -> None:
        self._ledger = ledger
        self._due = due
        self._timing = timing
        self._deployments = set[UUID]()
        self._slot: datetime | None = None  # the last that came
        self._completed: datetime | None = None  # the slot of the last turn that was run to its end

    @classmethod
    def of_stack(cls, ledger: Ledger, *, settings: Settings, opened: ExitStack) -> IdleTurns:
        """Ask this ledger, and the Prefect of our settings, which is left when `opened` is closed."""
        orchestrator = opened.enter_context(Orchestrator())
        return cls(ledger, DueDuties(ledger, orchestrator, settings=settings), timing=ledger.timing)

    def note(self, flow_run: FlowRun, *, flow: str, deployment: str | None) -> None:
        """Remember which deployment is that of `reconcile`."""
        if f"{flow}/{deployment}" == RECONCILE and flow_run.deployment_id is not None:
            self._deployments.add(flow_run.deployment_id)

    def slot(self, flow_run: FlowRun) -> datetime | None:
        """Return the slot of cron that the turn was made for; None of other runs, and of what was begun otherwise."""
        made_by_cron = flow_run.auto_scheduled and not flow_run.run_count
        return flow_run.expected_start_time if made_by_cron and flow_run.deployment_id in self._deployments else None

    def may_be_needless(self, flow_run: FlowRun) -> bool:
        """Tell whether it is a turn that nobody but cron or an automation has asked for."""
        return self.slot(flow_run) is not None or self._is_by_automation(flow_run)

    def is_needless(self, flow_run: FlowRun) -> bool:
        """Tell whether the turn need not be run. Asks the ledger, and Prefect."""
        if (slot := self.slot(flow_run)) is not None:
            return self._is_in_line(slot) and self._finds_nothing()
        return self._is_by_automation(flow_run) and self._finds_nothing()

    def completed(self, slot: datetime) -> None:
        self._completed = slot
        self._slot = max(self._slot or slot, slot)

    def _is_by_automation(self, flow_run: FlowRun) -> bool:
        by_automation = flow_run.created_by is not None and flow_run.created_by.type == AUTOMATION
        return by_automation and not flow_run.run_count and flow_run.deployment_id in self._deployments

    def _is_in_line(self, slot: datetime) -> bool:
        """Tell whether it comes when it should, after those before, and not too long after the last that was run."""
        before, self._slot = self._slot, slot
        if before is None or self._completed is None:
            return False
        every = self._timing.reconcile_every
        # Between slots that are further apart one did not come.
        in_line = timedelta() < slot - before < 1.5 * every and self._ledger.clock() - slot < every
        return in_line and slot - self._completed < self._timing.idle_turn

    def _finds_nothing(self) -> bool:
        try:
            return next(self._due.found(), None) is None
        except (*OUTAGES, DarkroomError) as error:
            logger.warning("It cannot be told whether a turn of reconcile is due (%s)", type(error).__name__)
        except Exception:  # whatever it is: the guarantee hangs on turns that are run
            logger.exception("It cannot be told whether a turn of reconcile is due")
        return False
