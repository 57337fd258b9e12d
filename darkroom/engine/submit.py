"""How a granted call is sent: its files are brought to the provider, then the one thing that is paid is done, once.

Its outcome is on record before `send` returns, whoever calls it: a Prefect task in a run of one job, the job's
call itself in a run that carries many, or a gateway that has just granted a job's first call (`ahead`). It knows
nothing of Prefect, and a row is sent by whoever is first to commit that it will: the gateway does so before any run is
told of the job.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from darkroom.engine.backoff import next_try
from darkroom.engine.paid_calls import PAID_CALLS
from darkroom.engine.resources import Resources
from darkroom.engine.store import StoredFiles
from darkroom.errors import DarkroomError, OutOfMoney, Park, Permanent, RateLimited, Retry, SubmitUnknown, way_to
from darkroom.ledger import NOTHING, OUTAGES, Implied, Ledger, Outcome, Request, Transition
from darkroom.providers.base import Accepted, Files, Provider
from darkroom.providers.models import model_of

logger = logging.getLogger(__name__)

T = TypeVar("T")
UNAUTHORIZED = "unauthorized"  # a gateway's key may be a minute old; a run's block is read as it starts
MOST_REFUSALS = 8  # by errors of the provider's own, about five minutes; 429s and outages are waited for


@dataclass(frozen=True, kw_only=True)
class Sender:
    """Who sends a call, and with what: a run, or a gateway that sends it `ahead`, while its run is being made."""

    ledger: Ledger
    provider_of: Callable[[str], Provider]
    files_of: Callable[[Request], Files]
    webhooks_at: Callable[[str], str | None]
    carry_out: Callable[[Implied], None]
    ahead: bool = False


def submit(resources: Resources, row: Request) -> Request:
    """Send a granted call of a run, as `send` does."""
    sender = Sender(
        ledger=resources.ledger,
        provider_of=resources.providers.of,
        files_of=partial(StoredFiles.of_call, resources),
        webhooks_at=resources.settings.webhook_url,
        carry_out=resources.dispatcher.carry_out,
    )
    return send(sender, row)


def send(sender: Sender, row: Request) -> Request:
    """Send a granted call, once, and return the row as it is then: its answer may have been lost.

    A refusal is raised once it is on record. The call is never repeated here: a refusal requeues the row in the ledger.
    A row that a gateway was sending meanwhile is returned as it is. A process that is ending sends none: that is Retry.
    """
    requests = sender.ledger.requests
    # Before the row says that it is being sent: what fails here was surely not.
    provider, input = _prepared(sender, row)
    with PAID_CALLS.one():
        deadline = sender.ledger.timing.scale(model_of(row).deadline)
        if (begun := requests.begin_submit(row.ref, deadline=deadline, input_hash=row.input_hash)) is None:
            return _of_another(sender, row)
        now, answer = _posted(sender, provider, begun, input)
    return now if answer is None else _delivered(sender, now, answer)


def send_begun(sender: Sender, row: Request) -> Request:
    """Do as `send` with a call that this process alone may send: its row says already that it is being sent."""
    provider, input = _prepared(sender, row)
    now, answer = _posted(sender, provider, row, input)
    return now if answer is None else _delivered(sender, now, answer)


def _prepared(sender: Sender, row: Request) -> tuple[Provider, Mapping[str, Any]]:
    try:
        provider = sender.provider_of(row.account_id)
        return provider, provider.prepare(row.input or {}, files=sender.files_of(row))
    except DarkroomError as error:
        sender.carry_out(_unprepared(sender, row, error))
        raise


def _posted(
    sender: Sender, provider: Provider, row: Request, input: Mapping[str, Any]
) -> tuple[Request, Accepted | None]:
    """Do the one POST. Return the row with what came of it, and the answer of a provider that has taken the call."""
    requests = sender.ledger.requests
    try:
        answer = provider.submit(row, input, webhook_url=_webhook_url(sender, row))
    except SubmitUnknown:  # it may be there, and be paid: the row keeps its slot
        sender.carry_out(_recorded(sender, lambda: requests.answer_lost(row.ref)))
        return requests.get(row.ref), None
    except DarkroomError as error:
        sender.carry_out(_recorded(sender, partial(_refused, sender, row, error)))
        raise
    except Exception as error:  # our own mistake, perhaps made with the answer in hand
        logger.error("%s: the call to %s failed in our own code:\n%s", row.ref, row.endpoint, way_to(error))
        return _perhaps_sent(sender, row, immediate=provider.immediate), None
    if isinstance(answer, Outcome):
        _keep_answer(sender, row, answer)
        return requests.get(row.ref), None
    return _accepted(sender, row, answer), answer


def _of_another(sender: Sender, row: Request) -> Request:
    now = sender.ledger.requests.get(row.ref)
    if now.sent_ahead:  # a gateway has it, and the run adopts what comes
        return now
    raise Retry("The request is not granted any more: it was cancelled or changed, or another process has it.")


def _accepted(sender: Sender, row: Request, taken: Accepted) -> Request:
    requests = sender.ledger.requests
    accepted = _recorded(
        sender, lambda: requests.accepted(row.ref, request_id=taken.request_id, first_try=taken.first_try)
    )
    sender.carry_out(_answered(sender, row))
    return accepted


def _perhaps_sent(sender: Sender, row: Request, *, immediate: bool) -> Request:
    """Record a call of which nobody knows whether the provider has it; return its row."""
    requests = sender.ledger.requests
    if not immediate:  # its webhook or reconcile finds out
        sender.carry_out(_recorded(sender, lambda: requests.answer_lost(row.ref)))
    else:
        # Nobody can be asked. Sent again it may be paid again, so it fails for good, at what it may have cost.
        error = Permanent("Darkroom could not read what the provider answered.", code="internal_error")
        document = error.of(step=row.step, ref=row.ref).document()
        _keep_answer(sender, row, Outcome(transition=Transition.FAIL, error=document, cost_usd=row.estimate_usd))
    return requests.get(row.ref)


def _delivered(sender: Sender, row: Request, taken: Accepted) -> Request:
    """Bring the provider what the call is about, where it is to have that apart."""
    if taken.deliver is None:
        return row
    try:
        taken.deliver()
    except DarkroomError as error:
        failed = Outcome(transition=Transition.FAIL, error=error.of(step=row.step, ref=row.ref).document())
        sender.carry_out(sender.ledger.requests.settle(row.ref, failed, via=None)[1])
        return sender.ledger.requests.get(row.ref)
    return row


def _keep_answer(sender: Sender, row: Request, outcome: Outcome) -> None:
    _, implied = _recorded(sender, lambda: sender.ledger.requests.settle(row.ref, outcome, via=None))
    sender.carry_out(_answered(sender, row) + implied)


def _recorded(sender: Sender, record: Callable[[], T]) -> T:
    """Put on record what the provider answered, and wait for a ledger that restarts just now or has no room."""
    # It is paid, or known for sure, and nowhere else: lost, the row would hold its slot until it is given up.
    deadline = time.monotonic() + sender.ledger.timing.answer_kept.total_seconds()
    while True:
        try:
            return record()
        except OUTAGES:
            if time.monotonic() > deadline:
                raise
            time.sleep(sender.ledger.timing.work_poll.total_seconds())


def _unprepared(sender: Sender, row: Request, error: DarkroomError) -> Implied:
    """Requeue or fail a call that was not sent, as its files could not be brought to the provider.

    Nothing is done to a row that somebody else sends meanwhile: a gateway prepares only what nobody else may send.
    """
    document, unsent = error.of(step=row.step, ref=row.ref).document(), not sender.ahead
    if isinstance(error, Park):  # of whoever has the files: the provider's breaker is not told
        return _back_to_the_queue(sender, row, error, document, counts=False, unsent=unsent)
    if isinstance(error, Retry):
        return _back_to_the_queue(sender, row, error, document, counts=True, unsent=unsent)
    return _failed(sender, row, document, unsent=unsent)


def _refused(sender: Sender, row: Request, error: DarkroomError) -> Implied:
    """Record a sure refusal: fail the call for good, or requeue it until it may pass."""
    document = error.of(step=row.step, ref=row.ref).document()
    if isinstance(error, Park):
        # Told to the account first: the row waits for the breaker then, not for its own time.
        reason = error.message if isinstance(error, OutOfMoney) else None
        sender.ledger.accounts.out(row.account_id, probe=row.probe, reason=reason)
        return sender.ledger.requests.refused(row.ref, error=document, not_before=None)
    implied = _answered(sender, row)
    if isinstance(error, RateLimited):
        sender.ledger.accounts.slow_down(row.account_id)
        return implied + _back_to_the_queue(sender, row, error, document, counts=False)
    if isinstance(error, Retry):
        return implied + _back_to_the_queue(sender, row, error, document, counts=True)
    if sender.ahead and error.code == UNAUTHORIZED:  # the run reads the block anew, and finds out
        return implied + _back_to_the_queue(sender, row, error, document, counts=False)
    return implied + _failed(sender, row, document)


def _back_to_the_queue(
    sender: Sender, row: Request, error: DarkroomError, document: dict[str, Any], *, counts: bool, unsent: bool = False
) -> Implied:
    """Requeue the call, or fail it after too many errors.

    `counts`: this refusal is among the errors of which there may be only so many.
    """
    before = row.error or {}
    refusals, errors = before.get("refusals", 0) + 1, before.get("errors", 0) + counts
    if errors > MOST_REFUSALS:
        return _failed(sender, row, document, unsent=unsent)
    document |= {"refusals": refusals, "errors": errors}
    due = next_try(error, tries=refusals, now=sender.ledger.clock(), timing=sender.ledger.timing)
    return sender.ledger.requests.refused(row.ref, error=document, not_before=due, unsent=unsent)


def _failed(sender: Sender, row: Request, document: dict[str, Any], *, unsent: bool = False) -> Implied:
    outcome = Outcome(transition=Transition.FAIL, error=document)
    if unsent:
        return sender.ledger.requests.fail_unsent(row.ref, outcome)
    return sender.ledger.requests.settle(row.ref, outcome, via=None)[1]


def _answered(sender: Sender, row: Request) -> Implied:
    """Report the account as back if the call was its probe: any answer shows that the provider is there again."""
    return sender.ledger.accounts.back(row.account_id) if row.probe else NOTHING


def _webhook_url(sender: Sender, row: Request) -> str | None:
    base = sender.webhooks_at(row.account_id)
    return f"{base}?token={row.token}" if base else None
