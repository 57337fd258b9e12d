"""Rows of calls at providers, for tests that need no ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from darkroom.ledger import Request
from darkroom.providers.models import find_model

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def row_for(endpoint: str, *, ref: str = "req_1", at: datetime = NOW, **arguments: Any) -> Request:
    """Recorded as an order with these arguments would be, and submitted at that time."""
    model = find_model(endpoint)
    return Request(
        ref=ref,
        job_id="job_1",
        user_id="usr_1",
        account_id=model.account_id,
        step="step",
        attempt=1,
        endpoint=endpoint,
        input=model.validate(arguments),
        submitted_at=at,
        accepted_at=at,
    )
