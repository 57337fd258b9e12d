"""What an order is called and found by, and how one that is sent again is told from another under the same key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from darkroom.errors import BadInput
from darkroom.ledger.canonical_json import content_hash
from darkroom.ledger.database import run


@dataclass(frozen=True, kw_only=True)
class Labels:
    """A user's own words for a job: `tags` to find it by, `metadata` to know it by."""

    tags: Sequence[str] = ()
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Search:
    """Jobs that have all of the tags, and the text somewhere in their prompt, in capitals or not."""

    tags: Sequence[str] = ()
    text: str | None = None

    def parameters(self) -> dict[str, Any]:
        text = None if self.text is None else re.sub(r"([\\%_])", r"\\\1", self.text)
        return {"tags": list(self.tags) or None, "prompt": None if text is None else f"%{text}%"}


NO_LABELS = Labels()
EVERYTHING = Search()


def body_hash(kind: str, parameters: Mapping[str, Any], labels: Labels) -> str:
    """Return the hash of the order. Without labels it is what it was before there were any."""
    if labels == NO_LABELS:
        return content_hash(kind, parameters)
    return content_hash(kind, parameters, {"tags": list(labels.tags), "metadata": labels.metadata})


def repeated(
    connection: Connection, user_id: str, key: str | None, kind: str, parameters: Mapping[str, Any], labels: Labels
) -> Row[Any]:
    """Return the job that is there under the key. Raises BadInput where it was ordered with another body."""
    row = run(connection, "job_by_key", user_id=user_id, idempotency_key=key).one()
    if row.body_hash != body_hash(kind, parameters, labels):
        raise BadInput(
            "This Idempotency-Key came with another body before. Use a new key for a new request.",
            field="Idempotency-Key",
            code="idempotency_conflict",
        )
    return row
