"""A model as fal's platform shows it: its catalogue entry, its queue's OpenAPI document, its price."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

from .shapes import COMPONENTS, Schema

_DATE = datetime(2026, 6, 1, tzinfo=UTC)
_REQUEST_ID = {"type": "string", "description": "The request id."}


# Equal by identity alone: its schemas are dictionaries, which have no hash for a cache to go by.
@dataclass(frozen=True, kw_only=True, eq=False)
class Card:
    """What is known of a model at fal.

    `unit_price`: what the price list says. `charged_price`: what is charged, where the list is wrong."""

    endpoint: str
    title: str
    category: str
    description: str = ""
    input: Schema
    output: Schema
    components: Mapping[str, Schema] = field(default_factory=dict)
    unit: str
    unit_price: Decimal
    charged_price: Decimal | None = None
    units_per_file: Decimal = Decimal(1)  # where the unit is called just that
    pricing: str = ""  # in words, where the unit says too little
    kind: str = "inference"
    status: str = "active"
    tags: tuple[str, ...] = ()
    date: datetime = _DATE
    minutes: float | None = None
    is_priced: bool = True  # in the list; it is charged all the same
    has_metadata: bool = True
    expansion_fails: bool = False
    document: Mapping[str, Any] | None = None  # the OpenAPI document where one was given

    @property
    def price(self) -> Decimal:
        """Return what a unit is charged at."""
        return self.unit_price if self.charged_price is None else self.charged_price

    @property
    def metadata(self) -> dict[str, Any]:
        optional = {"duration_estimate": self.minutes} if self.minutes is not None else {}
        return {
            "display_name": self.title,
            "category": self.category,
            "description": self.description or self.title,
            "status": self.status,
            "tags": list(self.tags),
            "updated_at": _moment(self.date),
            "is_favorited": None,
            "thumbnail_url": f"https://v3b.fal.media/files/thumbnails/{self.endpoint.replace('/', '-')}.webp",
            "model_url": f"https://fal.run/{self.endpoint}",
            "date": _moment(self.date),
            # fal has deprecated both, and says false of every model.
            "highlighted": False,
            "pinned": False,
            "license_type": "commercial",
            "kind": self.kind,
            **optional,
        }

    @cached_property
    def openapi(self) -> Mapping[str, Any]:
        """Return the document of the endpoint's queue, in fal's shape."""
        if self.document is not None:
            return self.document
        name = _pascal(self.endpoint)
        schemas = {"QueueStatus": _queue_status(), f"{name}Input": _input(self.input), f"{name}Output": self.output}
        return {
            "openapi": "3.0.4",
            "info": self._info(),
            "components": {
                "securitySchemes": {
                    "apiKeyAuth": {
                        "type": "apiKey",
                        "in": "header",
                        "name": "Authorization",
                        "description": "Fal Key",
                    }
                },
                "schemas": {**schemas, **COMPONENTS, **self.components},
            },
            "paths": _paths(self.endpoint, name),
            "servers": [{"url": "https://queue.fal.run"}],
            "security": [{"apiKeyAuth": []}],
        }

    def _info(self) -> dict[str, Any]:
        page = f"https://fal.ai/models/{self.endpoint}"
        return {
            "title": f"Queue OpenAPI for {self.endpoint}",
            "version": "1.0.0",
            "description": f"The OpenAPI schema for the {self.endpoint} queue.",
            "x-fal-metadata": {
                "endpointId": self.endpoint,
                "category": self.category,
                "thumbnailUrl": self.metadata["thumbnail_url"],
                "playgroundUrl": page,
                "documentationUrl": f"{page}/api",
            },
        }

    @cached_property
    def schema_of_input(self) -> Schema:
        return self._schema("post", f"/{self.endpoint}")

    @cached_property
    def schema_of_output(self) -> Schema:
        return self._schema("get", f"/{self.endpoint}/requests/{{request_id}}")

    def _schema(self, method: str, path: str) -> Schema:
        # By the path, not by a component's name: a document that operators give has names of its own.
        call = self.openapi["paths"][path][method]
        holder = call["requestBody"] if method == "post" else call["responses"]["200"]
        return self.resolve(holder["content"]["application/json"]["schema"])

    def resolve(self, schema: Schema) -> Schema:
        """Return the schema that is meant where this one only refers to it, within the document."""
        while "$ref" in schema:
            found: Any = self.openapi
            for part in str(schema["$ref"]).removeprefix("#/").split("/"):
                found = found[part.replace("~1", "/").replace("~0", "~")]  # a JSON pointer's escapes
            schema = found
        return schema


def _input(schema: Schema) -> Schema:
    return {"x-fal-order-properties": list(schema.get("properties", {})), **schema}


def _paths(endpoint: str, name: str) -> dict[str, Any]:
    # As fal's documents have them, and not as its queue is: that has owner and alias only in its paths, 202 for what is
    # not over, and another answer to a cancel.
    request = f"/{endpoint}/requests/{{request_id}}"
    parameter = {"name": "request_id", "in": "path", "required": True, "schema": _REQUEST_ID}
    logs = {"name": "logs", "in": "query", "required": False, "schema": {"type": "number"}}
    status, taken = _answer(_ref("QueueStatus")), _content(_ref(f"{name}Input"))
    success = _answer({"type": "object", "properties": {"success": {"type": "boolean"}}})
    return {
        f"{request}/status": {"get": {"parameters": [parameter, logs], "responses": status}},
        f"{request}/cancel": {"put": {"parameters": [parameter], "responses": success}},
        f"/{endpoint}": {"post": {"requestBody": {"required": True, **taken}, "responses": status}},
        request: {"get": {"parameters": [parameter], "responses": _answer(_ref(f"{name}Output"))}},
    }


def _answer(schema: Schema) -> dict[str, Any]:
    return {"200": {"description": "The request status.", **_content(schema)}}


def _content(schema: Schema) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _queue_status() -> Schema:
    text = {"type": "string"}
    return {
        "type": "object",
        "required": ["status", "request_id"],
        "properties": {
            "status": {"type": "string", "enum": ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]},
            "request_id": text,
            "response_url": text,
            "status_url": text,
            "cancel_url": text,
            "logs": {"type": "object", "additionalProperties": True},
            "metrics": {"type": "object", "additionalProperties": True},
            "queue_position": {"type": "integer"},
        },
    }


def _pascal(endpoint: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in re.findall(r"[A-Za-z0-9]+", endpoint))


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
