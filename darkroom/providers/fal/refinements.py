"""What cards cannot say of some models of fal's: each refinement is one function, here, for the endpoints it names.

It is given the model by its card of the day and returns a fuller one: narrower bounds of the input, so that a wrong one
is found before it is paid; what an input usually comes to; what files must come back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from darkroom.media.formats import Kind
from darkroom.models import CardModel, InputProblem, Refinement, picture_count

REFINEMENTS: dict[str, Refinement] = {}

WORDS = {"minLength": 1, "maxLength": 4000}
# About what a picture comes to: the unit is a dollar, and its tokens are counted only once it is made.
PICTURE_USD = {"low": Decimal("0.02"), "medium": Decimal("0.07")}  # `auto` may turn out high
HIGH_USD = Decimal("0.19")


def refines(*endpoints: str) -> Callable[[Refinement], Refinement]:
    """Register the function for these models."""

    def register(refinement: Refinement) -> Refinement:
        REFINEMENTS.update(dict.fromkeys(endpoints, refinement))
        return refinement

    return register


@refines("fal-ai/flux/schnell", "fal-ai/flux-lora")
def flux(model: CardModel) -> CardModel:
    return replace(
        model.narrowed(
            prompt=WORDS,
            image_size=_sides(minimum=64, maximum=2048),
            seed={"minimum": 0},
            loras={"maxItems": 8},
        ),
        outputs={"images": Kind.IMAGE},
        patience=_minutes(10, 30),
    )


@refines("fal-ai/flux/dev")
def flux_dev(model: CardModel) -> CardModel:
    return replace(flux(model), draft="fal-ai/flux/schnell")


@refines("openai/gpt-image-2")
def gpt_image(model: CardModel) -> CardModel:
    """Return the model with its sizes, and with what a picture comes to: it is billed by tokens, as dollars."""

    def check(input: Mapping[str, Any]) -> Iterator[InputProblem]:
        size = input.get("image_size")
        if not isinstance(size, Mapping):
            return
        width, height = size["width"], size["height"]
        # Rules between the two sides, which JSON Schema cannot say.
        if max(width, height) > 3 * min(width, height):
            yield _wrong("image_size", "takes sides that differ by 3:1 at most", "choose a less narrow size")
        elif not 655_360 <= width * height <= 8_294_400:
            yield _wrong("image_size", "takes 655,360 to 8,294,400 pixels", "choose e.g. 1024 × 1024")

    return replace(
        model.narrowed(prompt=WORDS, image_size=_sides(minimum=16, maximum=3840, multipleOf=16)),
        check=check,
        usual_units=lambda input: picture_count(input) * PICTURE_USD.get(str(input.get("quality")), HIGH_USD),
        outputs={"images": Kind.IMAGE},
        patience=_minutes(15, 45),
    )


@refines("fal-ai/clarity-upscaler", "fal-ai/esrgan")
def upscaler(model: CardModel) -> CardModel:
    return replace(model, outputs={"image": Kind.IMAGE}, patience=_minutes(10, 30))


@refines("fal-ai/birefnet/v2")
def birefnet(model: CardModel) -> CardModel:
    """Return the model as one that makes a picture of a picture, without the mask beside it."""

    def check(input: Mapping[str, Any]) -> Iterator[InputProblem]:
        if input.get("operating_resolution") == "2304x2304" and input.get("model") != "General Use (Dynamic)":
            yield _wrong("operating_resolution", "takes 2304x2304 with one model", "use `General Use (Dynamic)`")

    narrowed = model.narrowed(output_mask={"const": False}, output_format={"enum": ["png", "webp"]})
    return replace(narrowed, check=check, outputs={"image": Kind.IMAGE}, patience=_minutes(10, 30))


@refines("fal-ai/flux-lora-fast-training")
def lora_training(model: CardModel) -> CardModel:
    """Return the model with its two files, weights first: without its config a LoRA is a half one."""
    # We build a zip, whatever else the trainer unpacks.
    narrowed = model.narrowed(
        trigger_word={"minLength": 1, "maxLength": 100}, data_archive_format={"enum": ["zip", None]}
    )
    outputs = {"diffusers_lora_file": Kind.WEIGHTS, "config_file": Kind.CONFIG}
    return replace(narrowed, outputs=outputs, patience=_minutes(30, 120))


@refines("fal-ai/kling-video/v2.5-turbo/pro/image-to-video")
def kling(model: CardModel) -> CardModel:
    return replace(model, outputs={"video": Kind.VIDEO}, patience=_minutes(15, 60))


def _sides(**bounds: int) -> dict[str, Any]:
    """Return bounds of the sides of a size that is given in pixels; a named one has none."""
    return {"properties": {"width": bounds, "height": bounds}, "required": ["width", "height"]}


def _minutes(start: int, deadline: int) -> tuple[timedelta, timedelta]:
    return timedelta(minutes=start), timedelta(minutes=deadline)


def _wrong(field: str, problem: str, remedy: str) -> InputProblem:
    return InputProblem(field=field, problem=problem, remedy=remedy)
