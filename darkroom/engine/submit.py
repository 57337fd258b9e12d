"""How a granted call is sent: its files are brought to the provider, then the one thing that is paid is done, once.

What becomes of it is on record before `submit` returns, whoever calls it: a Prefect task in a run of one job, the job's
call itself in a run that carries many.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from darkroom.engine.backoff import next_try
from darkroom.engine.resources import Resources
from darkroom.engine.store import StoredFiles
from darkroom.errors import DarkroomError, OutOfMoney, Park, RateLimited, Retry, SubmitUnknown
from darkroom.ledger import NOTHING, OUTAGES, Implied, Outcome, Request, Transition
from darkroom.providers.base import Accepted
from darkroom.providers.models import model_of

T = TypeVar("T")
MOST_REFUSALS = 8  # by errors of the provider's own, about five minutes; 429s and outages are waited for


def submit(resources: Resources, row: Request) -> Request:
    """Send a granted call, once, and return the row as it is then: its answer may have been lost.

    A refusal is raised once it is on record. The call is never repeated here: a refusal requeues the row in the ledger.
    """
    requests = resources.ledger.requests
    try:
        provider = resources.providers.of(row.account_id)
        input = provider.prepare(row.input or {}, files=StoredFiles.of_call(resources, row))
    except DarkroomError as error:
        resources.dispatcher.carry_out(_unprepared(resources, row, error))
        raise
    deadline = resources.timing.scale(model_of(row).deadline)
    begun = requests.begin_submit(row.ref, deadline=deadline, input_hash=row.input_hash)
    if begun is None:
        raise Retry("The request is not granted any more: it was cancelled or changed, or another process has it.")
    try:
        answer = provider.submit(begun, input, webhook_url=_webhook_url(resources, begun))
    except SubmitUnknown:
        resources.dispatcher.carry_out(_recorded(resources, lambda: requests.answer_lost(row.ref)))
        return requests.get(row.ref)
    except DarkroomError as error:
        resources.dispatcher.carry_out(_recorded(resources, partial(_refused, resources, begun, error)))
        raise
    if isinstance(answer, Outcome):
        _keep_answer(resources, begun, answer)
        return requests.get(row.ref)
    return _accepted(resources, begun, answer)


def _accepted(resources: Resources, row: Request, taken: Accepted) -> Request:
    requests = resources.ledger.requests
    accepted = _recorded(resources, lambda: requests.accepted(row.ref, request_id=taken.request_id))
    resources.dispatcher.carry_out(_answered(resources, row))
    if taken.deliver is not None:
        try:
            taken.deliver()
        except DarkroomError as error:
            failed = Outcome(transition=Transition.FAIL, error=error.of(step=row.step, ref=row.ref).document())
            resources.dispatcher.carry_out(requests.settle(row.ref, failed, via=None)[1])
            return requests.get(row.ref)
    return accepted


def _keep_answer(resources: Resources, row: Request, outcome: Outcome) -> None:
    _, implied = _recorded(resources, lambda: resources.ledger.requests.settle(row.ref, outcome, via=None))
    resources.dispatcher.carry_out(_answered(resources, row) + implied)


def _recorded(resources: Resources, record: Callable[[], T]) -> T:
    """Put on record what the provider answered.

    It is paid, or known for sure, and nowhere else: a ledger that restarts just now or has no room is waited for. Else
    the row would hold its slot until it is given up.
    """
    deadline = time.monotonic() + resources.timing.answer_kept.total_seconds()
    while True:
        try:
            return record()
        except OUTAGES:
            if time.monotonic() > deadline:
                raise
            time.sleep(resources.timing.work_poll.total_seconds())


def _unprepared(resources: Resources, row: Request, error: DarkroomError) -> Implied:
    """Requeue or fail a call that was not sent, as its files could not be brought to the provider.

    An outage on the files' way is not the provider's.
    """
    document = error.of(step=row.step, ref=row.ref).document()
    if isinstance(error, Park):
        return _back_to_the_queue(resources, row, error, document, counts=False)
    if isinstance(error, Retry):
        return _back_to_the_queue(resources, row, error, document, counts=True)
    return _failed(resources, row, document)


def _refused(resources: Resources, row: Request, error: DarkroomError) -> Implied:
    """Record a sure refusal: fail the call for good, or requeue it until it may pass."""
    document = error.of(step=row.step, ref=row.ref).document()
    if isinstance(error, Park):
        # Told to the account first: the row waits for the breaker then, not for a time of its own.
        reason = error.message if isinstance(error, OutOfMoney) else None
        resources.ledger.accounts.out(row.account_id, probe=row.probe, reason=reason)
        return resources.ledger.requests.refused(row.ref, error=document, not_before=None)
    implied = _answered(resources, row)
    if isinstance(error, RateLimited):
        resources.ledger.accounts.slow_down(row.account_id)
        return implied + _back_to_the_queue(resources, row, error, document, counts=False)
    if isinstance(error, Retry):
        return implied + _back_to_the_queue(resources, row, error, document, counts=True)
    return implied + _failed(resources, row, document)


def _back_to_the_queue(
    resources: Resources, row: Request, error: DarkroomError, document: dict[str, Any], *, counts: bool
) -> Implied:
    """Requeue the call, or fail it after too many errors.

    `counts`: this refusal is among the errors of which there may be only so many.
    """
    before = row.error or {}
    refusals, errors = before.get("refusals", 0) + 1, before.get("errors", 0) + counts
    if errors > MOST_REFUSALS:
        return _failed(resources, row, document)
    document |= {"refusals": refusals, "errors": errors}
    due = next_try(error, tries=refusals, now=resources.clock(), timing=resources.timing)
    return resources.ledger.requests.refused(row.ref, error=document, not_before=due)


def _failed(resources: Resources, row: Request, document: dict[str, Any]) -> Implied:
    outcome = Outcome(transition=Transition.FAIL, error=document)
    return resources.ledger.requests.settle(row.ref, outcome, via=None)[1]


def _answered(resources: Resources, row: Request) -> Implied:
    """Report the account as back if the call was its probe: any answer shows that the provider is there again."""
    return resources.ledger.accounts.back(row.account_id) if row.probe else NOTHING


def _webhook_url(resources: Resources, row: Request) -> str | None:
    base = resources.settings.webhook_url(row.account_id)
    return f"{base}?token={row.token}" if base else None
