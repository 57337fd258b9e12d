"""From what was sent to rows of cells: CSV with a header, JSON lines, a JSON array, or a list of objects.

Nothing is guessed that could pay for the wrong picture: a row with more cells than the header has names, or with stray
quotes, is a problem and not half a prompt. Bounded before it is parsed.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from typing import Any, NoReturn

from darkroom.batches.problems import Problem
from darkroom.nesting import nests_too_deep

MOST_ROWS = 10_000
MOST_BYTES = 20 * 1024 * 1024
DELIMITERS = (",", ";", "\t")
_NOT_IN_TEXT = "\x1f"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}(?:\.[A-Za-z_][A-Za-z0-9_]{0,63})?")
_NOT_UTF8 = "Save it as UTF-8, e.g. “CSV UTF-8” in a spreadsheet."
_QUOTES = "Put text that holds the delimiter, a quote or a line break in quotes, and write a quote in it twice."

Source = bytes | str | Sequence[object]


@dataclass(frozen=True, kw_only=True)
class Raw:
    """A row as it was given. `cells`: by column; empty ones are left out. `text`: all of them are, and want reading."""

    number: int  # from 1
    line: int | None
    cells: Mapping[str, Any]
    text: bool
    decimal_comma: bool = False


class Unreadable(Exception):
    """No more rows can be had; the problem says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.problem)
        self.problem = problem


def read_rows(source: Source, problems: list[Problem], *, columns: Collection[str] = ()) -> Iterator[Raw]:
    """Yield the rows, and add what is wrong with single ones to `problems`.

    `columns`: what CSV has to have. Raises Unreadable.
    """
    for count, raw in enumerate(_rows(source, problems, columns), 1):
        if count > MOST_ROWS:
            _unreadable(f"it has more than {MOST_ROWS:,} rows", "Send it as several batches.")
        yield raw


def is_name(text: object) -> bool:
    """Return whether the text can be the name of a column or an argument.

    What cannot is not repeated, as it may be a prompt.
    """
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def _rows(source: Source, problems: list[Problem], columns: Collection[str]) -> Iterator[Raw]:
    if not isinstance(source, str | bytes):
        return _objects(((number, None, each) for number, each in enumerate(source, 1)), problems)
    text = _decoded(source)
    match text.lstrip()[:1]:
        case "{":
            return _objects(_json_lines(text, problems), problems)
        case "[":
            return _objects(((number, None, each) for number, each in enumerate(_json_array(text), 1)), problems)
        case _:
            return _csv(text, problems, columns)


def _decoded(source: str | bytes) -> str:
    content = source.encode("utf-8", "surrogatepass") if isinstance(source, str) else source
    if len(content) > MOST_BYTES:
        _unreadable(f"it has more than {MOST_BYTES // 1024 // 1024} MB", "Send it as several batches.")
    try:
        text = source if isinstance(source, str) else source.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Unreadable(_whole("it is not UTF-8", _NOT_UTF8, line=line)) from None
    if not text.removeprefix("\ufeff").strip():
        _unreadable("it is empty", "Send a header line and at least one row.")
    return text.removeprefix("\ufeff")


def _json_lines(text: str, problems: list[Problem]) -> Iterator[tuple[int, int | None, object]]:
    number = 0
    for line, each in enumerate(text.split("\n"), 1):
        if not each.strip():
            continue
        number += 1
        try:
            yield number, line, _json(each)
        except (ValueError, RecursionError):
            problems.append(
                Problem(
                    row=number, line=line, column=None, problem="is not JSON", remedy="Write one object to each line."
                )
            )


def _json_array(text: str) -> list[object]:
    try:
        found = _json(text)
    except (ValueError, RecursionError):
        _unreadable("it begins as a JSON array, but is none", "Send one array of objects, or an object to each line.")
    return found if isinstance(found, list) else []


def _json(text: str) -> object:
    if nests_too_deep(text.encode("utf-8", "surrogatepass")):
        raise ValueError("nested too deep")
    return json.loads(text, parse_constant=_no_number)


def _no_number(word: str) -> NoReturn:
    raise ValueError(word)  # NaN and infinities are not JSON, though Python reads them


def _objects(found: Iterator[tuple[int, int | None, object]], problems: list[Problem]) -> Iterator[Raw]:
    for number, line, each in found:
        if not isinstance(each, Mapping):
            problem, remedy = "is not an object", 'Write {"prompt": "…"}.'
            problems.append(Problem(row=number, line=line, column=None, problem=problem, remedy=remedy))
        else:
            cells = {name: value for name, value in each.items() if value is not None}
            yield Raw(number=number, line=line, cells=cells, text=False)


def _csv(text: str, problems: list[Problem], columns: Collection[str]) -> Iterator[Raw]:
    header = _header(text, columns)
    number = 0
    for line, cells in _filled_lines(text, header.delimiter):
        if line == header.line:
            continue
        number += 1
        if any(map(str.strip, cells[len(header.names) :])):
            problem = f"has {len(cells)} cells, and the header has {len(header.names)} names"
            problems.append(Problem(row=number, line=line, column=None, problem=problem, remedy=_QUOTES))
            continue
        given = {name: cell for name, cell in zip(header.names, cells, strict=False) if name and cell.strip()}
        yield Raw(number=number, line=line, cells=given, text=True, decimal_comma=header.delimiter == ";")


@dataclass(frozen=True, kw_only=True)
class _Header:
    """`names`: of the columns, none for one that has no name."""

    line: int
    delimiter: str
    names: Sequence[str]


def _header(text: str, columns: Collection[str]) -> _Header:
    """Read the header by the delimiter that gives the most columns a name."""
    header = max((_split(text, delimiter) for delimiter in DELIMITERS), key=lambda each: sum(map(is_name, each.names)))
    if missing := [name for name in columns if name not in header.names]:
        remedy = "Begin with a header, e.g. id,prompt,image_size,seed."
        _unreadable("the header does not name this column", remedy, line=header.line, column=missing[0])
    for place, name in enumerate(header.names, 1):
        if name and not is_name(name):
            remedy = "Use letters, digits and underscores, as the documentation names them."
            _unreadable(f"the name of column {place} cannot be one", remedy, line=header.line)
        if name and header.names.count(name) > 1:
            _unreadable("the header names this column twice", "Leave one of them out.", line=header.line, column=name)
    # A list of prompts alone needs no quotes around those with commas.
    return replace(header, delimiter=_NOT_IN_TEXT) if len(header.names) == 1 else header


def _split(text: str, delimiter: str) -> _Header:
    line, cells = next(_filled_lines(text, delimiter), (1, [""]))
    names = [name.strip().lower() for name in cells]
    while names and not names[-1]:  # columns that a spreadsheet thinks there are
        names.pop()
    return _Header(line=line, delimiter=delimiter, names=names)


def _filled_lines(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Skip empty lines: spreadsheets leave some at the end."""
    return ((line, cells) for line, cells in _lines(text, delimiter) if any(map(str.strip, cells)))


def _lines(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row with the line it begins on. Raises Unreadable where quotes go wrong: no row after that is sure."""
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    while True:
        line = reader.line_num + 1
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error:
            raise Unreadable(
                _whole("the quotes of the row that begins here do not match", _QUOTES, line=line)
            ) from None


def _unreadable(problem: str, remedy: str, *, line: int | None = None, column: str | None = None) -> NoReturn:
    raise Unreadable(_whole(problem, remedy, line=line, column=column))


def _whole(problem: str, remedy: str, *, line: int | None = None, column: str | None = None) -> Problem:
    return Problem(row=None, line=line, column=column, problem=problem, remedy=remedy)
