"""What a batch will cost, before any of it is paid."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from darkroom.batches.checking import Row

USUAL_SHARE = Decimal("0.1")
CENT_FRACTION = Decimal("0.000001")  # to which the ledger keeps amounts


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """USD, from the models' estimates, which are upper ones."""

    rows: int
    draft_usd: Decimal  # of all rows
    final_all_usd: Decimal  # of all rows at once, without drafts
    final_winners_usd: Decimal  # of the expected share of rows
    most_usd: Decimal  # drafts, and then all rows chosen

    @property
    def expected_usd(self) -> Decimal:
        return self.draft_usd + self.final_winners_usd

    @property
    def saving_usd(self) -> Decimal:
        """Return the USD saved against rendering everything at the final quality.

        It is below zero where drafts hardly save.
        """
        return self.final_all_usd - self.expected_usd

    def document(self) -> dict[str, str]:
        """Return the forecast as it goes on record, with amounts as text."""
        return {
            "draft": f"{self.draft_usd:f}",
            "final_all": f"{self.final_all_usd:f}",
            "final_winners": f"{self.final_winners_usd:f}",
            "expected": f"{self.expected_usd:f}",
            "most": f"{self.most_usd:f}",
            "saving": f"{self.saving_usd:f}",
        }


def forecast(rows: Iterable[Row], *, winners: Decimal = USUAL_SHARE) -> Forecast:
    """Add up what the rows that will be paid for will cost.

    `winners`: the share of them that will be chosen, 0 to 1.
    """
    count, draft, final_all, second = 0, Decimal(0), Decimal(0), Decimal(0)
    for row in rows:
        count += 1
        draft += row.draft.estimate_usd
        final_all += row.final.estimate_usd
        # What is the final already is not made twice.
        second += 0 if row.draft_is_final else row.final.estimate_usd
    return Forecast(
        rows=count,
        draft_usd=draft,
        final_all_usd=final_all,
        final_winners_usd=(second * winners).quantize(CENT_FRACTION),
        most_usd=draft + second,
    )
