"""Lists come page by page, newest first: `next` of one page is the `cursor` of the following."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Protocol, TypeVar

from fastapi import Query

from darkroom.errors import BadInput

Limit = Annotated[int, Query(ge=1, le=200, description="Most items on the page.")]
Cursor = Annotated[str | None, Query(max_length=200, description="`next` of the page before.")]

Place = tuple[datetime, str]  # the time and the id of a row


class Dated(Protocol):
    id: str
    created_at: datetime


Row = TypeVar("Row")


def created(row: Dated) -> Place:
    return row.created_at, row.id


def read_cursor(cursor: str | None) -> Place | None:
    """Of the last row of the page before; None on the first page."""
    if not cursor:
        return None
    try:
        time, _, id = base64.urlsafe_b64decode(cursor).decode().partition(" ")
        at = datetime.fromisoformat(time)
    except (binascii.Error, ValueError) as error:
        raise no_cursor() from error
    if at.tzinfo is None or not id.isprintable():
        raise no_cursor()
    return at, id


def cut(found: Sequence[Row], limit: int, place: Callable[[Row], Place]) -> tuple[Sequence[Row], str | None]:
    """Return the page and its `next`, from rows of which one more was asked for than the page has."""
    page = found[:limit]
    return page, _write(*place(page[-1])) if len(found) > limit else None


def _write(at: datetime, id: str) -> str:
    return base64.urlsafe_b64encode(f"{at.isoformat()} {id}".encode()).decode()


def no_cursor() -> BadInput:
    return BadInput("This is no cursor; take `next` of the page before", field="cursor")
