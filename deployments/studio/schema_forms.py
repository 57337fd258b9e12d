"""Forms from JSON Schema: the fields a person fills in, and the values of what was filled in.

A field has a kind, by which it is shown (`form_controls.py`) and read. Whatever is left empty is not in the order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, nan
from typing import Any, Literal

from darkroom.deployments.studio.hidden import is_hidden
from darkroom.models.schemas import properties, sides, takes_file
from darkroom.nesting import read_json

Kind = Literal["text", "long", "number", "choice", "yes_no", "file", "files", "lines", "checks", "group", "json"]
Raw = dict[str, list[str]]  # by name, as forms send it

# By name: to its schema a prompt is a string as any other.
LONG_NAMES = frozenset(
    {"prompt", "text", "negative_prompt", "script", "lyrics", "instruction", "topic", "system_prompt"}
)
LONGEST_LINE = 300  # characters; what may be longer is written on several lines
INTEGER, NUMBER = "integer", "number"
REFUSED = frozenset({"sync_mode"})  # files are kept in the media store, so no answer has them inside


class Unreadable(Exception):
    """What was typed is no value of its field. The message is for who typed it."""


@dataclass(frozen=True, kw_only=True)
class FormField:
    """`name`: the path of the value in the order, as the API's errors have it. `bare`: takes an id without `asset:`."""

    name: str
    kind: Kind
    label: str
    hint: str = ""
    required: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)  # what is shown, and the value
    minimum: float | None = None
    maximum: float | None = None
    whole: bool = False
    default: Any = None
    example: str = ""
    bare: bool = False
    longest: int | None = None
    inside: Sequence[FormField] = ()

    @property
    def takes_files(self) -> bool:
        return self.kind in ("file", "files")

    @property
    def slug(self) -> str:
        # For ids of the page: in a CSS selector, as htmx has them, the dots of a path would be classes.
        return "".join(each if each.isalnum() else "-" for each in self.name)


def fields_of(schema: Mapping[str, Any], *, within: str = "", without: Sequence[str] = ()) -> list[FormField]:
    """Return the fields of an object's schema, those first that are required. `within`: its own path in the order."""
    plain = sides(schema, schema)
    required = {name for each in plain for name in each.get("required", ())}
    known = properties(plain)
    # fal names the order of its fields: the properties of a JSON object have none.
    order = [name for name in schema.get("x-fal-order-properties", ()) if name in known]
    names = [*order, *(name for name in known if name not in order)]
    found = [
        _field(name, known[name], schema, within=within, required=name in required)
        for name in names
        if name not in without and name not in REFUSED
    ]
    # A stable sort: among the required ones, and among the others, that order stays.
    return sorted(found, key=lambda each: not each.required)


def _field(name: str, given: Any, root: Mapping[str, Any], *, within: str, required: bool) -> FormField:
    # What may be left out is written as `anyOf` with null, as pydantic does.
    plain = [each for each in sides(given, root) if each.get("type") != "null"]
    path = f"{within}.{name}" if within else name
    bounds = {key: each[key] for each in plain for key in ("minimum", "maximum", "maxLength") if key in each}
    examples: Sequence[Any] = next((each["examples"] for each in plain if isinstance(each.get("examples"), list)), [])
    title = str(_first(plain, "title") or "")
    made = FormField(
        name=path,
        kind="text",
        label=_label(name, title),
        hint=str(_first(plain, "description") or ""),
        required=required,
        minimum=bounds.get("minimum"),
        maximum=bounds.get("maximum"),
        longest=bounds.get("maxLength"),
        default=_first(plain, "default"),
        example=next((each for each in examples if isinstance(each, str)), ""),
    )
    return _of_kind(made, name, plain, root)


def _label(name: str, title: str) -> str:
    """Return the field's title, or its name where the title is but that in capitals."""
    words = name.replace("_", " ")
    return title if title and title.lower() not in (words.lower(), name) else words.capitalize().replace(" url", " URL")


def _of_kind(made: FormField, name: str, plain: Sequence[Mapping[str, Any]], root: Mapping[str, Any]) -> FormField:
    types = {each["type"] for each in plain if isinstance(each.get("type"), str)}
    options = _options(plain)
    if "array" in types:
        return _list_field(made, name, plain, root)
    if _is_file(made, name, plain):
        return replace(made, kind="file", bare=not made.name.startswith("input."))
    # Before the types, as a choice may be between numbers. fal's `image_size` is a name, or an object of two sides.
    if options:
        return replace(made, kind="choice", options=options, inside=_inside(made, plain, root))
    if "boolean" in types:
        return replace(made, kind="yes_no")
    if types & {INTEGER, NUMBER}:
        return replace(made, kind="number", whole=NUMBER not in types)
    if "object" in types:
        inside = _inside(made, plain, root)
        return replace(made, kind="group" if inside else "json", inside=inside)
    # What no kind fits is JSON, so that every schema has a form.
    if not types and plain and not any("properties" in each for each in plain):
        return replace(made, kind="json")
    is_long = name in LONG_NAMES or ((made.longest or 0) > LONGEST_LINE and not name.endswith("url"))
    return replace(made, kind="long" if is_long else "text")


def _list_field(made: FormField, name: str, plain: Sequence[Mapping[str, Any]], root: Mapping[str, Any]) -> FormField:
    items = [side for each in plain for side in sides(each.get("items"), root) if side.get("type") != "null"]
    if _is_file(made, name, items):
        return replace(made, kind="files", bare=not made.name.startswith("input."))
    if options := _options(items):
        return replace(made, kind="checks", options=options)
    is_text = bool(items) and all(each.get("type") == "string" or "type" not in each for each in items)
    return replace(made, kind="lines" if is_text else "json")


