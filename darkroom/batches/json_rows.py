"""Rows out of JSON: a list of objects, an object to each line, values one after the other, or a table as pandas has it.

Values may follow each other with or without line breaks or commas, as programs write them (`jq`, JSON lines, RFC 7464).
How deep a row is nested is bounded here, before anything that calls itself looks into it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from darkroom.batches.names import is_name, named
from darkroom.batches.problems import Problem
from darkroom.batches.raw import Findings, Raw, unreadable

DEEPEST = 32  # levels of a row
LISTS = ("rows", "data", "items", "records")  # what programs call the list in an object
_OPTIONS = ("defaults", "draft", "final", "deduplicate", "answer_within_hours", "if_nobody_answers")
_BETWEEN = re.compile("[\\s,\ufeff\x1e]*")  # also a comma, and what RFC 7464 begins a value with
_NEXT_LINE = re.compile(r"[\r\n](?=[{\[])")
_AN_OBJECT = 'Write one object to each line, e.g. {"id": "sku-1", "prompt": "…"}.'

_Numbered = tuple[int, int | None, object]


def json_rows(text: str, found: Findings) -> Iterator[Raw]:
    """Yield the rows of a text that begins as JSON. Raises Unreadable."""
    return object_rows(_elements(text, found), found)


def objects(given: Sequence[object], found: Findings) -> Iterator[Raw]:
    """Yield the rows of a list of objects."""
    return object_rows(((number, None, each) for number, each in enumerate(given, 1)), found)


def object_rows(elements: Iterable[_Numbered], found: Findings) -> Iterator[Raw]:
    for number, line, each in elements:
        problem = _problem_of(each)
        if problem is not None:
            said, remedy = problem
            found.problems.append(Problem(row=number, line=line, column=None, problem=said, remedy=remedy))
            continue
        assert isinstance(each, Mapping)
        cells: dict[str, Any] = {}
        for name, value in named(each, found.known):
            if name in cells:
                said, remedy = "is given twice, under names that mean the same", "Leave one of them out."
                column = name if is_name(name) else None
                found.problems.append(Problem(row=number, line=line, column=column, problem=said, remedy=remedy))
            elif value is not None:
                cells[name] = value
        yield Raw(number=number, line=line, cells=cells, text=False)


def nested_deeper(value: object, levels: int) -> bool:
    """Return whether lists and objects lie in each other in more levels than that. Without calling itself."""
    level = [value]
    for _ in range(levels):
        level = [within for each in level for within in _within(each)]
        if not level:
            return False
    return any(isinstance(each, Mapping | list) for each in level)


def _within(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list) else ()


def _problem_of(row: object) -> tuple[str, str] | None:
    if not isinstance(row, Mapping):
        return "is not an object", 'Write {"prompt": "…"}.'
    if nested_deeper(row, DEEPEST):
        return f"is nested more than {DEEPEST} levels deep", "A row is one object; only arguments are objects in it."
    return None


def _elements(text: str, found: Findings) -> Iterator[_Numbered]:
    """Yield what may be rows with the lines they begin on; lists among the values are taken apart."""
    number = 0
    for line, value in _values(text, found):
        rows = _table(value, line)
        for row in [value] if rows is None else rows:
            number += 1
            if row is not _BROKEN:
                yield number, line if rows is None else None, row


_BROKEN = object()  # its problem is told already, but it counts


def _values(text: str, found: Findings) -> Iterator[tuple[int, object]]:
    """Yield the values one after the other. What is none is told, and the next line is tried that may begin one."""
    decoder = json.JSONDecoder(parse_constant=_no_number)
    ends = "\n" if "\n" in text else "\r"
    at, line, counted, number = 0, 1, 0, 0
    while (at := _skipped(text, at)) < len(text):
        line, counted, number = line + text.count(ends, counted, at), at, number + 1
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            if number == 1 and text[at] == "[":
                _no_array(error)
            found.problems.append(_no_json(error, number, line))
            value, at = _BROKEN, _resumed(text, at)
        yield line, value


def _skipped(text: str, at: int) -> int:
    between = _BETWEEN.match(text, at)
    return between.end() if between else at


def _resumed(text: str, at: int) -> int:
    following = _NEXT_LINE.search(text, at)
    return following.start() if following else len(text)


def _no_array(error: ValueError | RecursionError) -> NoReturn:
    line = error.lineno if isinstance(error, json.JSONDecodeError) else None
    remedy = f"{_reason(error)} Send one array of objects, or an object to each line."
    unreadable("it begins as a JSON array, but is none", remedy, line=None if line == 1 else line)


def _no_json(error: ValueError | RecursionError, number: int, line: int) -> Problem:
    return Problem(row=number, line=line, column=None, problem="is not JSON", remedy=f"{_reason(error)} {_AN_OBJECT}")


def _reason(error: ValueError | RecursionError) -> str:
    """Return what the parser says, which never repeats a value."""
    if isinstance(error, RecursionError):
        return "It is nested too deeply."
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} in column {error.colno}."
    return "NaN and infinities are no JSON: write null."


def _no_number(word: str) -> NoReturn:
    raise ValueError(word)  # though Python reads them


def _table(value: object, line: int) -> list[object] | None:
    """Return the rows in a value that has several; None for a value that is one row, or none."""
    if isinstance(value, list):
        several = not value or any(isinstance(each, Mapping) for each in value)
        return value if several or line == 1 else None
    if not isinstance(value, Mapping) or isinstance(value.get("prompt"), str):
        return None
    for read in (_listed, _split, _indexed, _by_column):
        if (rows := read(value)) is not None:
            return rows
    return None


def _listed(value: Mapping[str, Any]) -> list[object] | None:
    """`{"rows": […]}`."""
    names = [name for name in LISTS if isinstance(value.get(name), list)]
    if len(names) != 1 or not (names[0] == "rows" or all(isinstance(each, Mapping) for each in value[names[0]])):
        return None
    if others := [name for name in _OPTIONS if name in value]:
        unreadable(
            f"{others[0]} is beside its {names[0]}, and a manifest has rows alone",
            "Send it as the body of POST /v1/batches, as application/json, or give it as an option of the order.",
        )
    schema = value.get("schema")  # of pandas with orient="table", which has the numbers of rows among their columns
    keys = schema.get("primaryKey") if isinstance(schema, Mapping) else None
    numbers = keys if isinstance(keys, list) and "id" not in keys else []
    rows: list[object] = value[names[0]]
    if not numbers:
        return rows
    return [{name: each for name, each in row.items() if name not in numbers} for row in value[names[0]]]


def _split(value: Mapping[str, Any]) -> list[object] | None:
    """Read rows as pandas writes them with orient="split"."""
    columns, data = value.get("columns"), value.get("data")
    if not isinstance(columns, list) or not isinstance(data, list) or not all(isinstance(row, list) for row in data):
        return None
    return [dict(zip(map(str, columns), row, strict=False)) for row in data]


def _indexed(value: Mapping[str, Any]) -> list[object] | None:
    """Read rows as pandas writes them with orient="index"."""
    if value and all(key.isdecimal() and isinstance(row, Mapping) for key, row in value.items()):
        return list(value.values())
    return None


def _by_column(value: Mapping[str, Any]) -> list[object] | None:
    """Read rows as pandas writes them with orient="columns", its usual one."""
    if not value or not all(isinstance(column, Mapping) for column in value.values()):
        return None
    places = list(next(iter(value.values())))
    if any(list(column) != places for column in value.values()) or not all(map(str.isdecimal, places)):
        return None
    return [{name: column[place] for name, column in value.items()} for place in places]
