"""Fields of a flow's parameters, which are the form in Prefect's UI."""

from __future__ import annotations

from typing import Any

from pydantic import Field


def shown(title: str, description: str, default: Any = ..., **bounds: Any) -> Any:
    """Prefect's form overwrites a field's own title, but not one among the extras. `bounds`: as of pydantic's Field."""
    return Field(default, description=description, json_schema_extra={"title": title}, **bounds)


def in_order(schema: dict[str, Any]) -> None:
    """For a model's `json_schema_extra`: Prefect keeps schemas as jsonb, which forgets an order that is not told."""
    for position, field in enumerate(schema["properties"].values()):
        field["position"] = position
