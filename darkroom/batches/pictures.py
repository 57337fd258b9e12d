"""A row's cells as what a picture is asked for with: named fields, and beside them the model's own arguments.

Text becomes the number, the truth value or the list that the model's input wants in that place; what does not become
one stays text, and the check says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from darkroom.batches.reading import is_name
from darkroom.errors import BadInput
from darkroom.providers.base import PictureModel
from darkroom.providers.models import find_picture_model

Picture = Mapping[str, Any]

DEFAULT_MODEL = "fal-ai/flux/dev"  # as where a single picture is ordered
ARGUMENTS = "arguments"
NAMED = ("prompt", "model", "image_size", "seed", "num_images", "lora", "lora_scale", "post")
_TRUTHS: Mapping[str, bool] = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_KINDS: Mapping[str, frozenset[str]] = {
    "seed": frozenset({"integer"}),  # also where the model has none, and says so
    "num_images": frozenset({"integer"}),
    "lora_scale": frozenset({"number"}),
    "post": frozenset({"array"}),
    ARGUMENTS: frozenset({"object"}),
}
_SIZE = re.compile(r"\s*([0-9]{1,5})\s*[xX×*]\s*([0-9]{1,5})\s*")
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}(?:\.0{1,6})?")
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{1,20})?")


@dataclass(frozen=True, kw_only=True)
class Given:
    """`columns`: for each field and argument the column it came from. Those of the defaults begin with `defaults.`."""

    picture: Picture
    columns: Mapping[str, str]


def as_picture(cells: Mapping[str, Any], *, prefix: str = "") -> Given:
    """Divide the cells into named fields and the model's own arguments.

    `prefix`: of columns. Raises BadInput for what is no name, and for what is given twice, also in `arguments`.
    """
    picture, arguments, columns = dict[str, Any](), dict[str, Any](), dict[str, str]()
    for column, name, value in _flat(cells, prefix=prefix):
        if name in columns:
            raise BadInput(f"is given twice, as {columns[name]} too. Leave one of them out.", field=prefix + column)
        columns[name] = prefix + column
        if column in NAMED:
            picture[name] = _NAMED_AS[name](value) if name in _NAMED_AS else value
        else:
            arguments[name] = value
    return Given(picture=picture | ({ARGUMENTS: arguments} if arguments else {}), columns=columns)


def completed(row: Given, defaults: Given) -> Given:
    """Complete the row with what it does not say from the defaults."""
    if not defaults.columns:
        return row
    return Given(picture=merged(defaults.picture, row.picture), columns={**defaults.columns, **row.columns})


def merged(picture: Picture, over: Picture) -> Picture:
    arguments = {**picture.get(ARGUMENTS, {}), **over.get(ARGUMENTS, {})}
    return {**picture, **over} | ({ARGUMENTS: arguments} if arguments else {})


def model_of(picture: Picture) -> str:
    return str(picture.get("model", DEFAULT_MODEL))


def accepted_by(endpoint: str) -> frozenset[str] | None:
    """Return the names of the model's input; None for a model that nobody knows."""
    model = _model(endpoint)
    return None if model is None else frozenset(model.input_schema.get("properties", ()))


def read_cells(cells: Mapping[str, str], *, model: str, decimal_comma: bool) -> dict[str, Any]:
    """Convert the text of each cell to what that model wants in its place."""
    return {
        column: cell if column == "prompt" else _read(cell.strip(), _kinds(model, column), decimal_comma=decimal_comma)
        for column, cell in cells.items()
    }


def _flat(cells: Mapping[str, Any], *, prefix: str) -> Iterator[tuple[str, str, Any]]:
    """Yield column, name and value of each cell, with the members of `arguments` one by one."""
    for column, value in cells.items():
        _require_name(column, field=prefix)
        if column != ARGUMENTS:
            yield column, column.removeprefix(f"{ARGUMENTS}."), value
            continue
        if not isinstance(value, Mapping):
            raise BadInput("is no object. Write it as JSON, or each argument as a column.", field=prefix + column)
        for name, each in value.items():
            _require_name(name, field=prefix + column)
            yield f"{ARGUMENTS}.{name}", name, each


def _require_name(name: str, *, field: str) -> None:
    if not is_name(name):
        raise BadInput("has a name that cannot be one. Use those of the documentation.", field=field.rstrip("."))


def _size(value: Any) -> Any:
    measured = _SIZE.fullmatch(value) if isinstance(value, str) else None
    return {"width": int(measured[1]), "height": int(measured[2])} if measured else value


def _steps(value: Any) -> Any:
    """Split names of steps in one cell: "upscale, watermark"."""
    return re.findall(r"[^\s,;|+]+", value) if isinstance(value, str) else value


_NAMED_AS: Mapping[str, Callable[[Any], Any]] = {"image_size": _size, "post": _steps}


def _read(text: str, kinds: frozenset[str], *, decimal_comma: bool) -> Any:
    number = text.replace(",", ".") if decimal_comma and text.count(",") == 1 else text
    if "boolean" in kinds and text.lower() in _TRUTHS:
        return _TRUTHS[text.lower()]
    if kinds & {"integer", "number"} and _INTEGER.fullmatch(number):
        return int(number.partition(".")[0])
    if "number" in kinds and _NUMBER.fullmatch(number):
        return float(number)
    if kinds & {"array", "object"} and text[:1] in ("[", "{"):
        return _read_json(text)
    return text


def _read_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _kinds(model: str, column: str) -> frozenset[str]:
    """Return what JSON calls the types of the column's value; none for a column or model that nobody knows."""
    if column in _KINDS:
        return _KINDS[column]
    return _kinds_by_name(model).get(column.removeprefix(f"{ARGUMENTS}."), frozenset())


def _model(endpoint: str) -> PictureModel | None:
    try:
        return find_picture_model(endpoint)
    except BadInput:
        return None


def _kinds_by_name(endpoint: str) -> Mapping[str, frozenset[str]]:
    model = _model(endpoint)
    if model is None:
        return {}
    card = getattr(model, "card", None)
    return _kinds_of(endpoint, 0 if card is None else card.version)


@lru_cache
def _kinds_of(endpoint: str, version: int) -> Mapping[str, frozenset[str]]:
    """Return the types of a model's fields. `version`: of its card, so that a new one is read anew."""
    model = _model(endpoint)
    schema = {} if model is None else model.input_schema
    return {
        name: frozenset(_types(each, schema.get("$defs", {}))) for name, each in schema.get("properties", {}).items()
    }


def _types(schema: Mapping[str, Any], named: Mapping[str, Any]) -> set[str]:
    if "$ref" in schema:
        return _types(named[schema["$ref"].rpartition("/")[2]], named)
    sides = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if "type" in schema:
        return {schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])
    return set[str]().union(*(_types(side, named) for side in sides))
