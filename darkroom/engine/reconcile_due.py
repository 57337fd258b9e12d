"""What a turn of `reconcile` would do now: asked before one is begun, by what it would look at itself.

A turn costs a process and leaves a run at Prefect, so one that would find nothing is not begun. Each `Duty` is a step
of the turn, and has its rule here: what the ledger alone can say is one statement, what hangs on Prefect's word or on
a model's is decided by the functions by which the turn decides (`darkroom/engine/reconcile_rules.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum, auto
from functools import cached_property
from uuid import UUID

from darkroom.engine.reconcile_rules import (
    ForRequest,
    ForRun,
    decide_closed_run,
    decide_request,
    decide_run,
    differing,
)
from darkroom.ledger import Ledger, Request, RequestStatus, Run, billed_day
from darkroom.orchestrator import RECONCILE, Orchestrator, queue_name
from darkroom.orchestrator.run_states import RunState
from darkroom.providers.models import model_of
from darkroom.providers.registry import accounts, heard_from
from darkroom.providers.shelf import open_shelf
from darkroom.settings import Settings

LONGEST_TURN = timedelta(minutes=1)  # not scaled: it is made of calls to others, 15 s each where nobody answers
LONG = timedelta(minutes=5)  # as a model says it: what takes that long is asked how far it has come


class Duty(StrEnum):
    """The steps of a turn, in their order."""

    LOST_TURNS = auto()
    # Next: the end of a run ends its jobs, and their requests are cancelled at the provider in the same turn.
    RUNS = auto()
    QUEUES = auto()
    LOST_SUBMITS = auto()  # before the calls: what is found is polled, or cancelled, in the same turn
    CALLS = auto()
    PAID_UNSEEN = auto()  # results that nobody will fetch
    UNASSIGNED = auto()  # jobs without a run
    PENDING_RUNS = auto()
    GRANTS = auto()
    ENDS = auto()  # of jobs, that are no events yet
    CANCELS = auto()  # by events
    EVENTS = auto()  # that Prefect was not told of
    MONEY = auto()
    BUDGETS = auto()
    OLD = auto()  # what is deleted
    ACCOUNTS = auto()  # that wait for a person
    ENDPOINTS = auto()  # of callbacks, that are off


class DueDuties:
    """Looks what there is to do, and does nothing."""

    def __init__(self, ledger: Ledger, orchestrator: Orchestrator, *, settings: Settings) -> None:
        self._ledger = ledger
        self._orchestrator = orchestrator
        self._settings = settings

    @cached_property
    def _billing(self) -> list[str]:
        return billing_accounts()

    @cached_property
    def _heard(self) -> frozenset[str]:
        return heard_from(self._settings)

    def found(self) -> Iterator[Duty]:
        """Yield what a turn would find, first what the ledger can say by itself."""
        settings, ledger = self._settings, self._ledger
        due = ledger.housekeeping.turn_due(
            news_kept=settings.news_kept,
            events_kept=settings.events_kept,
            billing=self._billing,
            drift_day=billed_day(ledger.clock()),
        )
        by_ledger = {
            Duty.PAID_UNSEEN: due.paid_unseen,
            Duty.UNASSIGNED: due.unassigned,
            Duty.PENDING_RUNS: due.pending_runs,
            Duty.GRANTS: due.queued,
            Duty.ENDS: due.ends,
            Duty.CANCELS: due.cancels,
            Duty.EVENTS: due.events,
            Duty.MONEY: due.money,
            Duty.BUDGETS: due.queued,  # who waits for one has a call in line
            Duty.OLD: due.old,
            Duty.ACCOUNTS: due.accounts,
            Duty.ENDPOINTS: due.endpoints,
        }
        yield from (duty for duty, is_due in by_ledger.items() if is_due)
        if due.calls:
            yield from self._of_calls(ledger.requests.holding_slots())
        if due.runs:
            yield from self._of_runs()
        if lost_turns(self._orchestrator, now=ledger.clock()):
            yield Duty.LOST_TURNS

    def _of_calls(self, rows: list[Request]) -> Iterator[Duty]:
        if any(row.status is RequestStatus.UNKNOWN for row in rows):
            yield Duty.LOST_SUBMITS
        with open_shelf(self._ledger, models=self._settings.models, fetch=None):
            if any(self._is_due(row) for row in rows):
                yield Duty.CALLS

    def _is_due(self, row: Request) -> bool:
        return shows_progress(row) or for_call(row, ledger=self._ledger, heard=self._heard) is not ForRequest.NOTHING

    def _of_runs(self) -> Iterator[Duty]:
        looked_at = look_at_runs(self._ledger, self._orchestrator, closed_within=self._ledger.timing.closed_within)
        if any(what is not ForRun.NOTHING for _, _, what in looked_at):
            yield Duty.RUNS
        if differing_queues(self._ledger, self._orchestrator):
            yield Duty.QUEUES


def billing_accounts() -> list[str]:
    """Return the accounts whose providers tell what they have billed."""
    return [account_id for account_id, account in accounts().items() if account.tells_bills]


def lost_turns(orchestrator: Orchestrator, *, now: datetime) -> list[UUID]:
    """Return earlier turns whose process was lost."""
    return orchestrator.under_way_since(now - LONGEST_TURN, deployment=RECONCILE)


def look_at_runs(
    ledger: Ledger, orchestrator: Orchestrator, *, closed_within: timedelta
) -> Iterator[tuple[Run, RunState | None, ForRun]]:
    """Yield all runs that are open, or have closed lately, with Prefect's word and what is to be done about them."""
    now, timing = ledger.clock(), ledger.timing
    runs, closed = ledger.runs.not_closed(), ledger.runs.closed_since(now - closed_within)
    # All of them at once: hundreds may be suspended, and want nothing.
    states = orchestrator.run_states(run.flow_run_id for run in runs + closed if run.flow_run_id)
    with_granted = ledger.runs.with_granted()
    for run in runs:
        state = states.get(run.flow_run_id) if run.flow_run_id else None
        if run.closed_at is not None:  # whoever closed it did not get to its jobs
            yield run, state, ForRun.CLOSE
        else:
            yield run, state, decide_run(run, state, now=now, has_granted=run.id in with_granted, timing=timing)
    for run in closed:
        state = states.get(run.flow_run_id) if run.flow_run_id else None
        yield run, state, decide_closed_run(run, state, now=now, timing=timing)


def differing_queues(ledger: Ledger, orchestrator: Orchestrator) -> dict[str, int]:
    """Return the limits of users' queues that Prefect has otherwise: a plan was changed, or a queue deleted."""
    limits = {queue_name(user_id): limit for user_id, limit in ledger.runs.limits_of_open().items()}
    return differing(limits, orchestrator.queue_limits() if limits else {})


def for_call(row: Request, *, ledger: Ledger, heard: frozenset[str]) -> ForRequest:
    """Decide what is to be done about a call that holds a slot. `heard`: the accounts that need not be polled."""
    model = model_of(row)
    return decide_request(
        row,
        now=ledger.clock(),
        expected=model.expected,
        start_timeout=model.start_timeout,
        webhooks=row.account_id in heard,
        timing=ledger.timing,
    )


def shows_progress(row: Request) -> bool:
    """Return whether the call takes so long that its provider is asked how far it has come."""
    return row.status is RequestStatus.IN_FLIGHT and model_of(row).expected >= LONG
