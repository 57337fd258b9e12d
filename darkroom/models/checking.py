"""An input held against its model's schema before anything is paid: all that is wrong at once, each by its path.

A provider may take any body and ignore fields that it does not know, so a wrong one would be found out a minute later,
or never. What was given is never repeated in a message: it may be a prompt.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from darkroom.errors import BadInput
from darkroom.models.schemas import (
    ASSET,
    Path,
    Schema,
    file_places,
    is_address,
    properties,
    sides,
)

MOST_PROBLEMS = 20
LARGEST = 2**53 - 1  # the largest integer that every JSON reader keeps exact
MOST_NAMES = 12
FILE = re.compile(r"asset:ast_[0-9a-z-]{1,40}|https://[!-~]{1,2000}")
# fal's `sync_mode` and its like: bytes within the answer, and nothing at an address or in the history.
INLINE = re.compile(r"(?:^|_)(?:sync_mode|base64|b64|inline|data_uri|bytes)(?:_|$)")
WHY_NOT_INLINE = "files come by address and are kept in the media store, never inline: leave it out"
TYPES = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


@dataclass(frozen=True, kw_only=True)
class InputProblem:
    """What is wrong with one field, and what to do: `field` is its path with dots."""

    field: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}; {self.remedy}"


class WrongInput(BadInput):
    """An input that its model's schema does not take. `problems` has every field."""

    def __init__(self, message: str = "", *, problems: Sequence[InputProblem] = (), field: str = "") -> None:
        super().__init__(message, field=field or (problems[0].field if problems else ""))
        self.problems = tuple(problems)

    @classmethod
    def of_problems(cls, endpoint: str, problems: Sequence[InputProblem]) -> WrongInput:
        first = problems[0]
        rest = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
        return cls(f"{first.field}: {endpoint} {first.problem}{rest}; {first.remedy}", problems=problems)

    def within(self, name: str, *, names: Collection[str] | None = None) -> WrongInput:
        """Return the same about a field of an order: each path with its name in front.

        `names`: only those that begin with one of these.
        """

        def put(path: str) -> str:
            return f"{name}.{path}" if names is None or path.partition(".")[0] in names else path

        problems = [
            InputProblem(field=put(each.field), problem=each.problem, remedy=each.remedy) for each in self.problems
        ]
        message = put(self.field) + self.message.removeprefix(self.field)
        return WrongInput(message, problems=problems, field=put(self.field))


def check_input(endpoint: str, schema: Schema, input: Mapping[str, Any]) -> None:
    """Raise WrongInput with everything that the schema does not take."""
    # The first one of each field, in their order.
    found = {each.field: each for each in reversed(list(_problems(schema, input)))}
    problems = list(reversed(found.values()))
    # Of a field and one inside of it, the inner one says it.
    told = [one for one in problems if not any(other.field.startswith(f"{one.field}.") for other in problems)]
    if told:
        raise WrongInput.of_problems(endpoint, told[:MOST_PROBLEMS])


def _problems(schema: Schema, input: Mapping[str, Any]) -> Iterator[InputProblem]:
    yield from _unsendable(input, ())
    yield from _inline(input)
    yield from _unknown(sides(schema, schema), input, schema, ())
    yield from _files(schema, input)
    with suppress(RecursionError):  # a schema that is its own alternative: no value is held against it to an end
        # A dict, as no other mapping is an object to the validator.
        for error in Draft202012Validator(schema).iter_errors(dict(input)):
            yield from _told(error)


def _unsendable(value: Any, path: Path) -> Iterator[InputProblem]:
    """Yield what cannot be sent or stored at all."""
    # UTF-8 has no surrogates, and Postgres keeps no NUL.
    if isinstance(value, str) and ("\x00" in value or any("\ud800" <= each <= "\udfff" for each in value)):
        yield _problem(path, "takes no NUL characters or unpaired surrogates", "remove them")
    elif isinstance(value, float) and not isfinite(value):
        yield _problem(path, "takes no infinite numbers", "give a number")
    elif isinstance(value, int) and abs(value) > LARGEST:
        yield _problem(path, "takes no number as large as that", f"use at most {LARGEST}")
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _unsendable(each, (*path, name))
    elif isinstance(value, list | tuple):
        for n, each in enumerate(value):
            yield from _unsendable(each, (*path, n))


def _inline(input: Mapping[str, Any]) -> Iterator[InputProblem]:
    for name, value in input.items():
        if value is True and INLINE.search(name):
            yield _problem((name,), "would bring its files inside the answer", WHY_NOT_INLINE)
        if name == "prompt" and isinstance(value, str) and value and not value.strip():
            yield _problem((name,), "is blank", "describe what is to be made")


