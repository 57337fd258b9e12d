"""Forms from schemas: which field is shown how, and what is read of it."""

from __future__ import annotations

from typing import Any

import pytest

from darkroom.deployments.gateway.schemas.labels import labelled
from darkroom.deployments.gateway.schemas.orders import shown_order
from darkroom.deployments.studio.form_controls import Filled, show_fields
from darkroom.deployments.studio.hidden import is_hidden
from darkroom.deployments.studio.schema_forms import FormField, Raw, fields_of, hidden_in, missing, raw_of, read_fields
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
    fields = [FormField(name=each, kind="text", label=each) for each in ("token", "prompt")]
    fields += [FormField(name="loras", kind="json", label="LoRAs"), FormField(name="urls", kind="files", label="URLs")]
    signed = "https://b.example/a.png?X-Date=1&sig=…"
    order = {
        "token": "…",
        "prompt": "a fox …",
        "loras": [{"path": signed}],
        "urls": ["https://…@h/b.png", "asset:ast_1"],
    }
    assert raw_of(fields, order) == {"prompt": ["a fox …"], "urls": ["asset:ast_1"]}
    assert [each.label for each in hidden_in(fields, order)] == ["token", "LoRAs", "URLs"]
    for text in (signed, f"as in {signed}&x=1 or so", f"{signed}#top"):
        assert hidden_in(fields[:2], {"prompt": text}) == [fields[1]]


def test_what_is_hidden_is_what_the_api_hides() -> None:
    """Whichever part of an address it is, and nothing that people write."""
    for address in (
        "https://u:p@h/a.png",
        "https://h/a.png?key=abc&page=2",
        "https://h/?x=1&token=a#b",
        "http://[broken",
    ):
        for text in (address, f"see {address}") if "[" not in address else (address,):
            assert is_hidden(text) is False and is_hidden(shown_order({"text": text}, whole=True)["text"])
    assert not is_hidden({"prompt": "wait … what=… of https://h/a.png …"})


def test_every_packaged_model_and_every_pipeline_of_ours_has_a_form() -> None:
    """Each field of it has a label, and a place for what is wrong with it."""
    schemas = [card.input_schema for card in packaged_cards().values() if card.input_schema]
    schemas += [labelled(order).model_json_schema() for order in NAMED]
    for schema in schemas:
        fields = fields_of(schema, within="input")
        shown = "".join(str(each) for each in show_fields(fields, Filled()))
        assert all(each.label and f'id="error-{each.slug}"' in shown for each in fields)
