"""What is to be done about a request or a run that nobody was heard of: pure functions from row, time and limits.

`flows/reconcile.py` carries out what they say.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from darkroom.ledger import Request, RequestStatus, Run
from darkroom.orchestrator.run_states import RunState
from darkroom.timing import Timing

MOST_RECOVERIES = 10  # in quick succession


class ForRequest(StrEnum):
    NOTHING = "nothing"
    POLL = "poll"
    LOSE = "lose"  # submitting for too long: unknown from now on
    CANCEL = "cancel"  # its end was asked for, and the provider has it
    EXPIRE = "expire"  # no sign of it within its time: given up, a new attempt follows
    OVERDUE = "overdue"  # the provider has it still, past its deadline: asked once more, else cancelled and given up


class ForRun(StrEnum):
    NOTHING = "nothing"
    CREATE = "create"  # on record, but Prefect does not know it, or not any more
    WAKE = "wake"  # it has work and is suspended, or its wake was not heard
    RECOVER = "recover"  # its process is gone, or has failed with jobs still open
    REASSIGN = "reassign"  # … and no worker can start it again: its jobs go to a run that one can
    CONFIRM = "confirm"  # its cancel was asked for, and nobody is left who would confirm it
    CLOSE = "close"  # it has ended at Prefect: its jobs end with it
    GIVE_UP = "give up"  # it was lost too often
    REFUSE = "refuse"  # it failed for its parameters: the job they are of ends, the others go to another run


def decide_request(
    row: Request, *, now: datetime, expected: timedelta, start_timeout: timedelta, webhooks: bool, timing: Timing
) -> ForRequest:
    """Decide what is to be done about a request.

    `webhooks`: whether the provider can reach us; if it can, only a silent row is asked about. `expected` and
    `start_timeout`: as the model says them.
    """
    usual = timing.scale(3 * expected)
    since = now - (row.submitted_at or now)
    match row.status:
        case RequestStatus.SUBMITTING if since > timing.submit_limit:
            return ForRequest.LOSE
        # Given up when it would have ended: until then it may yet be found in the provider's list, which has it perhaps
        # only from its end on.
        case RequestStatus.UNKNOWN if since > timing.scale(start_timeout) + usual + timing.submit_limit:
            return ForRequest.EXPIRE
        case RequestStatus.IN_FLIGHT if row.cancel_requested_at is not None:
            return ForRequest.CANCEL
        case RequestStatus.IN_FLIGHT if row.deadline_at is not None and now > row.deadline_at:
            return ForRequest.OVERDUE
        case RequestStatus.IN_FLIGHT if not webhooks or since > max(timing.request_silent, usual):
            return ForRequest.POLL
        case _:
            return ForRequest.NOTHING


def decide_run(run: Run, state: RunState | None, *, now: datetime, has_granted: bool, timing: Timing) -> ForRun:
    """Decide what is to be done about an open run.

    `state`: Prefect's, or None; `has_granted`: a row of the run holds a slot it has not used.
    """
    if run.flow_run_id is None or state is None:
        return _missing(run, now=now, timing=timing)
    match state.type:
        case "COMPLETED" | "CANCELLED":
            return ForRun.CLOSE
        case "CANCELLING":
            return ForRun.CONFIRM if _is_silent(run, state, now=now, timing=timing) else ForRun.NOTHING
        # A wake may have come before Prefect showed the run as paused, and is repeated then.
        case "PAUSED" if _ought_to_be_awake(run, now=now, has_granted=has_granted, timing=timing):
            return ForRun.WAKE
        case "PAUSED":
            return ForRun.NOTHING
        case "SCHEDULED" if state.stranded:  # its queue is gone, so no worker is ever offered it
            return ForRun.REASSIGN
        case _ if state.refused:
            return ForRun.REFUSE
        case _ if _is_lost(run, state, now=now, timing=timing):
            return _bring_back(run, state, now=now, timing=timing)
        case _:
            return ForRun.NOTHING


def decide_closed_run(run: Run, state: RunState | None, *, now: datetime, timing: Timing) -> ForRun:
    """Decide about a run that has closed: its process may have died before it could say so to Prefect."""
    assert run.closed_at is not None
    if state is None or (state.is_final and state.type != "CRASHED") or state.type == "SCHEDULED":
        return ForRun.NOTHING
    heard = max(run.closed_at, run.alive_until or run.closed_at, state.timestamp)
    if state.type != "CRASHED" and now - heard <= (timing.pending_limit if state.type == "PENDING" else timing.grace):
        return ForRun.NOTHING
    if state.type == "CANCELLING":
        return ForRun.CONFIRM
    if state.type == "PAUSED":
        return ForRun.WAKE
    # Started again, it finds that it is closed and says how it ended.
    again = state.deployed and run.recoveries <= MOST_RECOVERIES and now >= next_recovery(run, now=now, timing=timing)
    return ForRun.RECOVER if again else ForRun.NOTHING


def differing(wanted: Mapping[str, int], found: Mapping[str, int | None]) -> dict[str, int]:
    """Return the limits of the queues that have another limit, or that are not there."""
    return {name: limit for name, limit in wanted.items() if name not in found or found[name] != limit}


def recent_recoveries(run: Run, *, now: datetime, timing: Timing) -> int:
    """Count how often the run was brought back in quick succession."""
    if run.recovered_at is None or (run.closed_at is None and now - run.recovered_at > timing.recoveries_forgotten):
        return 0
    return run.recoveries


def next_recovery(run: Run, *, now: datetime, timing: Timing) -> datetime:
    """Return when the run may be brought back again; the first time at once."""
    count = recent_recoveries(run, now=now, timing=timing)
    if count == 0 or run.recovered_at is None:
        return now
    doublings: int = 2 ** (count - 1)
    return run.recovered_at + min(timing.recovery_pause * doublings, timing.longest_recovery_pause)


def _missing(run: Run, *, now: datetime, timing: Timing) -> ForRun:
    """Decide about a run that Prefect does not know: not created yet, or deleted in the UI."""
    # A process that does not know yet that its run was deleted is left to reach its end.
    alive = run.alive_until + timing.grace - timing.started_by if run.alive_until else run.created_at
    heard = max(run.created_at, alive)
    return ForRun.CREATE if now - heard > timing.started_by else ForRun.NOTHING


def _is_lost(run: Run, state: RunState, *, now: datetime, timing: Timing) -> bool:
    """Return whether the run has lost its process."""
    match state.type:
        # Failed with open jobs is no word of theirs: the ledger was gone, a block was missing, nobody resumed it.
        case "CRASHED" | "FAILED":
            return True
        case "PENDING":  # its worker died before it had started a process, and no other takes a pending run
            return now - state.timestamp > timing.pending_limit
        case "RUNNING":
            return _is_silent(run, state, now=now, timing=timing)
        case _:
            return False


def _is_silent(run: Run, state: RunState, *, now: datetime, timing: Timing) -> bool:
    if run.alive_until is None:  # no process has taken it up since it became ready
        return now - state.timestamp > timing.pending_limit
    return now - run.alive_until > timing.grace


def _bring_back(run: Run, state: RunState, *, now: datetime, timing: Timing) -> ForRun:
    if not state.deployed:
        return ForRun.REASSIGN
    if recent_recoveries(run, now=now, timing=timing) >= MOST_RECOVERIES:
        return ForRun.GIVE_UP
    return ForRun.RECOVER if now >= next_recovery(run, now=now, timing=timing) else ForRun.NOTHING


def _ought_to_be_awake(run: Run, *, now: datetime, has_granted: bool, timing: Timing) -> bool:
    if run.woken_at is not None:
        return now - run.woken_at > timing.wake_again
    if run.suspended_at is not None:
        return has_granted
    # Suspended, yet never marked as left: its process died between Prefect's word and ours.
    return run.alive_until is None or now - run.alive_until > timing.grace
