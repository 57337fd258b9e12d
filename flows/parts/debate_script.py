"""What is said in a debate, and by whom: the script as a model writes it, and what it is asked with.

An answer that does not obey the schema counts as failed, and is asked for anew
(`darkroom/providers/gemini/answers.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

LONGEST_LINE = 56  # letters: about ten words, four seconds
LETTERS_PER_SECOND = 15  # of a voice that is in no hurry
ROUNDS = {5: 2, 10: 3}  # by the film's seconds: then it is shown two or three times under the voice

Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=2, max_length=LONGEST_LINE)]
Look = Annotated[str, StringConstraints(strip_whitespace=True, min_length=10, max_length=400)]


# Not a list of lines: so the schema alone makes both sides speak, and in turn.
class Round(BaseModel):
    model_config = ConfigDict(extra="forbid")

    first: Line = Field(description=f"What the first side says: one short sentence, {LONGEST_LINE} characters at most.")
    second: Line = Field(description=f"What the second side answers, {LONGEST_LINE} characters at most.")


class Script(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=90)] = Field(
        description="The video's title, 90 characters at most."
    )
    mascot_first: Look = Field(description="How the first side's mascot looks, for a painter who knows neither brand.")
    mascot_second: Look = Field(description="How the second side's mascot looks, plainly different from the first.")
    scene: Annotated[str, StringConstraints(strip_whitespace=True, min_length=10, max_length=400)] = Field(
        description="How both move while they speak, for a film of a few seconds without a cut."
    )
    rounds: list[Round] = Field(min_length=2, max_length=3)
    summary: Annotated[str, StringConstraints(strip_whitespace=True, min_length=10, max_length=300)] = Field(
        description="What the debate comes to, in one sentence."
    )

    def lines(self, brands: Sequence[str]) -> list[tuple[str, str]]:
        """Return who says what, in order."""
        first, second = brands
        return [line for each in self.rounds for line in ((first, each.first), (second, each.second))]

    def spoken(self) -> str:
        """Write it for a voice: a line for each, which it pauses between."""
        return "\n".join(text for each in self.rounds for text in (each.first, each.second))


SCHEMA: dict[str, Any] = Script.model_json_schema()

WRITER = (
    "You write very short, friendly and funny debates between the mascots of two brands. Nobody is insulted, nothing "
    "untrue is said of a real product. The lines are spoken aloud: no stage directions, no names before a line. "
    "Mascots are figures, never logos or written words."
)


def assignment(topic: str, brands: Sequence[str], *, rounds: int, style: str) -> str:
    """Write what the model is asked for."""
    first, second = brands
    return (
        f"Topic: {topic}\n"
        f"Brands: {first} and {second}\n"
        f"Write the debate in {rounds} rounds: {first} is the first side and begins, {second} answers. "
        f"Each line has {LONGEST_LINE} characters at most. The mascots are drawn in this style: {style}."
    )


def longest_spoken(rounds: int) -> str:
    """Return as many letters as a script may have, for what its voice costs at most."""
    # With the line break behind each, which is paid like a letter.
    return "x" * (2 * rounds * (LONGEST_LINE + 1))