def _is_file(made: FormField, name: str, plain: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether it takes a file."""
    if not any(each.get("type") == "string" for each in plain):
        return False
    if made.name.startswith("input."):
        return takes_file(name, plain)
    # A pipeline takes ids of files, which to its schema are strings: its words or its pattern tell.
    return "ast_" in made.hint or any("ast_" in str(each.get("pattern", "")) for each in plain)


def _options(plain: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in plain:
        for value in each.get("enum", ()):
            # A null among them is the empty choice. A form sends text, by which the value is found in its own type.
            if value is not None:
                found.setdefault(str(value), value)
    return found


def _inside(made: FormField, plain: Sequence[Mapping[str, Any]], root: Mapping[str, Any]) -> list[FormField]:
    """Return the fields of an object within; none where one of them is not simple."""
    within = next((each for each in plain if each.get("properties")), None)
    if within is None:
        return []
    # What is within may refer to definitions of the whole.
    own = {"properties": within["properties"], "required": within.get("required", []), "$defs": root.get("$defs", {})}
    found = fields_of(own, within=made.name)
    simple = all(each.kind in ("text", "number", "choice", "yes_no") and not each.inside for each in found)
    # Whether the whole is given is told by whether anything of it is.
    return [replace(each, required=False) for each in found] if simple else []


def _first(plain: Sequence[Mapping[str, Any]], name: str) -> Any:
    return next((each[name] for each in plain if each.get(name) is not None), None)


def read_fields(fields: Sequence[FormField], raw: Mapping[str, Sequence[str]]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the order that was filled in, and what is wrong with it by field."""
    order: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for each in fields:
        try:
            for name, value in _values(each, raw):
                _put(order, name.split("."), value)
        except Unreadable as error:
            wrong[each.name] = str(error)
    return order, wrong


def missing(fields: Sequence[FormField], order: Mapping[str, Any]) -> list[FormField]:
    """Return the required fields that nothing was given for."""
    return [each for each in fields if each.required and _at(order, each.name) in (None, "", [])]


def raw_of(fields: Sequence[FormField], order: Mapping[str, Any]) -> Raw:
    """Return an order as its form would have sent it. What is hidden in it is left for the user to fill in."""
    found: Raw = {}
    for each in fields:
        value = _at(order, each.name)
        if value is None:
            continue
        if each.inside and isinstance(value, Mapping):
            found |= raw_of(each.inside, order)
        elif isinstance(value, list) and each.kind in ("files", "lines", "checks"):
            found[each.name] = [_text(_chosen(each, item)) for item in value if not is_hidden(item)]
        elif is_hidden(value):
            continue
        elif each.kind == "json":
            found[each.name] = [json.dumps(value, ensure_ascii=False, indent=2)]
        else:
            found[each.name] = [_text(value)]
    return found


def hidden_in(fields: Sequence[FormField], order: Mapping[str, Any]) -> list[FormField]:
    """Return the fields of which the order hides something."""
    return [each for each in fields if is_hidden(_at(order, each.name))]


def _values(each: FormField, raw: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Any]]:
    # A size of one's own goes before the one that is chosen above it.
    own = [value for part in each.inside for value in _values(part, raw)]
    if own:
        yield from own
        return
    value = _value(each, [text for text in raw.get(each.name, ()) if text.strip()])
    # What is as it would be anyway is not in the order.
    if value is not None and (each.required or value != each.default):
        yield each.name, value


def _value(each: FormField, given: Sequence[str]) -> Any:
    match each.kind:
        case "yes_no":
            # The box comes after the hidden value, and only where it is ticked.
            return given[-1] == "true" if given else None
        case "lines" | "files":
            return [line.strip() for text in given for line in text.splitlines() if line.strip()] or None
        case "checks":
            return [_checked(each, text) for text in given] or None
    if not given:
        return None
    text = given[0]
    match each.kind:
        case "number":
            return _number(text, whole=each.whole)
        case "choice":
            return each.options.get(text, text)
        case "json":
            return _json(text)
        case "text" | "file":
            return text.strip()
        case _:
            return text.replace("\r\n", "\n")  # as browsers end lines in forms


def _checked(each: FormField, text: str) -> Any:
    # An option that was ordered with options of its own stands in its box as JSON (`raw_of`).
    return _json(text) if text.startswith("{") else each.options.get(text, text)


def _number(text: str, *, whole: bool) -> float:
    # Not as a float first: a large seed has more digits than one keeps.
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        value = nan  # refused as `inf` and `1e999` are, which `float` reads
    if not isfinite(value):
        raise Unreadable("This is no number. Write digits, with a point before decimals.")
    return int(value) if whole and value.is_integer() else value  # `3.0` is whole


def _json(text: str) -> Any:
    try:
        return read_json(text)
    except ValueError as error:
        raise Unreadable(f"This is no JSON: {error}. Mend it there, or leave it empty.") from None


def _chosen(each: FormField, item: Any) -> Any:
    """Return the option that an object without options of its own is, else the object."""
    only = next(iter(item.values())) if isinstance(item, Mapping) and len(item) == 1 else None
    return only if isinstance(only, str) and only in each.options else item


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _put(order: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for part in path[:-1]:
        order = order.setdefault(part, {})
    order[path[-1]] = value


def _at(order: Mapping[str, Any], name: str) -> Any:
    found: Any = order
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
