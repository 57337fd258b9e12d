"""Rows out of JSON: a list of objects, an object to each line, values one after the other, or a table as pandas has it.

Values may follow each other with or without line breaks or commas, as programs write them (`jq`, JSON lines, RFC 7464).
How deep a row is nested is bounded here, before anything that calls itself looks into it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from darkroom.batches.names import column_name, is_name, named
from darkroom.batches.problems import Problem
from darkroom.batches.raw import MOST_COLUMNS, MOST_ROWS, Findings, Raw, too_many_rows, unreadable

DEEPEST = 32  # levels of a row
LISTS = ("rows", "data", "items", "records")  # what programs call the list in an object, whatever is beside it
MOST_BROKEN = 1000  # values that are none, of which one hears before the rest is not looked at
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
    names = set[str]()
    for number, line, each in elements:
        names.update(each if isinstance(each, Mapping) else ())
        if len(names) > MOST_COLUMNS:
            remedy = "Use the names that the documentation has."
            unreadable(f"its rows have more than {MOST_COLUMNS:,} names between them", remedy, line=line)
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
    """Return whether lists and objects lie in each other in more levels than that."""
    # Level by level: a function that calls itself would end in the RecursionError that this is to prevent.
    level = [value]
    for _ in range(levels):
        level = [within for each in level for within in _within(each)]
        if not level:
            return False
    return any(isinstance(each, Mapping | list) for each in level)


def _name_given_twice(row: Mapping[str, Any]) -> str | None:
    """Return a name that one of the row's objects has twice, of a row that is not nested too deep."""
    level: list[object] = [row]
    while level:
        found = next((each.twice for each in level if isinstance(each, _Doubled)), None)
        if found is not None:
            return found
        level = [within for each in level for within in _within(each)]
    return None


def _within(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list) else ()


def _problem_of(row: object) -> tuple[str, str] | None:
    if not isinstance(row, Mapping):
        return "is not an object", 'Write {"prompt": "…"}.'
    if nested_deeper(row, DEEPEST):
        return f"is nested more than {DEEPEST} levels deep", "A row is one object; only arguments are objects in it."
    if (twice := _name_given_twice(row)) is not None:
        return f"gives {twice if is_name(twice) else 'a name'} twice", "Leave one of them out."
    return None


def _elements(text: str, found: Findings) -> Iterator[_Numbered]:
    """Yield what may be rows with the lines they begin on; lists among the values are taken apart."""
    number = 0
    for line, value in _values(text, found):
        rows = _table(value, line, found)
        for row in [value] if rows is None else rows:
            number += 1
            if row is not _BROKEN:
                yield number, line if rows is None else None, row


_BROKEN = object()  # its problem is told already, but it counts


class _Doubled(dict[str, Any]):
    """An object in which a name stands twice: which of the two is meant, nobody can say."""

    twice = ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Python keeps the last of two values, and says nothing.
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    doubled = _Doubled(found)
    doubled.twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
    return doubled


def _values(text: str, found: Findings) -> Iterator[tuple[int, object]]:
    """Yield the values one after the other. What is none is told, and the next line is tried that may begin one."""
    decoder = json.JSONDecoder(parse_constant=_no_number, object_pairs_hook=_object)
    ends = "\n" if "\n" in text else "\r"
    at, line, counted, number, broken = 0, 1, 0, 0, 0
    while (at := _skipped(text, at)) < len(text):
        # Counted on from the last value: from the beginning each time, it would be quadratic.
        line, counted, number = line + text.count(ends, counted, at), at, number + 1
        if number > MOST_ROWS:
            too_many_rows()
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:  # the parser calls itself for every level
            if number == 1 and text[at] == "[":
                _no_array(error)
            found.problems.append(_no_json(error, number, line))
            value, at, broken = _BROKEN, _resumed(text, at), broken + 1
            if broken > MOST_BROKEN:
                unreadable(f"more than {MOST_BROKEN:,} of its values are no JSON", _AN_OBJECT, line=line)
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
        return f"{_hint(error.doc, error.pos)}{error.msg.removesuffix(' at')} in column {error.colno}."
    if isinstance(error, _NoNumber):
        return "NaN and infinities are no JSON: write null."
    return "A number in it has too many digits."


