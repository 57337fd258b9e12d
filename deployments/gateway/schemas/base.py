"""What all documents of the API have in common."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainSerializer

# A number in JSON: nobody computes with it there, and a text would only be in the way.
Usd = Annotated[Decimal, PlainSerializer(float, return_type=float, when_used="json")]


class Document(BaseModel):
    # By name, too: `from` and `class` are words of Python's, so such fields have an alias.
    model_config = ConfigDict(populate_by_name=True, from_attributes=True)


def either(*fields: str) -> dict[str, Any]:
    """Return what a body's schema says where exactly one of the fields is to be given. Null is as if left out."""
    return {"oneOf": [{"required": [field], "properties": {field: {"not": {"type": "null"}}}} for field in fields]}
