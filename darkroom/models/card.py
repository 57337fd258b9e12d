"""A model's card: what its provider publishes about it, as one version of a row in the ledger or of the snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from darkroom.ledger import ModelCard

Schema = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is published about a model.

    `input_schema`, `output_schema`: JSON Schema that needs nothing outside itself (`schemas.self_contained`); None
    where the platform gave none. `unit`: the platform's own word, an open vocabulary. `version`: of the ledger's row;
    0 for a packaged card.
    """

    endpoint: str
    account_id: str
    title: str = ""
    category: str = ""
    kind: str = "inference"
    status: str = "active"
    description: str = ""
    input_schema: Schema | None = None
    output_schema: Schema | None = None
    unit: str | None = None
    unit_price: Decimal | None = None
    currency: str = "USD"
    usual_seconds: float | None = None
    packaged: bool = False
    fetched_at: datetime | None = None
    version: int = 0

    def facts(self) -> dict[str, Any]:
        """Return what the ledger keeps of the card, by the names of its columns."""
        # These two are the ledger's own to give.
        names = set(self.__dataclass_fields__) - {"version", "fetched_at"}
        return {name: getattr(self, name) for name in names}

    @classmethod
    def of_row(cls, row: ModelCard) -> Self:
        return cls(**{name: getattr(row, name) for name in cls.__dataclass_fields__})
