"""Forms from schemas: which field is shown how, and what is read of it."""

from __future__ import annotations

from typing import Any

import pytest

from darkroom.deployments.gateway.schemas.labels import labelled
from darkroom.deployments.studio.form_controls import Filled, show_fields
from darkroom.deployments.studio.schema_forms import FormField, Raw, fields_of, missing, raw_of, read_fields
from darkroom.flows.orders import NAMED
from darkroom.models.snapshot import packaged_cards

SCHEMA: dict[str, Any] = {
    "required": ["image_url", "prompt"],
    "x-fal-order-properties": ["prompt", "seed"],
    "properties": {
        "seed": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "prompt": {"type": "string"},
        "image_url": {"type": "string"},
        "more_image_urls": {"type": "array", "items": {"type": "string"}},
        "strength": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5},
        "duration": {"enum": [5, 10], "type": "integer", "default": 5},
        "size": {
            "anyOf": [{"$ref": "#/$defs/Size"}, {"enum": ["square", "wide"], "type": "string"}],
            "default": "wide",
        },
        "words": {"type": "array", "items": {"type": "string"}},
        "post": {"type": "array", "items": {"anyOf": [{"enum": ["upscale", "mark"]}, {"type": "object"}]}},
        "safe": {"type": "boolean", "default": True},
        "loras": {"type": "array", "items": {"type": "object", "properties": {"path": {"type": "string"}}}},
        "extra": {"type": "object"},
        "sync_mode": {"type": "boolean"},
    },
    "$defs": {"Size": {"type": "object", "properties": {"width": {"type": "integer"}, "height": {"type": "integer"}}}},
}
FIELDS = {each.name.removeprefix("input."): each for each in fields_of(SCHEMA, within="input")}


def test_each_field_is_shown_as_what_it_takes() -> None:
    """Those that are required first; files that nobody may ask for inside the answer not at all."""
    kinds = {name: each.kind for name, each in FIELDS.items()}
    assert list(kinds)[:2] == ["prompt", "image_url"] and "sync_mode" not in kinds
    assert kinds == {
        "prompt": "long",
        "image_url": "file",
        "seed": "number",
        "more_image_urls": "files",
        "strength": "number",
        "duration": "choice",
        "size": "choice",
        "words": "lines",
        "post": "checks",
        "safe": "yes_no",
        "loras": "json",
        "extra": "json",
    }
    assert [each.name for each in FIELDS["size"].inside] == ["input.size.width", "input.size.height"]


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        ({"input.prompt": ["a\r\nb "]}, {"prompt": "a\nb "}),
        ({"input.prompt": ["  "]}, {}),
        ({"input.seed": ["12345678901234567"]}, {"seed": 12345678901234567}),
        ({"input.strength": ["0.5"]}, {}),
        ({"input.strength": ["0.7"]}, {"strength": 0.7}),
        ({"input.duration": ["10"]}, {"duration": 10}),
        ({"input.size": ["square"]}, {"size": "square"}),
        ({"input.size": ["square"], "input.size.width": ["64"]}, {"size": {"width": 64}}),
        ({"input.words": ["a \n\n b"]}, {"words": ["a", "b"]}),
        ({"input.more_image_urls": ["asset:ast_1\nasset:ast_2"]}, {"more_image_urls": ["asset:ast_1", "asset:ast_2"]}),
        ({"input.post": ["mark", '{"factor": 2, "step": "x"}']}, {"post": ["mark", {"factor": 2, "step": "x"}]}),
        ({"input.safe": ["false", "true"]}, {}),
        ({"input.safe": ["false"]}, {"safe": False}),
        ({"input.loras": ['[{"path": "x"}]']}, {"loras": [{"path": "x"}]}),
    ],
)
def test_what_was_filled_in_is_read_as_what_the_field_takes(raw: Raw, read: dict[str, Any]) -> None:
    """What is empty, or as it would be anyway, is left out; and the form of what was read is filled in as before."""
    order, wrong = read_fields(list(FIELDS.values()), raw)
    assert order.get("input", {}) == read and wrong == {}
    assert read_fields(list(FIELDS.values()), raw_of(list(FIELDS.values()), order)) == (order, {})


@pytest.mark.parametrize(
    ("name", "text"), [("seed", "seven"), ("strength", "1,5"), ("strength", "inf"), ("loras", "[1"), ("post", "{x")]
)
def test_what_is_no_value_is_told_at_its_field(name: str, text: str) -> None:
    """And the rest is read all the same."""
    order, wrong = read_fields(list(FIELDS.values()), {f"input.{name}": [text], "input.prompt": ["a fox"]})
    assert list(wrong) == [f"input.{name}"] and order == {"input": {"prompt": "a fox"}}


def test_required_fields_that_are_empty_are_missing() -> None:
    """By name."""
    order, _ = read_fields(list(FIELDS.values()), {"input.prompt": ["a fox"]})
    assert [each.name for each in missing(list(FIELDS.values()), order)] == ["input.image_url"]


def test_hidden_parts_of_an_order_are_not_filled_in() -> None:
    """What the API hides is asked for anew."""
    assert raw_of([FormField(name="token", kind="text", label="Token")], {"token": "…"}) == {}


def test_every_packaged_model_and_every_pipeline_of_ours_has_a_form() -> None:
    """Each field of it has a label, and a place for what is wrong with it."""
    schemas = [card.input_schema for card in packaged_cards().values() if card.input_schema]
    schemas += [labelled(order).model_json_schema() for order in NAMED]
    for schema in schemas:
        fields = fields_of(schema, within="input")
        shown = "".join(str(each) for each in show_fields(fields, Filled()))
        assert all(each.label and f'id="error-{each.slug}"' in shown for each in fields)
