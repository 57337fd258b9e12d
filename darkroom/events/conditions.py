"""Conditions on an event, in CEL: `event.data.plan != 'free'`.

Compiled once and kept. A condition that cannot be evaluated, above all because the data has no such field, does not
hold, and says why without repeating any value.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache, wraps
from threading import Lock
from typing import Any

import celpy
from celpy.adapter import CELJSONEncoder, json_to_cel
from celpy.celparser import CELParseError
from celpy.celtypes import BoolType, DoubleType, IntType
from celpy.evaluation import CELEvalError, base_functions
from lark import Token, Tree

from darkroom.errors import BadInput
from darkroom.ledger.canonical_json import dumps

LONGEST_CONDITION = 1000  # characters
MOST_REMEMBERED = 1000  # answers of one condition
LONGEST_REMEMBERED = 500  # characters of what it read
PARTS = ("name", "v", "user", "data")  # of an event, that can be read
_UNKNOWN = object()
_MACROS = frozenset({"all", "exists", "exists_one", "filter", "map"})  # their first argument is their own name
_FUNCTIONS = _MACROS | {"has", "dyn", *base_functions}

_CANNOT = "it cannot be evaluated for this data"

# Where an operation fails, the library logs what it was applied to: the event's data.
logging.getLogger("celpy").setLevel(logging.CRITICAL)


class DoesNotApply(Exception):
    """It cannot be evaluated for this event; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Expression:
    """CEL that compiles.

    `fields`: of the event's data it reads; None: all of them. `parts`: beside its data. `whole`: it is one of these,
    as it is, and takes no interpreter.
    """

    text: str
    program: Any
    fields: tuple[str, ...] | None
    parts: tuple[str, ...] = ()
    whole: tuple[str, ...] | None = None  # ("user",) or ("data", "account")
    answers: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def constant(self) -> bool:
        """Return whether it reads nothing of the event."""
        return self.fields == () == self.parts

    def evaluate(self, event: Mapping[str, Any]) -> Any:
        """Return its value for the event, a plain one. Raises `DoesNotApply`."""
        # Keys of flow control are mostly such, and new in every event: there is nothing to remember.
        if self.whole is not None:
            return _found(event, self.whole)
        if self.fields is None:
            return self._evaluate(event)
        data = event.get("data") or {}
        # What it reads decides, whom the event is for as well: one user's answer is not another's.
        read = {name: event[name] for name in self.parts if name in event}
        # Only fields that are there: one that is null is another thing than one that is missing.
        read["data"] = {name: data[name] for name in self.fields if name in data}
        answer = self._remembered(dumps(read), read)
        if isinstance(answer, DoesNotApply):
            raise DoesNotApply(str(answer))
        return answer

    def _remembered(self, key: str, event: Mapping[str, Any]) -> Any:
        if len(key) > LONGEST_REMEMBERED:
            return self._outcome(event)
        # One evaluation by the interpreter takes 0.3 ms, and events come by the thousand.
        answer = self.answers.get(key, _UNKNOWN)
        if answer is _UNKNOWN:
            if len(self.answers) >= MOST_REMEMBERED:
                self.answers.clear()
            answer = self.answers[key] = self._outcome(event)
        return answer

    def _outcome(self, event: Mapping[str, Any]) -> Any:
        try:
            return self._evaluate(event)
        except DoesNotApply as error:
            return error

    def _evaluate(self, event: Mapping[str, Any]) -> Any:
        return evaluated(self.program, lambda: {"event": json_to_cel(dict(event))})

    def holds(self, event: Mapping[str, Any]) -> bool | str:
        """Return whether it holds for the event, or why that cannot be told."""
        try:
            verdict = self.evaluate(event)
        except DoesNotApply as error:
            return f"{error}: {self.text}"
        return verdict if isinstance(verdict, bool) else f"it gives neither true nor false: {self.text}"


@lru_cache(4096)
def compiled(text: str) -> Expression:
    """Compile a condition, once. Raises `BadInput` for what is no CEL, or reads anything but `event`."""
    tree, program = parsed(text, roots=("event",))
    for part in _parts(tree):
        if part not in PARTS:
            raise BadInput(f"An event has no {part!r}, only {', '.join(PARTS)}: {text}", field="if")
    fields, parts = _read(tree)
    return Expression(text=text, program=program, fields=fields, parts=parts, whole=_whole(text))


def parsed(text: str, *, roots: Sequence[str]) -> tuple[Any, Any]:
    """Parse an expression over these names. Return its tree and program, or raise `BadInput` for what is no CEL."""
    if not text.strip() or len(text) > LONGEST_CONDITION:
        raise BadInput(f"A condition has 1 to {LONGEST_CONDITION} characters.", field="if")
    with _compiling:  # the parser is one for the process
        try:
            tree = _environment().compile(text)
        except CELParseError as error:
            raise BadInput(f"This is no CEL, from character {error.column} on: {text}", field="if") from None
        except RecursionError:
            raise BadInput(f"This condition is nested too deeply: {text}", field="if") from None
        _require_known_names(tree, text, roots)
        return tree, _environment().program(tree, functions=_COMPARISONS)


def evaluated(program: Any, scope: Callable[[], Mapping[str, Any]]) -> Any:
    """Return the program's value over the scope, a plain one. Raises `DoesNotApply`."""
    try:
        return _plain(program.evaluate(dict(scope())))
    except CELEvalError as error:
        raise DoesNotApply(_reason(error)) from None
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError):
        # What the library lets through of Python's own errors. Their words may repeat a value.
        raise DoesNotApply(_CANNOT) from None


