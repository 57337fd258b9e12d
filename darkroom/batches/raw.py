"""What the readers of CSV and of JSON have in common: rows as they were given, and what there is to say of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from darkroom.batches.problems import Problem

MOST_ROWS = 10_000
MOST_COLUMNS = 1000  # each of which is compared with the names there are
MOST_BYTES = 20 * 1024 * 1024

Source = bytes | str | Sequence[object]


@dataclass(frozen=True, kw_only=True)
class Raw:
    """A row as it was given. `cells`: by column; empty ones are left out. `text`: all of them are, and want reading."""

    number: int  # from 1
    line: int | None
    cells: Mapping[str, Any]
    text: bool
    decimal_comma: bool = False


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What is found beside the rows. `problems`: of single ones. `notes`: how what is not usual was understood."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    required: Collection[str] = ()  # columns of which CSV has to have one; the first is the usual one
    known: frozenset[str] = frozenset()  # columns that there may be, as they are written


class Unreadable(Exception):
    """No more rows can be had; the problem says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.problem)
        self.problem = problem


def unreadable(problem: str, remedy: str, *, line: int | None = None, column: str | None = None) -> NoReturn:
    """Raise Unreadable for the manifest as a whole."""
    raise Unreadable(Problem(row=None, line=line, column=column, problem=problem, remedy=remedy)) from None


def too_many_rows() -> NoReturn:
    unreadable(f"it has more than {MOST_ROWS:,} rows", "Send it as several batches.")
