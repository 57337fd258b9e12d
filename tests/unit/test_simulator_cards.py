"""The simulator's cards: documents of fal's shape, and inputs held against them in fal's words."""

from __future__ import annotations

import io
import json
import struct
import wave
import zipfile
from decimal import Decimal
from typing import Any

import pytest

from darkroom.deployments.simulator.book import ACCOUNTS, Entry
from darkroom.deployments.simulator.cards.card import Card
from darkroom.deployments.simulator.cards.checking import check, with_defaults
from darkroom.deployments.simulator.cards.crowd import odd_cards
from darkroom.deployments.simulator.cards.shapes import IMAGE, listing, nullable, prompt, record, text
from darkroom.deployments.simulator.catalogue import Catalogue
from darkroom.deployments.simulator.endpoints import ENDPOINTS
from darkroom.deployments.simulator.faults import Faults
from darkroom.deployments.simulator.kinds import archive, glb, srt, vtt
from darkroom.deployments.simulator.speech import make_wave
from darkroom.deployments.simulator.units import Measured, units_of

CARDS = [endpoint.card for endpoint in ENDPOINTS.values()] + list(odd_cards())
DEV = ENDPOINTS["fal-ai/flux/dev"].card


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [each for part in value.values() for each in references(part)]
    return [each for part in value for each in references(part)] if isinstance(value, list) else []


def a_card(**fields: Any) -> Card:
    card = {"endpoint": "a/b", "title": "B", "category": "c", "unit": "images", "unit_price": Decimal(1)}
    return Card(**{**card, "input": record("prompt", prompt=prompt()), "output": record(), **fields})


@pytest.mark.parametrize("card", CARDS, ids=lambda card: str(card.endpoint))
def test_every_card_is_a_whole_document(card: Card) -> None:
    """JSON in fal's shape; what it refers to is in it; input and output are found by reference."""
    document = json.loads(json.dumps(card.openapi))
    assert document["openapi"] == "3.0.4"
    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]
    assert card.schema_of_input["x-fal-order-properties"] == list(card.schema_of_input["properties"])
    assert card.schema_of_output["properties"]
    given = {name: {"type": "string"} for name in card.schema_of_input["required"]}
    filled = with_defaults(card, dict.fromkeys(given, "x"))
    lists = {name for name, each in card.schema_of_input["properties"].items() if each.get("type") == "array"}
    assert (
        check(card, {name: ["x"] if name in lists and name in given else each for name, each in filled.items()}) == []
    )


@pytest.mark.parametrize(
    ("given", "kind", "place"),
    [
        ({}, "missing", ["body", "prompt"]),
        ({"prompt": ""}, "string_too_short", ["body", "prompt"]),
        ({"prompt": 7}, "string_type", ["body", "prompt"]),
        ({"prompt": "x", "num_images": 5}, "less_than_equal", ["body", "num_images"]),
        ({"prompt": "x", "num_images": "two"}, "int_type", ["body", "num_images"]),
        ({"prompt": "x", "guidance_scale": 0.5}, "greater_than_equal", ["body", "guidance_scale"]),
        ({"prompt": "x", "acceleration": "warp"}, "literal_error", ["body", "acceleration"]),
        ({"prompt": "x", "sync_mode": "yes"}, "bool_type", ["body", "sync_mode"]),
        ({"prompt": "x", "image_size": {"width": 0}}, "greater_than", ["body", "image_size", "width"]),
        ({"prompt": "x", "image_size": "huge"}, "literal_error", ["body", "image_size"]),
        ({"prompt": "half \ud83d"}, "string_unicode", ["body", "prompt"]),
    ],
)
def test_a_wrong_input_is_told_in_pydantics_words(given: dict[str, Any], kind: str, place: list[str]) -> None:
    """With the place, and the input echoed; of an either-or each side says what it does not like."""
    assert (kind, place) in [(detail["type"], detail["loc"]) for detail in check(DEV, given)]


def test_all_is_told_at_once_and_the_rest_is_ignored() -> None:
    """Unknown fields are no error, and null counts as not given."""
    details = check(DEV, {"num_images": 9, "steps": -1, "seed": None})
    assert {detail["loc"][-1] for detail in details} == {"prompt", "num_images"}


