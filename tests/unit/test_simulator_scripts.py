"""What the simulator writes where a language model would: it obeys its schema, and speaks of what it was asked."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from darkroom.deployments.simulator.script_writer import gist_of, write

PROMPT = "Write a debate.\nTopic: pineapple on pizza\nBrands: Fizz Cola and Moo Milk\nAnswer in English."


class Mood(StrEnum):
    CALM = "calm"
    LOUD = "loud"


class Line(BaseModel):
    speaker: Literal["a", "b"]
    text: Annotated[str, Field(max_length=60)]
    mood: Mood | None = None


class Side(BaseModel):
    brand: str
    mascot_prompt: Annotated[str, Field(min_length=20, max_length=200)]


class Script(BaseModel):
    title: Annotated[str, Field(max_length=40)]
    topic: str
    side_a: Side
    side_b: Side
    lines: Annotated[list[Line], Field(min_length=4, max_length=8)]
    motion: str
    closing: Annotated[str, Field(min_length=200, max_length=220)]
    seconds: Annotated[int, Field(ge=6, le=10)]
    loudness: Annotated[float, Field(gt=0, lt=1)]


@pytest.fixture(scope="module")
def script() -> Script:
    return Script.model_validate(write(Script.model_json_schema(), PROMPT))


def test_a_script_obeys_its_schema(script: Script) -> None:
    """Lengths, ranges, enumerations, references and options: pydantic accepts it."""
    assert 4 <= len(script.lines) <= 8
    assert script.seconds == 8


def test_a_script_is_about_its_topic_and_its_brands(script: Script) -> None:
    """Each side has its own brand, and they take turns."""
    assert script.topic == "pineapple on pizza"
    assert (script.side_a.brand, script.side_b.brand) == ("Fizz Cola", "Moo Milk")
    assert "Fizz Cola" in script.side_a.mascot_prompt
    assert [line.speaker for line in script.lines[:3]] == ["a", "b", "a"]
    assert any("Moo Milk" in line.text for line in script.lines)


@pytest.mark.parametrize(
    ("prompt", "topic", "brands"),
    [
        (PROMPT, "pineapple on pizza", ("Fizz Cola", "Moo Milk")),
        ('topic: "tea?"\nbrand a: "Fizz"\nbrand b: "Moo"', "tea", ("Fizz", "Moo")),
        ('"Fizz" and "Moo" debate "is tea better than coffee?"', "is tea better than coffee", ("Fizz", "Moo")),
        ("- **Topic**: tea\n- **Brands**: Fizz, Moo", "tea", ("Fizz", "Moo")),
        ("Say something", "Say something", ("the first", "the second")),
    ],
)
def test_what_a_prompt_is_about_is_found(prompt: str, topic: str, brands: tuple[str, str]) -> None:
    """By its labels, else by its quotation marks."""
    gist = gist_of(prompt)
    assert (gist.topic, gist.brands) == (topic, brands)


def test_a_schema_that_turns_on_itself_has_an_end() -> None:
    """Deep enough for any script."""
    schema = {"$ref": "#/$defs/Node", "$defs": {"Node": {"properties": {"next": {"$ref": "#/$defs/Node"}}}}}
    assert isinstance(write(schema, PROMPT)["next"], dict)
