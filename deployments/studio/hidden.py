"""What the API hides of an order: passwords and signatures, which no form can be filled in with once more."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

HIDDEN = "…"  # in the place of what opens something (`gateway/schemas/orders.py`)
# In an address it stands for a part alone. Anywhere else it is a sign that people write.
_PART = re.compile(rf"://(?:{HIDDEN}@|\S*={HIDDEN}(?:[&#\s]|$))")


def is_hidden(value: Any) -> bool:
    """Return whether something of the value is hidden, so that it cannot be ordered as it is shown."""
    match value:
        case str():
            return value == HIDDEN or _PART.search(value) is not None
        case Mapping():
            return any(map(is_hidden, value.values()))
        case list():
            return any(map(is_hidden, value))
        case _:
            return False


def as_ordered(lacking: Sequence[str]) -> str:
    """Say of a form that it is filled in as it was ordered. `lacking`: the fields that are not, as it was hidden."""
    if not lacking:
        return "As it was ordered. Change what you like."
    fields = ", ".join(lacking)
    return f"As it was ordered, but for what is shown to nobody, as it opens something. Give it again: {fields}."
