"""How long, as people write it: `5m`, `1h30m`, `0.5s`, `2d`."""

from __future__ import annotations

import re
from datetime import timedelta

_PART = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*(ms|[smhdw])")
_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(text: str) -> timedelta:
    """Add up the parts of a duration. Raise `ValueError`, with a sentence, for text that is none."""
    parts = _PART.findall(text)
    if not parts or _PART.sub("", text).strip():
        raise ValueError(f"'{text}' is no duration: write numbers with s, m, h, d or w, like 1h30m.")
    try:
        return sum((timedelta(**{_UNITS[unit]: float(number)}) for number, unit in parts), timedelta(0))
    except OverflowError:
        return timedelta.max