def test_the_odd_words_of_openapi_3_0_are_understood() -> None:
    """`nullable` within, and a closed object."""
    size = {"type": "object", "additionalProperties": False, "properties": {"w": nullable({"type": "integer"})}}
    card = a_card(input=record("s", s=size, names=listing(text(), least=2)))
    assert check(card, {"s": {"w": None}}) == []
    found = {detail["type"] for detail in check(card, {"s": {"w": "x", "v": 1}, "names": ["one"]})}
    assert {"int_type", "extra_forbidden", "too_short"} <= found


@pytest.mark.parametrize(
    ("unit", "units"),
    [
        ("images", "2"),
        ("megapixels", "3"),
        ("processed megapixels", "2.0982"),
        ("1000 characters ", "1.234"),
        ("1m tokens", "0.0003"),
        ("compute seconds", "2.5"),
        ("input seconds", "3.008"),
        ("seconds", "9"),
        ("minutes", "0.15"),
        ("units", "40"),
        ("steps", "700"),
        ("moons", "1"),
    ],
)
def test_units_are_counted_by_their_name(unit: str, units: str) -> None:
    """Fractions occur; what nobody has heard of counts requests."""
    card = a_card(unit=unit, units_per_file=Decimal(10))
    entry = Entry(
        request_id="1", endpoint="a/b", input={}, account=ACCOUNTS["sim:key"], webhook_url=None, faults=Faults()
    )
    entry.seconds = 2.5
    measured = Measured(input_seconds=3.008, characters=1234)
    measured.add("image", width=1024, height=1024)
    measured.add("image", width=1024, height=1025)
    measured.add("mp4", seconds=9)
    assert units_of(card, entry, {"steps": 700}, measured) == units


def test_files_are_of_their_kind() -> None:
    """Binary glTF with lengths that are true, subtitles, an archive, sound of the length asked for."""
    body = glb("a chair")
    magic, version, length, json_length = struct.unpack("<4sIII", body[:16])
    assert (magic, version, length) == (b"glTF", 2, len(body))
    assert json.loads(body[20 : 20 + json_length])["nodes"][0]["name"] == "a chair"
    assert srt("hello").startswith(b"1\n00:00:00,000 --> 00:00:02,000\nhello")
    assert vtt("hello").startswith(b"WEBVTT\n\n00:00:00.000 --> ")
    assert zipfile.ZipFile(io.BytesIO(archive({"a.txt": b"x"}))).read("a.txt") == b"x"
    with wave.open(io.BytesIO(make_wave("hello", voice_id="a", seconds=3.5))) as sound:
        assert sound.getnframes() == 3.5 * sound.getframerate()


def test_the_catalogue_changes_while_it_runs() -> None:
    """Newest first; a new model is in front; a renamed one is there twice, and the old name is deprecated."""
    catalogue = Catalogue(crowd_size=3)
    before = len(catalogue.cards())
    catalogue.add(a_card(output=record(images=listing(IMAGE))))
    catalogue.rename("fal-ai/esrgan", "fal-ai/esrgan/v2")
    assert [card.endpoint for card in catalogue.cards()[:2]] == ["fal-ai/esrgan/v2", "a/b"]
    assert len(catalogue.cards()) == before + 2
    assert [card.status for card in catalogue.some(["fal-ai/esrgan", "fal-ai/esrgan/v2"])] == ["deprecated", "active"]
    assert catalogue.change("a/b", unit_price=Decimal(2)) is not None
    assert [card.unit_price for card in catalogue.some(["a/b", "nobody/knows"])] == [Decimal(2)]
    catalogue.reset()
    assert len(catalogue.cards()) == before
    assert catalogue.card("a/b") is None
    assert catalogue.endpoints["a/b"].card.unit_price == 2, "a request of it may be under way"


def test_a_catalogue_may_shrink_to_nothing() -> None:
    """One model less with each read, and then none: a list that is empty is still a list."""
    catalogue = Catalogue()
    models = len(catalogue.cards())
    catalogue.grows = -models - 2
    assert [len(catalogue.cards()) for _ in range(models + 2)] == [*range(models, 0, -1), 0, 0]
    assert (catalogue.grows, catalogue.cards()) == (0, [])


@pytest.mark.parametrize(("steps", "right"), [(99, False), (100, True), (20_000, True), (20_001, False)])
def test_a_wan_training_has_its_own_bounds(steps: int, right: bool) -> None:
    """By fal's page of it."""
    given = {"training_data_url": "https://v3.fal.media/files/b/x/a.zip", "number_of_steps": steps}
    assert (check(ENDPOINTS["fal-ai/wan-trainer"].card, given) == []) is right
