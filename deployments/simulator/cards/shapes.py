"""The pieces that fal's schemas are put together from. They are written as fal's documents have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

PRESETS = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}


def ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def record(*required: str, **properties: Schema) -> dict[str, Any]:
    """Return an object of these properties; fal leaves it open to others."""
    titled = {
        name: dict(schema) if "$ref" in schema else {"title": name.replace("_", " ").title(), **schema}
        for name, schema in properties.items()
    }
    return {"type": "object", "properties": titled, **({"required": list(required)} if required else {})}


def text(description: str = "", **more: Any) -> dict[str, Any]:
    return {"type": "string", **_described(description), **more}


def prompt(description: str = "What to make.", **more: Any) -> dict[str, Any]:
    return text(description, minLength=1, **more)


def file_url(description: str, **more: Any) -> dict[str, Any]:
    return text(description, minLength=1, **more)


def choice(*values: str, default: str | None = None, description: str = "") -> dict[str, Any]:
    return {"type": "string", "enum": list(values), **_described(description), **_default(default)}


def integer(least: int | None = None, most: int | None = None, *, default: int | None = None) -> dict[str, Any]:
    return {"type": "integer", **_bounds(least, most), **_default(default)}


def number(least: float | None = None, most: float | None = None, *, default: float | None = None) -> dict[str, Any]:
    return {"type": "number", **_bounds(least, most), **_default(default)}


def flag(default: bool) -> dict[str, Any]:
    return {"type": "boolean", "default": default}


def listing(items: Schema, *, least: int | None = None, most: int | None = None, **more: Any) -> dict[str, Any]:
    bounds = {"minItems": least, "maxItems": most}
    return {"type": "array", "items": items, **{name: n for name, n in bounds.items() if n is not None}, **more}


def nullable(schema: Schema) -> dict[str, Any]:
    return {**schema, "nullable": True}


def image_size(*more: str, default: str = "landscape_4_3", component: str = "ImageSize") -> dict[str, Any]:
    """Return the choice of a preset or of width and height."""
    return {"anyOf": [ref(component), {"type": "string", "enum": [*PRESETS, *more]}], "default": default}


def example(schema: Schema, url: str) -> dict[str, Any]:
    """Return the schema of a file with an example, whose name tells its kind."""
    # OpenAPI 3.0 passes over what stands beside a `$ref`.
    return {"allOf": [schema], "examples": [{"url": url}]}


def _file(title: str, **more: Schema) -> dict[str, Any]:
    named = record(
        "url",
        url=text("The URL where the file can be downloaded from."),
        # All but the address may be null.
        content_type=nullable(text("The mime type of the file.")),
        file_name=nullable(text("The name of the file.")),
        file_size=nullable({"type": "integer", "description": "The size of the file in bytes."}),
        file_data=text("File data", format="binary"),
        **more,
    )
    return {"title": title, **named}


def _described(description: str) -> dict[str, Any]:
    return {"description": description} if description else {}


def _default(value: object) -> dict[str, Any]:
    return {} if value is None else {"default": value}


def _bounds(least: float | None, most: float | None) -> dict[str, Any]:
    return {
        **({} if least is None else {"minimum": least}),
        **({} if most is None else {"maximum": most}),
    }


# fal's own limit of a picture's edge is 14142; the simulator really draws it.
_EDGE = {"type": "integer", "exclusiveMinimum": 0, "maximum": 4096, "default": 512}
IMAGE, VIDEO, AUDIO, FILE = ref("Image"), ref("Video"), ref("Audio"), ref("File")
COMPONENTS: Mapping[str, Schema] = {
    "ImageSize": {"title": "ImageSize", **record(width=_EDGE, height=_EDGE)},
    "Image": _file("Image", width=nullable({"type": "integer"}), height=nullable({"type": "integer"})),
    "Video": _file("Video"),
    "Audio": _file("Audio"),
    "File": _file("File"),
}
