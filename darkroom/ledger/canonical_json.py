"""JSON as the ledger writes it: one canonical form, so that equal inputs have equal hashes."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

_SUSPECT = re.compile(r"\\u(?:0000|d[89a-f])")  # as they are escaped; whole pairs are found too, and stay


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} does not belong in the ledger's JSON")


def dumps(value: Any) -> str:
    """Write canonical JSON, and replace what Postgres' jsonb refuses."""
    # Not refused: providers echo what users type, and their answers are paid for.
    try:
        written = _dumps(value)
    except ValueError:  # NaN or infinity
        return _dumps(_storable(value))
    return _dumps(_storable(value)) if _SUSPECT.search(written) else written


def _dumps(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain, allow_nan=False)


def _storable(value: Any) -> Any:
    """Replace U+0000, half surrogate pairs, and numbers that are none."""
    match value:
        case str():
            # By way of UTF-16: there both halves of a pair are one character, and a half alone is an error.
            return value.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case float() if not math.isfinite(value):
            return None
        case Mapping():
            return {_storable(key): _storable(each) for key, each in value.items()}
        case list() | tuple():
            return [_storable(each) for each in value]
        case _:
            return value


def content_hash(*parts: Mapping[str, Any] | str) -> str:
    """Return the SHA-256 over the canonical form of all parts."""
    return hashlib.sha256(dumps(parts).encode()).hexdigest()


def same(one: object, other: object) -> bool:
    """Return whether both are the same JSON: 5 and 5.0 are one number to others, 1 and true are not."""
    return dumps(_levelled(one)) == dumps(_levelled(other))


def _levelled(value: object) -> object:
    match value:
        case float() if value.is_integer():
            return int(value)
        case Mapping():
            return {key: _levelled(each) for key, each in value.items()}
        case list() | tuple():
            return [_levelled(each) for each in value]
        case _:
            return value
