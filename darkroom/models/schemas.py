"""Schemas of inputs and outputs: from OpenAPI 3.0, as platforms publish them, to JSON Schema that stands on its own.

`$ref` is followed within the document alone. What a validator must not meet (a broken pattern, a keyword of the wrong
type) is left out: a schema checks less then, and never fails a right input.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

# How an input names a file of the media store: "asset:ast_019aa1f0d8b4".
ASSET = "asset:"
TYPES = frozenset({"string", "integer", "number", "boolean", "array", "object", "null"})


def _is_type(value: Any) -> bool:
    each = value if isinstance(value, list) else [value]
    return bool(each) and all(isinstance(one, str) and one in TYPES for one in each) and len(set(each)) == len(each)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value) and len(set(value)) == len(value)


def _is_pattern(value: Any) -> bool:
    try:
        re.compile(value)
    except (re.error, TypeError):
        # OpenAPI has JavaScript's patterns, and Python cannot read all of them.
        return False
    return isinstance(value, str)


def _is_schema(value: Any) -> bool:
    return isinstance(value, Mapping | bool)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_anything(_: Any) -> bool:
    return True


# The keywords that are kept, and what each must be for a validator to understand it. So no schema is held against JSON
# Schema's own, which takes 25 ms for each: a platform has more than a thousand models.
KEPT: Mapping[str, Callable[[Any], bool]] = {
    "type": _is_type,
    "properties": lambda value: isinstance(value, Mapping),
    "required": _are_names,
    "items": _is_schema,
    "enum": _is_list,
    "const": _is_anything,
    "anyOf": lambda value: _is_list(value) and bool(value),
    "allOf": lambda value: _is_list(value) and bool(value),
    "minimum": _is_number,
    "maximum": _is_number,
    "exclusiveMinimum": _is_number,
    "exclusiveMaximum": _is_number,
    "multipleOf": lambda value: _is_number(value) and value > 0,
    "minLength": _is_length,
    "maxLength": _is_length,
    "pattern": _is_pattern,
    "format": _is_text,
    "minItems": _is_length,
    "maxItems": _is_length,
    "uniqueItems": lambda value: isinstance(value, bool),
    "additionalProperties": _is_schema,
    "default": _is_anything,
    "description": _is_text,
    "title": _is_text,
    "examples": _is_list,
    "x-fal-order-properties": _is_anything,  # the order of the fields in a form
    "ui": _is_anything,
    "_fal_ui_field": _is_anything,
}
LOCAL = "#/components/schemas/"
FILE_NAME = re.compile(r"(?:^|_)(?:url|urls|uri)$")
FILE_FORMATS = frozenset({"uri", "url", "binary", "data-url"})
# What fal's forms call a field for a file.
FILE_HINTS = frozenset({"image", "images", "video", "audio", "file", "files", "image_list", "mask"})
# What the field is called in which a model takes the picture that it works on.
PICTURE_FIELDS = ("image_url", "image_urls", "input_image_url", "input_image_urls", "image", "input_image", "images")
OTHER_MEDIA = re.compile("video|audio|mask|data")
DEEPEST = 32

Schema = Mapping[str, Any]
Path = tuple[str | int, ...]


def self_contained(schema: Any, components: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the schema as JSON Schema 2020-12 with all that it refers to; None for what is no schema of an object.

    `components`: the schemas of its document, by name.
    """
    if not isinstance(schema, Mapping):
        return None
    used: dict[str, Any] = {}
    found: dict[str, Any] = _translated(schema, components, used)
    if not found:
        # A schema of which nothing is understood would let everything through.
        return None
    return {**found, "$defs": used} if used else found


def _translated(node: Any, components: Mapping[str, Any], used: dict[str, Any], depth: int = 0) -> Any:
    if isinstance(node, list):
        return [_translated(each, components, used, depth + 1) for each in node]
    if not isinstance(node, Mapping) or depth > DEEPEST:
        return {}
    if isinstance(reference := node.get("$ref"), str):
        return _referred(reference, components, used)
    found = {name: value for name, value in _mended(node).items() if name in KEPT and KEPT[name](value)}
    for name in ("items", "additionalProperties"):
        if isinstance(found.get(name), Mapping):
            found[name] = _translated(found[name], components, used, depth + 1)
    for name in ("anyOf", "allOf"):
        if name in found:
            found[name] = _translated(found[name], components, used, depth + 1)
    if "properties" in found:
        each = found["properties"].items()
        found["properties"] = {name: _translated(value, components, used, depth + 1) for name, value in each}
    return _or_null(found) if node.get("nullable") is True else found


def _referred(reference: str, components: Mapping[str, Any], used: dict[str, Any]) -> dict[str, Any]:
    name = reference.removeprefix(LOCAL)
    if not reference.startswith(LOCAL) or name not in components:
        # Nothing is fetched for it: what it would say is not checked.
        return {}
    if name not in used:
        used[name] = {}  # first, as it may refer to itself
        used[name] = _translated(components[name], components, used)
    # `~` and `/` have a meaning of their own in a JSON pointer.
    return {"$ref": f"#/$defs/{name.replace('~', '~0').replace('/', '~1')}"}


