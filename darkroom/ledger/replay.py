"""What a replay of a job does with its paid calls, as a pure function of the rows on record.

A step that has succeeded is reused. One that has not gets a new attempt, with the input it had: nothing of what was
asked for is lost with the process that asked. Until that is sent, the job's function may ask otherwise, as its code of
today does; the old attempt's row still says what was asked before. A result that came after its call had been
cancelled or given up is taken up, as it is paid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from darkroom.errors import WrongState
from darkroom.ledger.canonical_json import same
from darkroom.ledger.request_rows import RequestSpec, spec_again
from darkroom.ledger.statuses import JobStatus, RequestStatus
from darkroom.ledger.tables import Job, Request


@dataclass(frozen=True, kw_only=True)
class Replay:
    late: tuple[Request, ...]  # rows whose result came after they had ended
    again: tuple[RequestSpec, ...]


def plan_replay(job: Job, rows: Sequence[Request]) -> Replay:
    """Plan a replay of the job. Raises `WrongState` for a job that is not to be replayed, or not yet.

    One that is completed though some of its steps failed, an import with refused addresses, has those to replay.
    """
    _require_dead(job, rows)
    late, again = [], []
    for _, group in groupby(sorted(rows, key=lambda row: (row.step, row.attempt)), key=lambda row: row.step):
        attempts = list(group)
        if any(row.status is RequestStatus.SUCCEEDED for row in attempts) or _was_done_without(job, attempts[-1]):
            continue
        if came_late := [row for row in attempts if _has_late_result(row)]:
            late.append(came_late[-1])
        else:
            again.append(_new_attempt(attempts[0], attempts[-1]))
    if job.status is JobStatus.COMPLETED and not (late or again):
        raise WrongState("The job is completed: there is nothing to replay. Order it anew to have it again.")
    return Replay(late=tuple(late), again=tuple(again))


def asks_the_same(row: Request, spec: RequestSpec) -> bool:
    """Return whether that is the call of the row, whichever code asks for it."""
    return (row.account_id, row.endpoint) == (spec.account_id, spec.endpoint) and same(row.input, spec.input)


def keeps_its_slot(row: Request, spec: RequestSpec) -> bool:
    """Return whether another call may have the slot that the row was granted."""
    # The row was weighed as one at its place and price.
    at_its_place = (row.account_id, row.endpoint) == (spec.account_id, spec.endpoint)
    return row.status is RequestStatus.GRANTED and at_its_place and spec.estimate_usd <= row.estimate_usd


def _require_dead(job: Job, rows: Sequence[Request]) -> None:
    if not job.status.terminal:
        raise WrongState("The job is under way. Wait for its end, or cancel it first.")
    if any(not row.status.terminal for row in rows):
        raise WrongState(
            "The provider is not done with it: its result may yet come. Replay it once none of its requests is open."
        )


def _was_done_without(job: Job, last: Request) -> bool:
    """Return whether the call was still open when its job was completed, and was ended with it."""
    return job.status is JobStatus.COMPLETED and last.status is RequestStatus.CANCELLED


def _has_late_result(row: Request) -> bool:
    return row.status in (RequestStatus.CANCELLED, RequestStatus.EXPIRED) and row.output is not None


def _new_attempt(first: Request, last: Request) -> RequestSpec:
    """Specify another attempt of a step."""
    # In the lane in which the step came first: a replay does not jump the queue.
    return spec_again(last, attempt=last.attempt + 1, lane=first.lane)
