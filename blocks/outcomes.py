"""How a request ended, in the ledger's words: from a verified webhook, or from asking the provider."""

from __future__ import annotations

from typing import Any

from blocks.errors import DarkroomError, Permanent, Retry
from blocks.fal import Fal, Model, WebhookEnvelope, classify_webhook_error, find_model
from blocks.ledger import Happening, Outcome, Request


def webhook_outcome(request: Request, envelope: WebhookEnvelope) -> Outcome:
    """A success whose payload could not be put into the webhook has no output: it is fetched when it is collected."""
    if envelope.status == "ERROR":
        return failure(request, classify_webhook_error(envelope.body))
    return success(find_model(request.endpoint), request, envelope.payload)


def ask_provider(fal: Fal, request: Request) -> Outcome | None:
    """Polls once; None while it is not finished (or its result cannot be had just now)."""
    assert request.request_id is not None
    status = fal.status(request.endpoint, request.request_id)
    if status.state != "COMPLETED":
        return None
    return fetch_result(fal, request, request.request_id)


def fetch_result(fal: Fal, request: Request, request_id: str) -> Outcome | None:
    """The result GET decides: a request can be COMPLETED and rejected."""
    try:
        result = fal.result(request.endpoint, request_id)
    except Permanent as error:
        return failure(request, error)
    except Retry as error:
        return None if error.code in ("in_progress", "transient") else failure(request, error)
    model = find_model(request.endpoint)
    cost = model.cost(request.input, result.output, result.billable_units)
    return Outcome(happening=Happening.SUCCEED, output=dict(result.output), cost_usd=cost)


def success(model: Model, request: Request, output: dict[str, Any] | None) -> Outcome:
    cost = None if output is None else model.cost(request.input, output, None)
    return Outcome(happening=Happening.SUCCEED, output=output, cost_usd=cost)


def failure(request: Request, error: DarkroomError) -> Outcome:
    cancelled = request.cancel_requested_at is not None and error.code == "client_cancelled"
    happening = Happening.CANCEL if cancelled else Happening.FAIL
    return Outcome(happening=happening, error=error_document(error, request))


def error_document(error: DarkroomError, request: Request | None = None) -> dict[str, Any]:
    """The failure as the API shows it."""
    return {
        "code": error.code,
        "class": error.kind,
        "message": error.message,
        "step": request.step if request else None,
        "ref": request.ref if request else None,
        "retryable": error.kind == "retry",
    }
