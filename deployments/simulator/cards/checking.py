"""An input held against its card's schema, with pydantic's words for what is wrong, which are fal's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from .card import Card

Details = list[dict[str, Any]]
Place = tuple[str | int, ...]

_TYPES = {
    "string": ("string_type", "Input should be a valid string"),
    "integer": ("int_type", "Input should be a valid integer"),
    "number": ("float_type", "Input should be a valid number"),
    "boolean": ("bool_type", "Input should be a valid boolean"),
    "array": ("list_type", "Input should be a valid list"),
    "object": ("dict_type", "Input should be a valid dictionary"),
    "null": ("none_required", "Input should be None"),
}
# By the schema's word: pydantic's type, its sentence, and the name of the limit in `ctx`.
_LIMITS = {
    "minimum": ("greater_than_equal", "Input should be greater than or equal to {}", "ge"),
    "maximum": ("less_than_equal", "Input should be less than or equal to {}", "le"),
    "exclusiveMinimum": ("greater_than", "Input should be greater than {}", "gt"),
    "exclusiveMaximum": ("less_than", "Input should be less than {}", "lt"),
    "multipleOf": ("multiple_of", "Input should be a multiple of {}", "multiple_of"),
    "minLength": ("string_too_short", "String should have at least {} character(s)", "min_length"),
    "maxLength": ("string_too_long", "String should have at most {} character(s)", "max_length"),
    "minItems": ("too_short", "List should have at least {} item(s) after validation", "min_length"),
    "maxItems": ("too_long", "List should have at most {} item(s) after validation", "max_length"),
    "pattern": ("string_pattern_mismatch", "String should match pattern '{}'", "pattern"),
}


def check(card: Card, given: Mapping[str, Any]) -> Details:
    """Return what is wrong, each with its place; nothing where all is well. Null counts as not given."""
    if broken := list(_broken_texts(given, ())):
        return broken
    given = {name: value for name, value in given.items() if value is not None}
    return [detail for error in _validator(card).iter_errors(given) for detail in _details(error)]


def with_defaults(card: Card, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the input as the model sees it: null is what was not given."""
    properties = card.schema_of_input.get("properties", {})
    defaults = {name: deepcopy(each["default"]) for name, each in properties.items() if "default" in each}
    return defaults | {name: value for name, value in given.items() if value is not None}


# A card does not change: another schema is another card.
@lru_cache(maxsize=256)
def _validator(card: Card) -> Draft202012Validator:
    # fal coerces a little more than this does (the number in `"2"`); whoever sends the right type notices nothing.
    components = _as_json_schema(card.openapi.get("components", {}))
    return Draft202012Validator({**_as_json_schema(card.schema_of_input), "components": components})


def _as_json_schema(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_as_json_schema(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    turned = {name: _as_json_schema(value) for name, value in schema.items() if name != "nullable"}
    # OpenAPI 3.0 says `nullable`, where JSON Schema has a type for null.
    return {"anyOf": [turned, {"type": "null"}]} if schema.get("nullable") is True else turned


def _details(error: ValidationError) -> Iterator[dict[str, Any]]:
    place, word, value = tuple(error.absolute_path), str(error.validator), error.validator_value
    # Of an either-or pydantic tells what each side does not like.
    if error.context:
        for each in error.context:
            yield from _details(each)
    elif word == "required":
        missing = next(name for name in value if f"'{name}' is a required" in error.message)
        yield _detail("missing", "Field required", (*place, missing), error.instance)
    elif word == "type":
        kind, message = _TYPES[value if isinstance(value, str) else value[0]]
        yield _detail(kind, message, place, error.instance)
    elif word in ("enum", "const"):
        expected = _either([value] if word == "const" else value)
        yield _detail("literal_error", f"Input should be {expected}", place, error.instance, expected=expected)
    elif word in _LIMITS:
        kind, message, name = _LIMITS[word]
        yield _detail(kind, message.format(value), place, error.instance, **{name: value})
    elif word == "additionalProperties":
        yield _detail("extra_forbidden", "Extra inputs are not permitted", place, error.instance)
    else:
        yield _detail("value_error", f"Value error, {error.message}", place, error.instance)


def _detail(kind: str, message: str, place: Place, given: Any, **context: Any) -> dict[str, Any]:
    about = {"ctx": context} if context else {}
    return {"type": kind, "loc": ["body", *place], "msg": message, "input": given, **about}


def _broken_texts(value: Any, place: Place) -> Iterator[dict[str, Any]]:
    """Yield the texts with half a character in them, which pydantic refuses before it looks at anything else."""
    if isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            message = "Input should be a valid string, unable to parse raw data as a unicode string"
            yield _detail("string_unicode", message, place, value)
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _broken_texts(each, (*place, name))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _broken_texts(each, (*place, number))


def _either(values: list[Any]) -> str:
    *first, last = [repr(value) for value in values]
    return f"{', '.join(first)} or {last}" if first else last
