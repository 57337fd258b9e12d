"""What to do about input that was refused: pure functions from an error to the field it is about and the remedy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field

MOST_READ = 1000  # a megabyte of unknown names kept a thread busy for minutes
MOST_TOLD = 100
_STOP = re.compile(r"(?<!e\.g)[.;:] ")  # "e.g." ends no half


class FieldError(BaseModel):
    field: str = Field(examples=["prompt"])
    detail: str = Field(examples=["String should have at least 1 character"])
    remedy: str = Field(examples=["Give it at least 1 character."])
    line: int | None = Field(None, description="Of a manifest's text.", examples=[3])


# By pydantic's type of error; filled in from its context.
_REMEDIES = {
    "json_invalid": "Send one JSON object.",
    "missing": "Add it.",
    "model_type": "Send one JSON object.",
    "model_attributes_type": "Send one JSON object.",
    "dict_type": "Send one JSON object.",
    "extra_forbidden": "Leave it out.",
    "string_too_short": "Give it at least {min_length} character(s).",
    "string_too_long": "Shorten it to {max_length} characters.",
    "string_pattern_mismatch": "Write it as {pattern}.",
    "greater_than": "Use more than {gt}.",
    "greater_than_equal": "Use {ge} or more.",
    "less_than": "Use less than {lt}.",
    "less_than_equal": "Use {le} or less.",
    "literal_error": "Use {expected}.",
    "enum": "Use {expected}.",
}


def field_errors(errors: Sequence[Mapping[str, Any]]) -> list[FieldError]:
    """Return one for each field, the innermost; of thousands the first, in a time that does not grow with them."""
    found: dict[str, FieldError] = {}
    for error in errors[:MOST_READ]:
        field = _field(error["loc"])
        # Its message alone: what came in stands beside it (`input`), and may be a prompt.
        found.setdefault(field, FieldError(field=field, detail=error["msg"], remedy=_remedy(error)))
    # Of a field that may be one thing or another, each is refused on its own.
    outer = {field[: dot.start()] for field in found for dot in re.finditer(r"\.", field)}
    return [error for field, error in found.items() if field not in outer][:MOST_TOLD]


def remedy_of(message: str, *, field: str = "") -> str:
    """Return the second half of an error's message: those say what is wrong and then, after a stop, what to do."""
    said = message.removeprefix(f"{field}: ")
    halves = _STOP.split(said, maxsplit=1)
    return sentence(halves[-1])


def _remedy(error: Mapping[str, Any]) -> str:
    template = _REMEDIES.get(error["type"])
    return template.format_map(error.get("ctx", {})) if template else sentence(error["msg"])


def sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "?")) else ".")


def _field(location: Sequence[str | int]) -> str:
    """Name the field, without its part of the request and the names that pydantic gives the sides of a union."""
    # Of JSON that cannot be read the place in the text is told, as a number: then it is the body that is wrong.
    names = [str(part) for part in location[1:] if not _is_union_side(part)]
    return ".".join(names) if names and not isinstance(location[1], int) else str(location[0])


def _is_union_side(part: str | int) -> bool:
    # The name of a class, or `list[int]`: fields begin with a small letter.
    return isinstance(part, str) and ((part[:1].isupper() and part.isidentifier()) or "[" in part)
