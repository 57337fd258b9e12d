"""A user's pictures become a LoRA: a face, a thing or a style that `POST /v1/images` can be asked for by its word.

Triggered by `POST /v1/loras`, the Prefect UI, `prefect deployment run train-lora/on-demand -p trigger_word=… -p
'images=["ast_…", …]'`, or `python flows/train_lora.py WORD ast_… ast_… ast_… ast_…` on a running stack. Needs the
blocks `fal-account/default` and the media store. The pictures are brought and checked before anything is paid, the
price is shown, the trainer gets one archive; the run is suspended for the fifteen to thirty minutes it takes, and costs
nothing meanwhile. Then weights and test pictures are stored, and the LoRA is the next version of its trigger word.
Fails with every bad picture named, or with the provider's words; a training of which nobody knows whether it was paid
is never ordered again by itself.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from decimal import Decimal
from threading import Lock
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from blocks.archives import LONGEST_CAPTION
from blocks.catalogue import find_model
from blocks.contact_sheet import Sample, contact_sheet
from blocks.errors import BadInput, DarkroomError
from blocks.ledger import OPERATOR, Asset, Lane, Lora
from blocks.media import Kind
from blocks.training_images import FEWEST_IMAGES, MOST_IMAGES, build_archive, called, with_trigger
from blocks.web.model import LONGEST_URL
from flows.engine import Call, Inference, Job, RetryPolicy, drive
from flows.engine.resources import current
from flows.parts.form import shown
from flows.parts.trained_style import PAINTER
from flows.parts.training_pictures import ARCHIVE as ZIPPED
from flows.parts.training_pictures import Brought, Given, bring, check, is_asset

KIND = "train-lora"
TRAINER = "fal-ai/flux-lora-fast-training"
CHECK, TRAIN, TEST, GRID = "check", "train", "test", "grid"
# Two dollars: what surely failed is tried once more, what may be under way never.
TRAINING = RetryPolicy(attempts=2, first=timedelta(seconds=30), resubmit_expired=False)

CHECKING = Lock()  # for the memory: all pictures of a training lie there, and a large one as pixels
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


# -- the job ---------------------------------------------------------------------------------------------------------


def train(job: Job) -> dict[str, Any]:
    order = Training.model_validate(job.parameters)
    order.check()
    brought = bring(job, order.given())
    job.show("price", _price(order), description="What the training will cost")
    archive = job.make(CHECK, lambda: _archive(job, order, brought), kind=Kind.ARCHIVE)
    trained = job.infer(TRAINER, order.training(archive), step=TRAIN, retry=TRAINING, lane=Lane.TRAINING)
    lora, weights = _registered(job, order, trained)
    grid = _tested(job, order, lora, weights)
    current().ledger.loras.ready(lora.id, sample=grid.id)
    return {"lora_id": lora.id, "trigger_word": lora.trigger_word, "version": lora.version}


def _archive(job: Job, order: Training, brought: Brought) -> bytes:
    """What the trainer gets. Raises BadInput, which names every picture that is no good."""
    with CHECKING:
        images = with_trigger(check(job, order.given(), brought), order.trigger_word)
        get_run_logger().info("%s pictures are good; it will cost about $%.2f", len(images), order.estimate())
        job.progress(1, f"{len(images)} pictures checked")
        return build_archive(images)


def _registered(job: Job, order: Training, trained: Inference) -> tuple[Lora, Asset]:
    """The LoRA is the user's as soon as its weights are stored, whatever becomes of its test pictures: it is paid."""
    weights, config = job.store(trained)[:2]
    lora = current().ledger.loras.register(
        job.id, user_id=job.user_id, trigger_word=order.trigger_word, weights=weights.id, config=config.id
    )
    return lora, weights


def _tested(job: Job, order: Training, lora: Lora, weights: Asset) -> Asset:
    """The pictures to judge it by, side by side, on one sheet."""
    job.progress(99, "makes test pictures")
    pictures = _test_pictures(job, order, weights)

    def sheet() -> bytes:
        samples = [
            Sample(content=job.read(picture), label=f"{n}. {prompt}")
            for n, (picture, prompt) in enumerate(zip(pictures, order.prompts(), strict=True), start=1)
        ]
        return contact_sheet(samples, title=f"{lora.trigger_word}, version {lora.version} ({order.steps:,} steps)")

    return job.make(GRID, sheet)


def _test_pictures(job: Job, order: Training, weights: Asset) -> list[Asset]:
    """One that fails fails the training's job, but not before the others are stored: they are paid."""
    calls = [
        Call(step=f"{TEST}-{n}", endpoint=PAINTER, arguments=each)
        for n, each in enumerate(order.pictures(weights), start=1)
    ]
    pictures, failures = list[Asset](), list[DarkroomError]()
    for _, outcome in job.each(calls):
        if isinstance(outcome, DarkroomError):
            failures.append(outcome)
        else:
            pictures += job.store(outcome)
    if failures:
        raise failures[0]
    return pictures


def _price(order: Training) -> str:
    head = ["| What | Model | At most |", "| --- | --- | ---: |"]
    lines = [f"| {what} | `{model}` | ${cost:.2f} |" for what, model, cost in order.costs()]
    return "\n".join([*head, *lines, f"| **In all** | | **${order.estimate():.2f}** |"])


@flow(name=KIND, retries=0, log_prints=False)
def train_lora(
    trigger_word: Word = TRIGGER_WORD,
    images: Sources = IMAGES,
    archive: Archive = ARCHIVE,
    captions: Captions = CAPTIONS,
    steps: Steps = STEPS,
    style: bool = STYLE,
    test_prompts: TestPrompts = TEST_PROMPTS,
    user: str = USER,
) -> State[Any]:
    """A user's pictures become a LoRA."""
    order = Training(
        trigger_word=trigger_word,
        images=images,
        archive=archive,
        captions=captions,
        steps=steps,
        style=style,
        test_prompts=test_prompts,
    )
    order.check()  # wrong input ends here, before anything is on record
    return drive(train, parameters=order.model_dump(mode="json", exclude_defaults=True), user=user)


if __name__ == "__main__":
    train_lora(sys.argv[1], images=sys.argv[2:])