def _hint(text: str, at: int) -> str:
    """Return what is meant to be JSON there, as people and other programs write it."""
    before, rest = text[max(0, at - 200) : at].rstrip()[-1:], text[at : at + 2]
    # As of Python 3.13 the parser points at the comma, before at the bracket.
    after = text[at + 1 : at + 200].lstrip()[:1]
    if (before == "," and rest[:1] in ("]", "}")) or (rest[:1] == "," and after in ("]", "}")):
        return "No comma stands before a closing bracket: "
    if rest in ("//", "/*") or rest[:1] == "#":
        return "JSON has no comments: "
    if rest[:1] == "'" or rest[:1].isalpha():
        return "Names and texts stand in double quotes, and true, false and null are small: "
    return "A line break in a text is written \\n, a tab \\t: " if rest[:1] in ("\n", "\r", "\t") else ""


class _NoNumber(ValueError):
    pass


def _no_number(word: str) -> NoReturn:
    raise _NoNumber(word)  # though Python reads them


def _table(value: object, line: int, found: Findings) -> list[object] | None:
    """Return the rows in a value that has several; None for a value that is one row, or none."""
    if isinstance(value, list):
        several = not value or any(isinstance(each, Mapping) for each in value)
        return value if several or line == 1 else None
    if not isinstance(value, Mapping) or isinstance(value, _Doubled) or isinstance(value.get("prompt"), str):
        return None
    for read in (_split, _indexed, _by_column):
        if (rows := read(value)) is not None:
            return rows
    return _listed(value, found)


def _listed(value: Mapping[str, Any], found: Findings) -> list[object] | None:
    """`{"rows": […]}`, whatever a program calls its one list of objects, unless it is a model's own."""
    lists = [name for name, each in value.items() if isinstance(each, list) and (name == "rows" or _are_objects(each))]
    usual = [name for name in lists if name in LISTS]
    if len(usual) != 1 and (
        len(lists) != 1
        or not value[lists[0]]
        or any(column_name(name, found.known) in found.known for name in value)  # then it is a row
    ):
        return None
    name = usual[0] if len(usual) == 1 else lists[0]
    if others := [other for other in _OPTIONS if other in value]:
        unreadable(
            f"{others[0]} is beside its {name if is_name(name) else 'rows'}, and a manifest has rows alone",
            "Send it as the body of POST /v1/batches, as application/json, or give it as an option of the order.",
        )
    if left := [other for other in value if other not in (name, "schema") and is_name(other) and value[other]]:
        found.notes.append(f"The rows were taken from {name}; beside it there was {', '.join(left[:5])}.")
    schema = value.get("schema")  # of pandas with orient="table", which has the numbers of rows among their columns
    keys = schema.get("primaryKey") if isinstance(schema, Mapping) else None
    numbers = keys if isinstance(keys, list) and "id" not in keys else []
    rows: list[object] = value[name]
    if not numbers:
        return rows
    return [{key: each for key, each in row.items() if key not in numbers} for row in value[name]]


def _are_objects(values: list[object]) -> bool:
    return all(isinstance(each, Mapping) for each in values)


def _split(value: Mapping[str, Any]) -> list[object] | None:
    """Read rows as pandas writes them with orient="split"."""
    columns, data = value.get("columns"), value.get("data")
    if not isinstance(columns, list) or not isinstance(data, list) or not all(isinstance(row, list) for row in data):
        return None
    if any(len(row) != len(columns) for row in data) or len(set(map(str, columns))) < len(columns):
        unreadable("its columns and its data do not fit each other", "Give each column one name, and each row as many.")
    return [dict(zip(map(str, columns), row, strict=True)) for row in data]


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
