"""What a statement brought: its rows, read by the names of their columns, all in memory.

Made of the driver's tuples directly: through SQLAlchemy's results a statement costs the client half as much again.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import psycopg
from sqlalchemy import Row as _Row

SomeRow = _Row[Any]  # read as SQLAlchemy reads its own: by names, and by `_mapping`


class Result:
    """The rows of one statement, and how many it has read or changed."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: Sequence[Any], rowcount: int) -> None:
        self._rows = rows
        self.rowcount = rowcount

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def all(self) -> Sequence[Any]:
        return self._rows

    def first(self) -> SomeRow | None:
        return cast("SomeRow", self._rows[0]) if self._rows else None

    def one(self) -> SomeRow:
        """Return the one row. Raise LookupError where there is none, or several."""
        if len(self._rows) != 1:
            raise LookupError(f"There are {len(self._rows)} rows where one was expected.")
        return cast("SomeRow", self._rows[0])

    def one_or_none(self) -> SomeRow | None:
        return self.one() if self._rows else None

    def scalar(self) -> Any:
        """Return the first column of the first row, or None."""
        return self._rows[0][0] if self._rows else None

    def scalar_one(self) -> Any:
        return self.one()[0]

    def scalar_one_or_none(self) -> Any:
        return self.one()[0] if self._rows else None

    def scalars(self) -> Result:
        """Return the first columns alone."""
        return Result([row[0] for row in self._rows], self.rowcount)


def as_result(cursor: psycopg.Cursor[Any] | psycopg.RawCursor[Any]) -> Result:
    """Read everything that the cursor's statement has brought."""
    came = cursor.pgresult
    if came is None or came.status != psycopg.pq.ExecStatus.TUPLES_OK:
        return Result((), cursor.rowcount)
    # Not by `cursor.description`, which describes the types of all of them, too, at ten times the cost.
    make = _row_of(tuple([(came.fname(n) or b"").decode() for n in range(came.nfields)]))
    return Result([make(values) for values in cursor.fetchall()], cursor.rowcount)


def part_of(row: SomeRow, table: str) -> SomeRow:
    """Return the columns that a statement has of that table as a row of their own: `(taken.job).*` in its text."""
    own = {name.removeprefix(f"{table}."): each for name, each in row._mapping.items() if name.startswith(f"{table}.")}
    return cast("SomeRow", _row_of(tuple(own))(own.values()))


@lru_cache(maxsize=1000)
def _row_of(names: tuple[str, ...]) -> Any:
    make: Any = namedtuple  # whose names a type checker wants to know
    plain: Any = make("Row", names, rename=True)

    class Row(plain):  # type: ignore[misc]
        __slots__ = ()

        @property
        def _mapping(self) -> Mapping[str, Any]:
            return dict(zip(names, self, strict=True))

    return Row._make
