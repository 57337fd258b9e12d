"""How a request ended, in the ledger's words: from a verified webhook, or from asking the provider."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from darkroom.errors import DarkroomError, Permanent
from darkroom.ledger import Happening, Outcome, Request
from darkroom.providers.fal import Fal, WebhookEnvelope, classify_webhook_error, is_outcome
from darkroom.providers.models import find_model


def webhook_outcome(request: Request, envelope: WebhookEnvelope) -> Outcome:
    """Return how the request ended by its webhook.

    A success whose payload could not be put into the webhook has no output: it is fetched when it is collected.
    """
    if envelope.status == "ERROR":
        return failure(request, classify_webhook_error({"error": envelope.error, "payload": envelope.payload}))
    return success(request, envelope.payload)


def ask_provider(fal: Fal, request: Request) -> Outcome | None:
    """Poll once and return how the request ended; None while it is under way.

    The result GET decides: a request can be COMPLETED and rejected. Raise what the call failed with: how the request
    ended is then not known.
    """
    assert request.request_id is not None
    if fal.status(request.endpoint, request.request_id).state != "COMPLETED":
        return None
    try:
        result = fal.result(request.endpoint, request.request_id)
    except DarkroomError as error:
        if is_outcome(error):
            return failure(request, error)
        if error.code == "in_progress":
            return None
        raise
    return success(request, result.output, billable_units=result.billable_units)


def success(request: Request, output: dict[str, Any] | None, *, billable_units: Decimal | None = None) -> Outcome:
    cost = None if output is None else _cost(request, output, billable_units)
    return Outcome(happening=Happening.SUCCEED, output=output, cost_usd=cost)


def _cost(request: Request, output: dict[str, Any], billable_units: Decimal | None) -> Decimal:
    """Return what an answer cost. One that nobody can read was paid for all the same: as much as was expected."""
    try:
        return find_model(request.endpoint).cost(request.input, output, billable_units)
    except Permanent:
        return request.estimate_usd


def failure(request: Request, error: DarkroomError) -> Outcome:
    cancelled = request.cancel_requested_at is not None and error.code == "client_cancelled"
    happening = Happening.CANCEL if cancelled else Happening.FAIL
    return Outcome(happening=happening, error=error_document(error.of(step=request.step, ref=request.ref)))


def error_document(error: DarkroomError) -> dict[str, Any]:
    """Return the failure as the API shows it."""
    return error.document()
