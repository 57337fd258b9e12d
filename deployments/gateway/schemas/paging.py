"""Lists come page by page, newest first: `next` of one page is the `cursor` of the following."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Protocol, TypeVar

from fastapi import Query

from darkroom.errors import BadInput

Limit = Annotated[int, Query(ge=1, le=200, description="Most items on the page.")]
# In full, so that the documentation tells which are taken: the microseconds and the id of a row. Sixteen digits reach
# to the year 2286, which is a time that Python has.
CURSOR = "^([0-9]{1,16}-[A-Za-z0-9_]{1,100})?$"
Cursor = Annotated[str | None, Query(description="`next` of the page before.", json_schema_extra={"pattern": CURSOR})]

Place = tuple[datetime, str]  # the time and the id of a row

_CURSOR = re.compile(CURSOR)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Dated(Protocol):
    id: str
    created_at: datetime


Row = TypeVar("Row")


def created(row: Dated) -> Place:
    return row.created_at, row.id


def read_cursor(cursor: str | None) -> Place | None:
    """Read the place of the last row of the page before; None on the first page."""
    if not cursor:
        return None
    if not _CURSOR.fullmatch(cursor):
        raise no_cursor()
    microseconds, _, id = cursor.partition("-")
    return _EPOCH + timedelta(microseconds=int(microseconds)), id


def cut(found: Sequence[Row], limit: int, place: Callable[[Row], Place]) -> tuple[Sequence[Row], str | None]:
    """Return the page and its `next`, from rows of which one more was asked for than the page has."""
    page = found[:limit]
    return page, _write(*place(page[-1])) if len(found) > limit else None


def _write(at: datetime, id: str) -> str:
    # To the microsecond, as the ledger has it: rows of one second are told apart.
    return f"{(at - _EPOCH) // timedelta(microseconds=1)}-{id}"


def no_cursor() -> BadInput:
    return BadInput("This is no cursor; take `next` of the page before", field="cursor")
