"""JSON as the ledger writes it: one canonical form, so that equal inputs have equal hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} does not belong in the ledger's JSON")


def dumps(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)


def content_hash(*parts: Mapping[str, Any] | str) -> str:
    """SHA-256 over the canonical form of all parts."""
    return hashlib.sha256(dumps(parts).encode()).hexdigest()
