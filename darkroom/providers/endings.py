"""How a provider says that a call has ended badly, in the ledger's words."""

from __future__ import annotations

from decimal import Decimal

from darkroom.errors import DarkroomError
from darkroom.ledger import Happening, Outcome, Request


def failed(row: Request, error: DarkroomError, *, cost_usd: Decimal | None = None) -> Outcome:
    """Return the outcome of a failed call. `cost_usd`: of an answer that was paid and is no use."""
    return Outcome(happening=Happening.FAIL, error=error.of(step=row.step, ref=row.ref).document(), cost_usd=cost_usd)


def cancelled(row: Request, error: DarkroomError) -> Outcome:
    return Outcome(happening=Happening.CANCEL, error=error.of(step=row.step, ref=row.ref).document())
