"""A row's cells as what is asked for: named fields, and beside them the model's own arguments.

Text becomes the number, the truth value or the list that the model's input wants in that place; what does not become
one stays text, and the check says so. The same holds for text in JSON, where it can be meant in no other way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from darkroom.batches.cells import MISSING, MISSING_NUMBER, TRUTHS, is_sheet_error, narrow, number_in
from darkroom.batches.json_rows import DEEPEST, nested_deeper
from darkroom.batches.names import ID, is_name, seen
from darkroom.batches.raw import Raw
from darkroom.errors import BadInput
from darkroom.models import packaged_cards
from darkroom.models.schemas import properties, sides
from darkroom.nesting import nests_too_deep
from darkroom.providers.base import Model
from darkroom.providers.models import all_models, find_model

Picture = Mapping[str, Any]

DEFAULT_MODEL = "fal-ai/flux/dev"  # as where a single picture is ordered
ARGUMENTS = "arguments"
NAMED = ("prompt", "model", "image_size", "seed", "num_images", "lora", "lora_scale", "post", "flagged")
_KINDS: Mapping[str, frozenset[str]] = {
    "seed": frozenset({"integer"}),  # also where the model has none, and says so
    "num_images": frozenset({"integer"}),
    "lora_scale": frozenset({"number"}),
    "post": frozenset({"array"}),
    ARGUMENTS: frozenset({"object"}),
}
_SIZE = re.compile(r"\s*([0-9]{1,5})\s*(?:px)?\s*[xX×*]\s*([0-9]{1,5})\s*(?:px)?\s*")
_SIZE_NAME = re.compile(r"[A-Za-z]+(?:[ _:\-]+[A-Za-z0-9]+)*")


@dataclass(frozen=True, kw_only=True)
class Given:
    """`columns`: for each field and argument the column it came from. Those of the defaults begin with `defaults.`."""

    picture: Picture
    columns: Mapping[str, str]


def as_picture(cells: Mapping[str, Any], *, prefix: str = "") -> Given:
    """Divide the cells into named fields and the model's own arguments.

    `prefix`: of columns. Raises BadInput for what is no name, and for what is given twice, also in `arguments`.
    """
    # Rows were bounded as they were read; defaults and passes come by another way.
    if nested_deeper(cells, DEEPEST):
        message = f"is nested more than {DEEPEST} levels deep. Write it flatter."
        raise BadInput(message, field=prefix.rstrip("."))
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
    """Return the names of the model's input; None for a model that nobody knows, or whose input nobody can tell."""
    schema = _schema(endpoint)
    return None if schema is None else frozenset(properties(sides(schema, schema)))


def required_by(endpoint: str) -> Sequence[str]:
    """Return the names that the model's input has to have."""
    schema = _schema(endpoint)
    return ("prompt",) if schema is None else tuple(schema.get("required", ()))


def choices_of(endpoint: str, name: str) -> frozenset[Any]:
    """Return the values among which a field of the model's input is chosen; none where it takes others, or is none."""
    schema = _schema(endpoint) or {}
    found = sides(properties(sides(schema, schema)).get(name), schema)
    return frozenset(value for side in found for value in side.get("enum", ()) if isinstance(value, str))


def cheaper_than(endpoint: str) -> str | None:
    """Return the model that makes drafts of what this one makes; None where there is none."""
    found: str | None = getattr(_model(endpoint), "draft", None)
    return found


@dataclass(frozen=True, kw_only=True)
class Cells:
    """What a row says, as its model wants it. `refused`: by column. `notes`: what was guessed, by column."""

    given: dict[str, Any]
    refused: Mapping[str, BadInput]
    notes: Mapping[str, str]


def read_cells(raw: Raw, cells: Mapping[str, Any], *, usual_model: str) -> Cells:
    """Convert each cell to what the row's model wants in its place."""
    model = str(cells.get("model", usual_model)).strip()
    given, refused, notes = dict[str, Any](), dict[str, BadInput](), dict[str, str]()
    for column, cell in cells.items():
        try:
            if column == ARGUMENTS and isinstance(cell, Mapping):
                value: Any = {name: _value(each, model, name, raw, notes) for name, each in cell.items()}
                value = {name: each for name, each in value.items() if each is not None}
            else:
                value = _value(cell, model, column, raw, notes)
        except BadInput as error:
            refused[column] = error
        else:
            if value is not None:
                given[column] = value
    return Cells(given=given, refused=refused, notes=notes)


