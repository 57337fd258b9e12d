"""What an order is called and found by, and how one that is sent again is told from another under the same key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from darkroom.errors import BadInput
from darkroom.ledger.canonical_json import content_hash, dumps
from darkroom.ledger.database import run
from darkroom.ledger.tables import Job


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What is a job's and not its work's: `tags` to find it by, `metadata` to know it by, and where its news goes."""

    tags: Sequence[str] = ()
    metadata: Mapping[str, Any] | None = None
    callback_url: str | None = None
    callback_events: Sequence[str] = ()

    def columns(self) -> dict[str, Any]:
        return {
            "tags": list(self.tags),
            "meta": None if self.metadata is None else dumps(dict(self.metadata)),
            "callback_url": self.callback_url,
            "callback_events": list(self.callback_events),
        }


@dataclass(frozen=True, kw_only=True)
class Search:
    """Jobs that have all of the tags, and the text somewhere in what was ordered, in capitals or not."""

    tags: Sequence[str] = ()
    text: str | None = None

    def parameters(self) -> dict[str, Any]:
        # What LIKE takes for its own signs stands for itself.
        text = None if self.text is None else re.sub(r"([\\%_])", r"\\\1", self.text)
        return {"tags": list(self.tags) or None, "prompt": None if text is None else f"%{text}%"}


NO_LABELS = Labels()
EVERYTHING = Search()


def body_hash(kind: str, parameters: Mapping[str, Any], labels: Labels) -> str:
    """Return the hash of the order."""
    if labels == NO_LABELS:  # as it was before there were any: such hashes are on record
        return content_hash(kind, parameters)
    given: dict[str, Any] = {"tags": list(labels.tags), "metadata": labels.metadata}
    if labels.callback_url is not None:  # of orders that came before there were callbacks the hash stays, too
        given |= {"callback_url": labels.callback_url, "callback_events": list(labels.callback_events)}
    return content_hash(kind, parameters, given)


def labels_again(connection: Connection, job: Job) -> Labels:
    """Return the labels that the job was ordered with."""
    own = run(connection, "job_callback_get", job_id=job.id).one_or_none()
    called = {} if own is None else {"callback_url": own.url, "callback_events": tuple(own.events)}
    return Labels(tags=job.tags, metadata=job.meta, **called)


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
