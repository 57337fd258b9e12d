"""The cards that come with Darkroom: some thirty popular models, for a first start where nothing can be reached.

`snapshot.json` has each model's facts and its schemas as OpenAPI 3.0 has them, with what several share beside.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

from darkroom.models.card import Card
from darkroom.models.schemas import self_contained


@cache
def packaged_cards() -> Mapping[str, Card]:
    """Return the packaged cards by endpoint."""
    document = json.loads((files("darkroom.models") / "snapshot.json").read_text())
    taken_at = datetime.fromisoformat(document["taken_at"])
    common = {"account_id": document["account_id"], "fetched_at": taken_at}
    return {each["endpoint"]: _card({**common, **each}, document["schemas"]) for each in document["models"]}


def _card(facts: Mapping[str, Any], shared: Mapping[str, Any]) -> Card:
    known = {name: value for name, value in facts.items() if name not in ("input", "output", "unit_price")}
    return Card(
        **known,
        input_schema=self_contained(facts["input"], shared),
        output_schema=self_contained(facts["output"], shared),
        # A text in the file: as a number it would lose digits on the way.
        unit_price=None if facts.get("unit_price") is None else Decimal(facts["unit_price"]),
        packaged=True,
    )