@lru_cache(1)
def known_columns() -> frozenset[str]:
    """Return all that a row can say to some model."""
    names = (accepted_by(endpoint) for endpoint in all_models())
    packaged = (sides(card.input_schema, card.input_schema or {}) for card in packaged_cards().values())
    return frozenset({ID, ARGUMENTS, *NAMED}).union(*filter(None, names), *map(properties, packaged))


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
    if not isinstance(value, str):
        return value
    if (measured := _SIZE.fullmatch(narrow(value))) is not None:
        return {"width": int(measured[1]), "height": int(measured[2])}
    return re.sub("[ :\\-]+", "_", value).lower() if _SIZE_NAME.fullmatch(value) else value


def _steps(value: Any) -> Any:
    """Split names of steps in one cell: "upscale, watermark"."""
    return re.findall(r"[^\s,;|+]+", value) if isinstance(value, str) else value


_NAMED_AS: Mapping[str, Callable[[Any], Any]] = {"image_size": _size, "post": _steps}


def _value(cell: Any, model: str, column: str, raw: Raw, notes: dict[str, str]) -> Any:
    """Return the cell as the model wants it; None for what is as good as empty. Raises BadInput."""
    kinds = _kinds(model, column)
    if isinstance(cell, str):
        # Line breaks within a cell are those of the machine that wrote it.
        text = seen(cell).replace("\r\n", "\n").replace("\r", "\n")
        if raw.text and is_sheet_error(text):
            raise BadInput(f"is {text}, as a spreadsheet shows an error. Write the value.", field=column)
        if raw.text and text in MISSING:
            return None
        if column == "prompt" or (not raw.text and "string" in kinds):
            return text
        return _read(text, kinds, raw, notes, column=column)
    # Python takes true for 1.
    if isinstance(cell, bool) and kinds & {"integer", "number"} and "boolean" not in kinds:
        raise BadInput("is true or false, and a number is wanted. Write the number.", field=column)
    if "boolean" in kinds and not isinstance(cell, bool) and isinstance(cell, int | float) and cell in (0, 1):
        return bool(cell)
    return cell


def _read(text: str, kinds: frozenset[str], raw: Raw, notes: dict[str, str], *, column: str) -> Any:
    if kinds and "string" not in kinds and (not text or text.lower() in MISSING_NUMBER):
        return None
    if "boolean" in kinds and text.lower() in TRUTHS:
        return TRUTHS[text.lower()]
    if kinds & {"integer", "number"}:
        number = number_in(text, decimal_comma=raw.decimal_comma)
        if number is not None and (isinstance(number.value, int) or "number" in kinds):
            if number.cut:
                notes[column] = (
                    "written with a power of ten, as a spreadsheet shortens long numbers: digits may be lost"
                )
            return number.value
    if kinds & {"array", "object"} and text[:1] in ("[", "{"):
        return _read_json(text)
    return text


def _read_json(text: str) -> Any:
    if nests_too_deep(text.encode("utf-8", "surrogatepass")):
        return text
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # then it stays text, and the check says what is wanted
        return text
    return text if nested_deeper(found, DEEPEST) else found


def _kinds(model: str, column: str) -> frozenset[str]:
    """Return what JSON calls the types of the column's value; none for a column or model that nobody knows."""
    if column in _KINDS:
        return _KINDS[column]
    return _kinds_by_name(model).get(column.removeprefix(f"{ARGUMENTS}."), frozenset())


def _model(endpoint: str) -> Model | None:
    try:
        return find_model(endpoint)
    except BadInput:
        return None


def _schema(endpoint: str) -> Mapping[str, Any] | None:
    return getattr(_model(endpoint), "input_schema", None)


def _kinds_by_name(endpoint: str) -> Mapping[str, frozenset[str]]:
    model = _model(endpoint)
    if model is None:
        return {}
    card = getattr(model, "card", None)
    return _kinds_of(endpoint, 0 if card is None else card.version)


@lru_cache
def _kinds_of(endpoint: str, version: int) -> Mapping[str, frozenset[str]]:
    """Return the types of a model's fields. `version`: of its card, so that a new one is read anew."""
    schema = _schema(endpoint) or {}
    return {name: frozenset(_types(sides(each, schema))) for name, each in schema.get("properties", {}).items()}


def _types(sides: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for side in sides:
        said = side.get("type", ())
        yield from (said,) if isinstance(said, str) else said
