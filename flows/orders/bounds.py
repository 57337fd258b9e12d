"""What any order may say beside what it orders: what it may cost at most, and of files that are flagged."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema

from darkroom.errors import BadInput
from darkroom.models import TOO_DEAR
from darkroom.order import InForm, field

MOST_USD = 100_000

# As text it is exact; pydantic's own schema would let any text in.
_SCHEMA = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0, "maximum": MOST_USD},
        {"type": "string", "pattern": r"^((0|[1-9][0-9]{0,4})\.[0-9]{0,5}[1-9]|[1-9][0-9]{0,4})$"},
    ]
}
# Six places, as the ledger keeps amounts.
_Money = Annotated[Decimal, Field(gt=0, le=MOST_USD, max_digits=12, decimal_places=6), WithJsonSchema(_SCHEMA)]
MaxUsd = Annotated[_Money | None, InForm(type=Annotated[float, Field(gt=0, le=MOST_USD)] | None)]
Flagged = Literal["keep", "hide", "fail"]
FLAGGED = field(
    "Flagged files",
    "What its model says is not safe for work: keep (marked), hide (on record, shown to nobody), or fail the job.",
    "keep",
)
MAX_USD = field("At most", "USD. An order that may cost more is refused. Empty: no bound of its own.", None)


def require_within(estimate_usd: Decimal, max_usd: Decimal | None) -> None:
    """Raise BadInput for an order that may cost more than it says it may (`max_usd`), or than any may."""
    if estimate_usd >= TOO_DEAR:
        raise BadInput(
            f"It may cost ${estimate_usd:,.2f}, and no order of ${TOO_DEAR:,} or more is taken. Order less at once.",
            code="over_budget",
        )
    if max_usd is not None and estimate_usd > max_usd:
        raise BadInput(
            # `:f`, as a hundred is normalized to 1E+2.
            f"max_usd: it may cost ${estimate_usd.normalize():f}, more than ${max_usd.normalize():f}; allow as much, "
            "or order less",
            field="max_usd",
            code="above_max_usd",
        )