def _mended(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return what OpenAPI 3.0 says otherwise in the words of JSON Schema."""
    found = dict(node)
    if _is_list(found.get("oneOf")):  # each side says what it takes; which of them it is does not matter here
        found["anyOf"] = [*(found["anyOf"] if _is_list(found.get("anyOf")) else []), *found["oneOf"]]
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(found.get(exclusive), bool):  # as OpenAPI 3.0 has it; fal has numbers all the same
            is_exclusive = found.pop(exclusive)
            if is_exclusive and bound in found:
                found[exclusive] = found.pop(bound)
    return found


def _or_null(found: dict[str, Any]) -> dict[str, Any]:
    # What is said about a field stays in front of the alternatives, where forms read it.
    names = ("title", "description", "default", "examples")
    about: dict[str, Any] = {name: found.pop(name) for name in names if name in found}
    return {**about, "anyOf": [found, {"type": "null"}]}


def sides(schema: Any, root: Schema, within: frozenset[str] = frozenset()) -> list[Schema]:
    """Return the schema without its references and alternatives: every plain schema that a value may be held against.

    `within`: the references that have led here.
    """
    if not isinstance(schema, Mapping):
        return []
    if isinstance(reference := schema.get("$ref"), str):
        if reference in within:  # an alternative of itself is none
            return []
        within |= {reference}
        name = reference.removeprefix("#/$defs/").replace("~1", "/").replace("~0", "~")
        return sides(root.get("$defs", {}).get(name), root, within)
    # A title, hint or format that stands beside alternatives is one of them, so that it is not lost.
    found: list[Schema] = [schema]
    for name in ("anyOf", "allOf"):
        for each in schema.get(name, ()):
            found += sides(each, root, within)
    return found


def properties(schemas: Sequence[Schema]) -> dict[str, Any]:
    """Return the fields that these schemas know of an object."""
    return {name: each for schema in schemas for name, each in schema.get("properties", {}).items()}


def with_numbers(schema: Schema, input: Mapping[str, Any]) -> dict[str, Any]:
    """Return the input with each whole number a decimal one where its schema has those alone."""
    # 5 and 5.0 are the same: an order that says the one is known again by one that says the other.
    return dict(_with_numbers(input, sides(schema, schema), schema))


def _with_numbers(value: Any, schemas: Sequence[Schema], root: Schema) -> Any:
    if isinstance(value, Mapping):
        known = properties(schemas)
        return {name: _with_numbers(each, sides(known.get(name), root), root) for name, each in value.items()}
    if isinstance(value, list | tuple):
        items = [side for schema in schemas for side in sides(schema.get("items"), root)]
        return [_with_numbers(each, items, root) for each in value]
    if isinstance(value, int) and not isinstance(value, bool):
        types = {str(schema.get("type")) for schema in schemas}
        return float(value) if "number" in types and "integer" not in types else value
    return value


def file_places(schema: Schema, input: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Yield where an input has a file's address, as its schema says, and the address: in lists and objects too."""
    yield from _places("", sides(schema, schema), input, schema, ())


def _places(name: str, schemas: Sequence[Schema], value: Any, root: Schema, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        if takes_file(name, schemas):
            yield path, value
    elif isinstance(value, Mapping):
        known = properties(schemas)
        for key, each in value.items():
            yield from _places(key, sides(known.get(key), root), each, root, (*path, key))
    elif isinstance(value, list | tuple):
        items = [side for schema in schemas for side in sides(schema.get("items"), root)]
        # What a list hints at is what its items are.
        hinted = [*items, *({"ui": schema.get("ui")} for schema in schemas if "ui" in schema)]
        for n, each in enumerate(value):
            yield from _places(name, hinted, each, root, (*path, n))


def takes_file(name: str, schemas: Sequence[Schema]) -> bool:
    """Return whether a field of this name, with these schemas, takes a file's address."""
    # `path` of FLUX's `loras`: its weights.
    return is_address(name, schemas) or (name == "path" and bool(schemas))


def is_address(name: str, schemas: Sequence[Schema]) -> bool:
    """Return whether what stands there is an address, and nothing else: `path` may also name weights elsewhere."""
    return bool(FILE_NAME.search(name)) or any(
        schema.get("format") in FILE_FORMATS or _hint(schema) in FILE_HINTS for schema in schemas
    )


def picture_field(schema: Schema) -> tuple[str, bool] | None:
    """Return the field in which an input takes a picture, and whether it is a list of them; None without any."""
    fields = properties(sides(schema, schema))
    taking = {name: _is_list_of_files(name, sides(each, schema), schema) for name, each in fields.items()}
    found = {name: is_list for name, is_list in taking.items() if is_list is not None and not OTHER_MEDIA.search(name)}
    required = [name for name in found if name in schema.get("required", ())]
    named = next((name for name in PICTURE_FIELDS if name in found), None)
    # Of several it is the only one that is required, else the one that is called so.
    name = required[0] if len(required) == 1 else named
    return None if name is None else (name, bool(found[name]))


def _is_list_of_files(name: str, schemas: Sequence[Schema], root: Schema) -> bool | None:
    """Return whether a field takes a list of addresses, or one alone; None where it takes none."""
    items = [side for schema in schemas for side in sides(schema.get("items"), root)]
    if items:
        return True if is_address(name, items) else None
    takes_text = any(schema.get("type") == "string" for schema in schemas)
    return False if takes_text and is_address(name, schemas) else None


def _hint(schema: Schema) -> str:
    ui = schema.get("ui")
    return str(ui.get("field") if isinstance(ui, Mapping) else schema.get("_fal_ui_field"))