def _unknown(schemas: Sequence[Schema], value: Any, root: Schema, path: Path) -> Iterator[InputProblem]:
    """Yield fields that the schema does not know: a provider would ignore them without a word."""
    if isinstance(value, list | tuple):
        items = [side for schema in schemas for side in sides(schema.get("items"), root)]
        for n, each in enumerate(value):
            yield from _unknown(items, each, root, (*path, n))
    if not isinstance(value, Mapping):
        return
    known = properties(schemas)
    # A schema that does not say that it takes other fields is taken at its word: a provider ignores them, and a
    # misspelt one would be paid as the default.
    is_open = not known or any(schema.get("additionalProperties") for schema in schemas)
    for name, each in value.items():
        if name in known:
            yield from _unknown(sides(known[name], root), each, root, (*path, name))
        elif not is_open:
            yield _problem((*path, name), "does not accept it", _nearest(name, list(known)))


def _nearest(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    more = ", …" if len(known) > MOST_NAMES else ""
    return f"leave it out; it accepts {', '.join(known[:MOST_NAMES])}{more}"


def _files(schema: Schema, input: Mapping[str, Any]) -> Iterator[InputProblem]:
    for path, value in file_places(schema, input):
        if value.startswith("data:"):
            yield _problem(
                path, "takes no bytes inline", "bring the file with POST /v1/uploads and give asset:<its id>"
            )
        # `path` may also name weights elsewhere.
        elif not FILE.fullmatch(value) and (value.startswith(ASSET) or _only_address(path)):
            yield _problem(path, "takes a file", "give asset:<an asset's id>, or an https:// address")


def _only_address(path: Path) -> bool:
    names = [part for part in path if isinstance(part, str)]
    return is_address(names[-1], ())


def _told(error: ValidationError) -> Iterator[InputProblem]:
    """Yield the error in words that name what is allowed, without what was given."""
    path, wanted = tuple(error.absolute_path), error.validator_value
    match error.validator:
        case "required":
            # An error for each missing field, and each names all that are required: `check_input` tells a field once.
            for name in wanted:
                if isinstance(error.instance, Mapping) and name not in error.instance:
                    yield _problem((*path, name), "needs it", "add it")
        case "anyOf":
            yield from _told_of_sides(error)
        case "additionalProperties":
            return  # each is told by its name (`_unknown`)
        case _:
            yield _problem(path, "does not take that value", allowed(error.validator, wanted, error.schema))


def _told_of_sides(error: ValidationError) -> Iterator[InputProblem]:
    """Yield what is wrong with the side that the value was meant as; with none of them, what all of them take."""
    by_side: dict[Any, list[ValidationError]] = {}
    for each in error.context or ():
        by_side.setdefault(each.schema_path[0], []).append(each)
    meant = [found for found in by_side.values() if not any(_is_other_kind(each, error) for each in found)]
    if meant and isinstance(error.instance, Mapping | list):
        # The side with the fewest faults is the likeliest to have been meant.
        for each in min(meant, key=len):
            yield from _told(each)
        return
    of_value = meant or list(by_side.values())
    words = dict.fromkeys(
        allowed(each.validator, each.validator_value, each.schema).removeprefix("use ")
        for found in of_value
        for each in found
    )
    if not meant:
        words |= dict.fromkeys(_kinds(error.validator_value))
    yield _problem(tuple(error.absolute_path), "does not take that value", f"use {' or '.join(words)}")


def _is_other_kind(each: ValidationError, error: ValidationError) -> bool:
    return each.validator == "type" and len(each.absolute_path) == len(error.absolute_path)


def _kinds(choices: Sequence[Any]) -> Iterator[str]:
    for each in choices:
        if isinstance(each, Mapping) and "enum" in each:
            yield _listed(each["enum"])


def allowed(keyword: str, wanted: Any, schema: Any) -> str:
    """Say what a keyword of a schema allows."""
    match keyword:
        case "type":
            words = " or ".join(TYPES.get(each, each) for each in ([wanted] if isinstance(wanted, str) else wanted))
            return f"use {words}{_with_fields(schema)}{_one_of(schema)}"
        case "enum":
            return f"use {_listed(wanted)}"
        case "const":
            return f"use {_listed([wanted])}"
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            return f"use a number {_range(schema)}"
        case "minLength" | "maxLength" | "minItems" | "maxItems":
            of = "characters" if keyword.endswith("Length") else "entries"
            return f"use {'at least' if keyword.startswith('min') else 'at most'} {wanted} {of}"
        case "multipleOf":
            return f"use a multiple of {wanted}"
        case "pattern":
            return f"write it as {wanted}"
        case _:
            return "see what the model's page says of it"


def _with_fields(schema: Any) -> str:
    fields = list(schema.get("properties", {})) if isinstance(schema, Mapping) else []
    return f" with {', '.join(fields[:MOST_NAMES])}" if fields else ""


def _one_of(schema: Any) -> str:
    named = schema.get("enum") if isinstance(schema, Mapping) else None
    return f": {_listed(named)}" if named else ""


def _range(schema: Schema) -> str:
    words = {"minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "to {}", "exclusiveMaximum": "below {}"}
    return " ".join(text.format(schema[name]) for name, text in words.items() if name in schema)


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(str(each) for each in values[:40])


def _problem(path: Path, problem: str, remedy: str) -> InputProblem:
    return InputProblem(field=".".join(str(part) for part in path)[:200] or "input", problem=problem, remedy=remedy)
