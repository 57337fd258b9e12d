"""Fields of a flow's parameters, which are the form in Prefect's UI."""

from __future__ import annotations

from typing import Any

from pydantic import Field


def shown(title: str, description: str, default: Any = ..., **bounds: Any) -> Any:
    """Prefect's form overwrites a field's own title, but not one among the extras. `bounds`: as of pydantic's Field."""
    return Field(default, description=description, json_schema_extra={"title": title}, **bounds)
