"""The training of a LoRA as it is ordered (`flows/train_lora.py`), and what each of its calls is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from darkroom.errors import BadInput
from darkroom.flows.parts.form import shown
from darkroom.flows.parts.trained_style import PAINTER
from darkroom.ledger import OPERATOR
from darkroom.media.archives import LONGEST_CAPTION
from darkroom.media.training_images import FEWEST_IMAGES, MOST_IMAGES, called
from darkroom.providers.models import find_model
from darkroom.providers.web.model import LONGEST_URL

KIND = "train-lora"
ZIPPED = "archive"
TRAINER = "fal-ai/flux-lora-fast-training"
CHECK, TRAIN, TEST, GRID = "check", "train", "test", "grid"
# What a trigger word is asked to show where nobody says. The seeds are always the same: versions can be compared.
OF_A_SUBJECT = (
    "a portrait of {word}, soft studio light",
    "{word} outdoors on a sunny day, full view",
    "{word} in a quiet street at night, rain, reflections",
    "{word}, watercolour on white paper",
)
OF_A_STYLE = (
    "a fox in the snow, in the style of {word}",
    "a harbour town at dawn, in the style of {word}",
    "a still life with pears, in the style of {word}",
    "a portrait of an old sailor, in the style of {word}",
)

Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{1,39}$")]
Source = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_URL)]
Archive = Annotated[Source, Field(title="Id or address")] | None
Sources = Annotated[list[Source], Field(max_length=MOST_IMAGES)]
Caption = Annotated[str, StringConstraints(max_length=LONGEST_CAPTION)]
Captions = Annotated[dict[str, Caption], Field(max_length=MOST_IMAGES)]
Steps = Annotated[int, Field(ge=100, le=4000)]
TestPrompt = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
TestPrompts = Annotated[list[TestPrompt], Field(max_length=4)]


TRIGGER_WORD = shown(
    "Trigger word",
    "What calls it up in a prompt: a word of no meaning, e.g. `mochi_cat`. Letters, digits, _ and -, 2 to 40.",
)
IMAGES = shown("Pictures", "4 to 50: ids of uploads (ast_…), or addresses on the web. Or give an archive instead.", [])
ARCHIVE = shown("Archive", "A zip of 4 to 50 pictures, captions as .txt of the same name: an id or an address.", None)
CAPTIONS = shown(
    "Captions",
    "What a picture shows, by its name in the archive or its place among the pictures from 0. Empty: the trainer's.",
    {},
)
STEPS = shown("Steps", "100 to 4000. More: closer to the pictures, and less free.", 1000)
STYLE = shown("A style", "The pictures have a style in common, not somebody or something.", False)
TEST_PROMPTS = shown("Test prompts", "Up to 4 pictures to judge it by. Empty: four of ours.", [])
USER = shown("User", "Who it is for: a user's name or id.", OPERATOR)


@dataclass(frozen=True, kw_only=True)
class Given:
    """What was ordered. `sources`: ids of files and addresses on the web, by the field they were given in."""

    sources: Mapping[str, str]
    captions: Mapping[str, str]

    @property
    def zipped(self) -> bool:
        return ZIPPED in self.sources


def is_asset(source: str) -> bool:
    return source.startswith("ast_")


class Training(BaseModel):
    """What a LoRA is trained with."""

    model_config = ConfigDict(extra="forbid")

    trigger_word: Word = TRIGGER_WORD
    images: Sources = IMAGES
    archive: Archive = ARCHIVE
    captions: Captions = CAPTIONS
    steps: Steps = STEPS
    style: bool = STYLE
    test_prompts: TestPrompts = TEST_PROMPTS

    def check(self) -> None:
        """What can be known without looking at the pictures. Raises BadInput."""
        if self.trigger_word.startswith("lora_"):
            raise BadInput("It reads like the id of a LoRA. Choose another word.", field="trigger_word")
        if bool(self.images) == bool(self.archive):
            raise BadInput("Give either images or an archive.", field="images")
        if self.images and len(self.images) < FEWEST_IMAGES:
            raise BadInput(f"Give {FEWEST_IMAGES} to {MOST_IMAGES} pictures.", field="images")
        for field, source in self.given().sources.items():
            if not is_asset(source) and not source.startswith(("https://", "http://")):
                raise BadInput("Give the id of an upload (ast_…), or an address on the web.", field=field)

        for place in self.captions if self.images else ():
            if place not in {str(n) for n in range(len(self.images))}:
                raise BadInput("Name a picture's place among the images, from 0.", field=f"captions.{place[:80]}")

    def given(self) -> Given:
        """The pictures, each by the field in which it was given: so errors name them."""
        sources = {f"images.{n}": source for n, source in enumerate(self.images)}
        return Given(sources={ZIPPED: self.archive} if self.archive else sources, captions=self.captions)

    def prompts(self) -> list[str]:
        """Of the test pictures, each with the trigger word."""
        ours = OF_A_STYLE if self.style else OF_A_SUBJECT
        given = self.test_prompts or [prompt.format(word=self.trigger_word) for prompt in ours]
        return [called(prompt, self.trigger_word) for prompt in given]

    def training(self, archive: object) -> dict[str, Any]:
        """The trainer's input."""
        given = {"trigger_word": self.trigger_word, "steps": self.steps, "is_style": self.style}
        return {"images_data_url": archive, **given}

    def pictures(self, weights: object) -> list[dict[str, Any]]:
        """The inputs of the test pictures."""
        return [
            {"prompt": prompt, "image_size": "square_hd", "seed": n, "loras": [{"path": weights, "scale": 1.0}]}
            for n, prompt in enumerate(self.prompts(), start=1)
        ]

    def costs(self) -> list[tuple[str, str, Decimal]]:
        """What, of which model, and what it should cost at most, in USD."""
        trainer, painter = find_model(TRAINER), find_model(PAINTER)
        training = trainer.estimate(trainer.validate(self.training("asset:ast_0")))
        tests = [painter.estimate(painter.validate(each)) for each in self.pictures("asset:ast_0")]
        return [
            ("The training", TRAINER, training),
            (f"{len(tests)} test pictures", PAINTER, sum(tests, Decimal(0))),
        ]

    def estimate(self) -> Decimal:
        return sum((cost for _, _, cost in self.costs()), Decimal(0))
