"""What calls cost those to whom they are sold on: their cost times their plan's mark-up.

The mark-up is on record with the job and its calls from the order on, so that another one of the plan changes nothing
for what was ordered. Each call's price is rounded by itself, and what is told of a job, a user or a month is the sum of
those, so that the sums agree to the last digit. SQL does the same: `round(cost_usd * markup, 6)`.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

MILLIONTH = Decimal("0.000001")


def price(usd: Decimal, markup: Decimal) -> Decimal:
    """Return the price in USD, to the nearest millionth; half of one is rounded up."""
    return (usd * markup).quantize(MILLIONTH, ROUND_HALF_UP)
