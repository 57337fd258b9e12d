"""Carries out the effects of a committed change (`darkroom/ledger/effects.py`): wakes runs, makes them, grants slots.

Called after the commit, by whoever made the change. Nothing here is the only chance: what fails is logged and done
again by `reconcile`, which finds it on record.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from darkroom.errors import DarkroomError
from darkroom.ledger import NOTHING, AssignJobs, Effect, Granted, Implied, Ledger, joined
from darkroom.orchestrator import Orchestrator

logger = logging.getLogger(__name__)


class Dispatcher:
    def __init__(self, ledger: Ledger, orchestrator: Orchestrator) -> None:
        self.ledger = ledger
        self.orchestrator = orchestrator

    def carry_out(self, implied: Implied) -> None:
        """Carry out the effects, and those that follow from them."""
        # As keys: an effect that is implied twice is carried out once.
        due = dict.fromkeys(joined(implied))
        while due:
            effect = next(iter(due))
            del due[effect]
            due |= dict.fromkeys(joined(self.carry_out_one(effect)))

    def carry_out_one(self, effect: Effect) -> Implied:
        """Carry out one effect. Return what follows from it, which is left to the caller."""
        with _left_to_reconcile(effect.undone):
            return effect.carry_out(self)
        return NOTHING

    def wake_due(self) -> Implied:
        """Notify the suspended runs of which a wait is over, in the ledger. Return what concerns Prefect."""
        return sum(map(self.carry_out_one, self.ledger.waits.wake_due()), NOTHING)

    def grant(self) -> None:
        """Hand out the slots that are free, notify the runs, and make those that are missing."""
        # Not left to reconcile where it fails: nobody else may come to do it.
        self.carry_out(self.hand_out())

    def hand_out(self, *, on_grant: Callable[[Sequence[Granted]], None] | None = None) -> Implied:
        """Hand out the slots that are free, in the ledger. Return what concerns Prefect.

        `on_grant` is told of them before any run is: what it begins to send no run finds unsent. It returns soon.
        """
        granted = self.ledger.grants.grant()
        if granted and on_grant is not None:
            on_grant(granted)
        implied = NOTHING
        # One notification wakes a run for all its rows.
        for run_id, of_run in _by_run(granted).items():
            with _left_to_reconcile(f"Run {run_id} was not told of its slots"):
                job_ids = [each.job_id for each in of_run]
                implied += self.ledger.runs.notify(run_id, of_run[-1].ref, job_ids=job_ids)
        if unassigned := tuple(each.job_id for each in granted if each.run_id is None):
            implied += self.carry_out_one(AssignJobs(job_ids=unassigned))
        return implied

    def start_ahead(self, count: int) -> Implied:
        """Assign the next so many in line that need their own run: its process is there when the slot comes."""
        job_ids = self.ledger.grants.next_without_run(count)
        return self.ledger.runs.assign(*job_ids)


def _by_run(granted: Sequence[Granted]) -> dict[str, list[Granted]]:
    """Return those of which a run has the job, by the run."""
    found: dict[str, list[Granted]] = {}
    for each in granted:
        if each.run_id is not None:
            found.setdefault(each.run_id, []).append(each)
    return found


@contextmanager
def _left_to_reconcile(what: str) -> Iterator[None]:
    """Log an effect that fails, so that it does not keep the next from happening."""
    try:
        yield
    except (DarkroomError, SQLAlchemyError) as error:
        # Prefect or the ledger is out.
        logger.warning("%s; reconcile will do it: %s", what, error)
