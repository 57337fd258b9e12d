"""How a call ended at a provider, in the ledger's words."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from darkroom.errors import DarkroomError, Permanent, Retry
from darkroom.ledger import Outcome, Request, Transition
from darkroom.providers.models import model_of

# Codes of failures of a call or of the account: they say nothing about how the generation ended.
CALL_CODES = frozenset(
    {
        "balance_exhausted",
        "account_locked",
        "unauthorized",
        "forbidden",
        "not_found",
        "in_progress",
        "rate_limited",
        "provider_down",
        "unreachable",
        "transient",
        "unexpected_answer",
    }
)


def is_outcome(error: DarkroomError) -> bool:
    """Return whether the generation itself has ended this way, so that asking again changes nothing.

    False: only the call failed.
    """
    return isinstance(error, Permanent | Retry) and error.code not in CALL_CODES


def announced(row: Request, output: dict[str, Any] | None) -> Outcome:
    """Return the outcome of a success that a webhook tells, which never brings the provider's count of units."""
    # Where only that count tells the cost, the result is asked for when it is collected: it may come with the count.
    return succeeded(row, None if getattr(model_of(row), "counted_by_provider", False) else output)


def succeeded(row: Request, output: dict[str, Any] | None, *, billable_units: Decimal | None = None) -> Outcome:
    """Return the outcome of a success. Without its output it is fetched when it is collected.

    Without the provider's count, which some endpoints never tell, it costs what was asked for and came.
    """
    cost = None if output is None else _cost(row, output, billable_units)
    return Outcome(transition=Transition.SUCCEED, output=output, cost_usd=cost)


def failed(row: Request, error: DarkroomError, *, cost_usd: Decimal | None = None) -> Outcome:
    """Return the outcome of a failed call. `cost_usd`: of an answer that was paid and is no use."""
    return Outcome(transition=Transition.FAIL, error=error.of(step=row.step, ref=row.ref).document(), cost_usd=cost_usd)


def cancelled(row: Request, error: DarkroomError) -> Outcome:
    return Outcome(transition=Transition.CANCEL, error=error.of(step=row.step, ref=row.ref).document())


def _cost(row: Request, output: dict[str, Any], billable_units: Decimal | None) -> Decimal:
    """Return what an answer cost."""
    try:
        cost = model_of(row).cost(row.input or {}, output, billable_units)
    except Permanent:
        # An answer that nobody can read was paid for all the same: as much as was expected.
        return row.estimate_usd
    return row.estimate_usd if cost is None else cost
