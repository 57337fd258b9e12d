"""How a request ended at fal: from a verified webhook, or from asking."""

from __future__ import annotations

from darkroom.errors import DarkroomError
from darkroom.ledger import Outcome, Request
from darkroom.providers.fal.client import Fal
from darkroom.providers.fal.failures import classify_webhook_error
from darkroom.providers.fal.webhook import WebhookEnvelope
from darkroom.providers.outcomes import announced, cancelled, failed, is_outcome, succeeded


def webhook_outcome(request: Request, envelope: WebhookEnvelope) -> Outcome:
    """Return how the request ended by its webhook."""
    if envelope.status == "ERROR":
        return _failure(request, classify_webhook_error({"error": envelope.error, "payload": envelope.payload}))
    # A payload that could not be put into the webhook is None: it is fetched when it is collected.
    return announced(request, envelope.payload)


def poll(fal: Fal, request: Request) -> Outcome | None:
    """Poll once and return how the request ended; None while it is under way.

    Raise what the call failed with: how the request ended is then not known.
    """
    assert request.request_id is not None
    if fal.status(request.endpoint, request.request_id).state != "COMPLETED":
        return None
    # The result GET decides: a rejected request is COMPLETED, too.
    try:
        result = fal.result(request.endpoint, request.request_id)
    except DarkroomError as error:
        if is_outcome(error):
            return _failure(request, error)
        if error.code == "in_progress":
            return None
        raise
    return succeeded(request, result.output, billable_units=result.billable_units)


def _failure(request: Request, error: DarkroomError) -> Outcome:
    is_cancelled = request.cancel_requested_at is not None and error.code == "client_cancelled"
    return cancelled(request, error) if is_cancelled else failed(request, error)
