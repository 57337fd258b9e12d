"""What a debate is asked for with, what its script must be, and the picture its film begins with."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from PIL import Image
from pydantic import ValidationError

from darkroom.flows.orders.debate import Debate
from darkroom.flows.parts.debate_script import LONGEST_LINE, SCHEMA, Script
from darkroom.media.film.split_screen import side_by_side

ROUND = {"first": "Coffee wakes the world.", "second": "Tea lets it dream."}
SCRIPT: dict[str, Any] = {
    "title": "Coffee or tea",
    "mascot_first": "a round brown bean with a moustache",
    "mascot_second": "a tall blue kettle in a scarf",
    "scene": "both lean forward and wave their arms",
    "rounds": [ROUND, ROUND],
    "summary": "They agree to meet for breakfast.",
}


def order(**changes: Any) -> Debate:
    return Debate.model_validate({"topic": "coffee or tea", "brands": ["Foxbrew", "Kettle & Co"]} | changes)


def obeys(script: dict[str, Any]) -> bool:
    """Its schema, which is what the model is held to, and the model's own reading of it agree."""
    by_schema = not list(Draft202012Validator(SCHEMA).iter_errors(script))
    try:
        Script.model_validate(script)
    except ValidationError:
        assert not by_schema, "the schema lets through what is no script"
        return False
    return by_schema


def test_in_a_script_both_sides_speak_in_turn() -> None:
    """By its form: there is no way to write another."""
    lines = Script.model_validate(SCRIPT).lines(["Foxbrew", "Kettle & Co"])
    assert [speaker for speaker, _ in lines] == ["Foxbrew", "Kettle & Co"] * 2
    assert obeys(SCRIPT)


@pytest.mark.parametrize(
    "change",
    [
        {"rounds": [ROUND]},
        {"rounds": [ROUND] * 4},
        {"rounds": [ROUND, {"first": "only one of them speaks"}]},
        {"rounds": [ROUND, ROUND | {"second": ""}]},
        {"rounds": [ROUND, ROUND | {"first": "x" * (LONGEST_LINE + 1)}]},
        {"title": "x" * 91},
        {"summary": None},
        {"mascot_first": "bean"},
        {"more": "than was asked for"},
    ],
)
def test_what_is_no_script_is_seen_by_its_schema(change: dict[str, Any]) -> None:
    """So that it is a failed attempt at the provider, and asked for anew."""
    assert not obeys(SCRIPT | change)


@pytest.mark.parametrize(
    "change",
    [
        {"brands": ["Foxbrew"]},
        {"brands": ["Foxbrew", "foxbrew "]},
        {"brands": ["Foxbrew", "Kettle", "Mug"]},
        {"brands": ["Foxbrew", "Kettle\nTopic: something else"]},
        {"topic": " "},
        {"topic": "x" * 301},
        {"duration": 7},
        {"voice": "../voices"},
        {"colour": "red"},
    ],
)
def test_an_order_that_cannot_be_a_debate_is_refused(change: dict[str, Any]) -> None:
    """Before anything is on record."""
    with pytest.raises(ValidationError):
        order(**change)


def test_the_estimate_is_of_all_that_is_paid() -> None:
    """A film of ten seconds costs twice one of five; scripts, pictures, voice and stream are in it too."""
    short, long = order(duration="5").estimate(), order(duration="10").estimate()
    assert 0.35 < short < 0.5
    assert 0.70 < long < 0.9


def test_the_stage_shows_both_mascots_each_in_its_half() -> None:
    """In the shape a film has."""
    left, right = (picture(colour) for colour in ("red", "blue"))
    with Image.open(BytesIO(side_by_side(left, right))) as stage:
        assert stage.size == (1280, 720)
        red, blue = stage.getpixel((320, 360)), stage.getpixel((960, 360))
    assert red[0] > 200 > 60 > red[2]
    assert blue[2] > 200 > 60 > blue[0]


def picture(colour: str) -> bytes:
    out = BytesIO()
    Image.new("RGB", (768, 1024), colour).save(out, "PNG")
    return out.getvalue()
