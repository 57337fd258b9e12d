"""What a job function says of the event it waits for, as the ledger keeps it: CEL over `event`.

A mapping of fields and values becomes CEL whose literals are quoted here, so a value may be anything a user typed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from darkroom.errors import BadInput
from darkroom.events import compiled, matches
from darkroom.events.types import find_type

_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_LARGEST_INT = 2**63 - 1  # CEL's numbers have 64 bits


def as_text(match: str | Mapping[str, Any] | None) -> str | None:
    """Return the condition as CEL; None where every event will do. Raise BadInput for what is no condition."""
    if not match:
        return None
    text = match if isinstance(match, str) else " && ".join(_equal(name, value) for name, value in match.items())
    try:
        compiled(text)
    except BadInput as error:
        raise BadInput(error.message, field="match") from error
    return text


def require_event(name: str) -> None:
    """Raise BadInput for an event that nobody can send: it would be waited for in vain."""
    find_type(name)


def holds(match: str | None) -> Callable[[Mapping[str, Any]], bool]:
    """Return a test of an event's data. A condition on a field that the data does not have does not hold."""
    # Why it cannot be told is a text, which is true as well.
    return lambda data: match is None or matches(match, data) is True


def _equal(field: str, value: Any) -> str:
    if not _FIELD.fullmatch(field):
        raise BadInput(f"{field!r} is no field of an event's data: letters, digits and _, with dots.", field="match")
    return f"event.data.{field} == {_literal(value, field)}"


def _literal(value: Any, field: str) -> str:
    match value:
        case None | bool() | str():  # before the numbers: True is an int, too
            return json.dumps(value, ensure_ascii=False)  # CEL reads the escapes of JSON
        case int() if abs(value) <= _LARGEST_INT:
            return str(value)
        case float() if math.isfinite(value):
            return repr(value)
        case _:
            raise BadInput(f"The field {field} is compared with text, a number, true, false or null.", field="match")
