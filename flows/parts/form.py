"""Fields of a flow's parameters, which are the form in Prefect's UI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from darkroom.errors import BadInput

Order = TypeVar("Order", bound=BaseModel)


def shown(title: str, description: str, default: Any = ..., **bounds: Any) -> Any:
    """Prefect's form overwrites a field's own title, but not one among the extras. `bounds`: as of pydantic's Field."""
    return Field(default, description=description, json_schema_extra={"title": title}, **bounds)


def in_order(schema: dict[str, Any]) -> None:
    """For a model's `json_schema_extra`: Prefect keeps schemas as jsonb, which forgets an order that is not told."""
    for position, field in enumerate(schema["properties"].values()):
        field["position"] = position


def read(model: type[Order], parameters: Mapping[str, Any]) -> Order:
    """A job's parameters as its order. An event or another job may have brought them: raises BadInput, by field."""
    try:
        return model.model_validate(parameters)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        # Not what was given: it may be anything.
        raise BadInput(f"{field}: {first['msg']}.", field=field) from None
