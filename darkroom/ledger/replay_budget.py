"""The budget of jobs that were put back together, held also for the calls that they reach later.

Each of their paid calls bears the replay's id from the moment it is on record. Whoever adds one locks the replay's row
after the insert and adds up what was paid under it and what may yet be; beyond the budget the whole transaction is
undone. So two at once cannot both have the last of it, and jobs of no such replay pay nothing for this.
"""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import Connection

from darkroom.errors import BadInput
from darkroom.ledger.database import run

OVER_BUDGET = "over_budget"


def require_within_budget(connection: Connection, replay_id: str) -> None:
    """Raise `BadInput` if the replay's jobs would cost more than its budget.

    Call it after the calls were added, last in their transaction.
    """
    # Nothing is locked after it.
    budget: Decimal | None = run(connection, "replay_lock", replay_id=replay_id).scalar_one()
    if budget is None:
        return
    spent: Decimal = run(connection, "replay_spent", replay_id=replay_id).scalar_one()
    if spent > budget:
        raise BadInput(
            f"The jobs that were replayed together have a budget of {budget.normalize():f} USD, and with this call "
            f"they would come to about {spent.normalize():f}. Replay the job with a larger budget.",
            field="budget_usd",
            code=OVER_BUDGET,
        )
