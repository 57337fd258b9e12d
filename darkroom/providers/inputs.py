"""Inputs of models, checked strictly before anything is queued: an error names the field, and never its value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from darkroom.errors import BadInput
from darkroom.models.prices import money as money


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _has_words(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "must not be blank")
    # Postgres takes none, neither in a text nor in JSON.
    if "\x00" in text:
        raise PydanticCustomError("nul", "must not contain NUL characters: remove them")
    return text


Words = Annotated[str, AfterValidator(_has_words)]
Input = TypeVar("Input", bound=Strict)


def checked(kind: type[Input], arguments: Mapping[str, Any], *, endpoint: str) -> Input:
    """Check the arguments strictly and return the model's input. Raise BadInput."""
    try:
        return kind.model_validate(dict(arguments))
    except ValidationError as error:
        # Not `from error`: pydantic's text quotes the value, and a logged traceback would show it.
        raise _bad_input(kind, error, endpoint) from None


def recorded(input: Strict) -> dict[str, Any]:
    """Return what goes on record: what was given, and such defaults as are ours and not the provider's."""
    return input.model_dump(mode="json", by_alias=True, exclude_none=True)


def _bad_input(kind: type[Strict], error: ValidationError, endpoint: str) -> BadInput:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    path = ".".join(str(part) for part in first["loc"])[:100]
    if first["type"] != "extra_forbidden":
        return BadInput(f"{path}: {first['msg']}", field=path)
    known = ", ".join(field.alias or name for name, field in kind.model_fields.items())
    return BadInput(f"{endpoint} does not accept {path}: leave it out; it accepts {known}", field=path)