def matches(condition: str, data: Mapping[str, Any]) -> bool | str:
    """Return whether the condition of a wait holds for an event's data, or why that cannot be told."""
    try:
        expression = compiled(condition)
    except BadInput as error:
        return error.message
    return expression.holds({"data": data})


_compiling = Lock()


@cache
def _environment() -> celpy.Environment:
    """Make the CEL environment, once for each process, when the first condition comes."""
    # Reading the grammar takes a quarter of a second.
    return celpy.Environment(runner_class=celpy.InterpretedRunner)


def _plain(value: Any) -> Any:
    # What it gives goes into parameters, keys and rows: plain values, and not the library's classes.
    return json.loads(json.dumps(value, cls=CELJSONEncoder))


def _reason(error: CELEvalError) -> str:
    """Say why an evaluation failed, without the library's own words, which repeat the values."""
    said, cause = (*error.args, None, None)[:2]
    if cause is KeyError and isinstance(said, str) and "no such member" in said:
        return f"its data has no {said.rpartition(': ')[2]}"
    if cause is TypeError:
        return "it compares values of different kinds"
    return _CANNOT


def _levelled(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Wrap a comparison so that 4 and 4.0 are one number, as the language says by now."""
    # JSON does not tell them apart. The library does.

    @wraps(compare)
    def levelled(one: Any, other: Any) -> Any:
        if isinstance(one, DoubleType) and isinstance(other, IntType):
            return compare(one, DoubleType(other))
        if isinstance(other, DoubleType) and isinstance(one, IntType):
            return compare(DoubleType(one), other)
        return compare(one, other)

    return levelled


def _with_null(compare: Callable[[Any, Any], Any], *, equal: bool) -> Callable[[Any, Any], Any]:
    """Wrap a comparison so that nothing but null equals null. To the library the two cannot be compared."""

    @wraps(compare)
    def with_null(one: Any, other: Any) -> Any:
        for each in (one, other):
            if isinstance(each, CELEvalError):  # what is not there is not null
                return each
        if one is None or other is None:
            return BoolType((one is other) is equal)
        return compare(one, other)

    return with_null


_COMPARISONS = {name: _levelled(base_functions[name]) for name in ("_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_")}
_COMPARISONS |= {name: _with_null(_COMPARISONS[name], equal=name == "_==_") for name in ("_==_", "_!=_")}


def _require_known_names(tree: Any, text: str, roots: Sequence[str]) -> None:
    """Raise `BadInput` for a name or a function that a condition does not know."""
    # One that is misspelt would else look like data that does not match, for ever.
    bound = set(roots)
    for call in tree.find_data("member_dot_arg"):
        if str(call.children[1]) in _MACROS and len(call.children) > 2:
            bound |= {str(name) for name in _names(call.children[2].children[0])}
    for name in _names(tree):
        if name not in bound and name not in base_functions:
            known = " and ".join(f"`{root}`" for root in roots)
            raise BadInput(f"{name!r} is nothing a condition can read; it reads {known}: {text}", field="if")
    for kind, place in (("ident_arg", 0), ("dot_ident_arg", 0), ("member_dot_arg", 1)):
        for call in tree.find_data(kind):
            if (name := str(call.children[place])) not in _FUNCTIONS:
                raise BadInput(f"There is no function {name!r} in a condition: {text}", field="if")


def _names(tree: Any) -> Iterator[str]:
    for kind in ("ident", "dot_ident"):
        for found in tree.find_data(kind):
            yield str(found.children[0])


def _read(tree: Any) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Return X of every `event.data.X` and Y of every other `event.Y`.

    Return None and all parts if `event` is read in another way.
    """
    fields = [name for found in tree.find_data("member_dot") if (name := _field_of_data(found)) is not None]
    parts = [part for part in _parts(tree) if part != "data"]
    if sum(name == "event" for name in _names(tree)) != len(fields) + len(parts):
        return None, PARTS
    return tuple(sorted(set(fields))), tuple(sorted(set(parts)))


def _parts(tree: Any) -> Iterator[str]:
    """Yield Y of every `event.Y`."""
    for found in tree.find_data("member_dot"):
        match found.children:
            case [inside, Token() as name] if _is_event(inside):
                yield str(name)


_WHOLE = re.compile(r"\s*event\.(name|v|user|data\.[A-Za-z_][A-Za-z_0-9]*)\s*")


def _whole(text: str) -> tuple[str, ...] | None:
    found = _WHOLE.fullmatch(text)
    return None if found is None else tuple(found[1].split("."))


def _found(event: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    for name in path:
        if name not in (event or {}):
            raise DoesNotApply(f"its data has no {name!r}")
        event = event[name]
    return event


def _field_of_data(tree: Any) -> str | None:
    """Return X of `event.data.X`; None of anything else."""
    match tree.children:
        case [Tree(children=[Tree(data="member_dot", children=[inside, Token() as data])]), Token() as name]:
            return str(name) if data == "data" and _is_event(inside) else None
    return None


def _is_event(tree: Any) -> bool:
    match tree:
        case Tree(data="member", children=[Tree(data="primary", children=[Tree(data="ident", children=[name])])]):
            return bool(name == "event")
    return False
