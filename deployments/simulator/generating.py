"""Models that draw a picture from a prompt."""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from .bench import Bench, Drawn, Made
from .book import Entry
from .outcomes import Rejection
from .pictures import Look, Picture, draw
from .retouching import opened
from .sizes import Arguments, megapixels, size_of
from .weights import NotWeights, palette_of_weights

_SEED_BITS = 31
# At full scale a little of the picture's own colours stays, so that hills of one colour are still hills.
_STRENGTH = 0.8
# The simulator counts no tokens: this is about what square pictures of 1024 pixels have come to at fal.
_PICTURE_USD = {"low": Decimal("0.006"), "medium": Decimal("0.053"), "high": Decimal("0.211")}
_EDIT_USD = Decimal("0.219")
FIXED_PICTURE = Picture(prompt="The same picture for everybody", seed=1, width=1024, height=768)


async def generate(bench: Bench, entry: Entry, arguments: Arguments) -> Made:
    return await _generate(bench, entry, arguments)


async def generate_with_loras(bench: Bench, entry: Entry, arguments: Arguments) -> Made:
    """Each LoRA turns the picture's colours towards those it was trained on, by as much as its scale says."""
    looks = tuple(_look(bench, entry, arguments, number) for number in range(len(arguments["loras"])))
    return await _generate(bench, entry, arguments, looks=looks)


async def generate_by_tokens(bench: Bench, entry: Entry, arguments: Arguments) -> Made:
    """OpenAI's models have no seed to tell, and are charged by tokens: the billable units are dollars."""
    # They are looked at, and nothing is drawn of them: what is no picture is refused.
    for number, url in enumerate(arguments.get("image_urls", ())):
        await bench.work(opened, bench.read(entry, url, place=("image_urls", number)))
    images = await _images(bench, entry, _asked_for(bench, arguments, seed=new_seed()), arguments)
    usd = _EDIT_USD if "image_urls" in arguments else _PICTURE_USD.get(arguments["quality"], _PICTURE_USD["high"])
    return Made(body={"images": images}, billable_units=str(usd * arguments["num_images"]))


def check_gpt_size(arguments: Arguments) -> None:
    """Raise Rejection for a picture that is too long, too small or too large."""
    chosen = arguments["image_size"]
    if not isinstance(chosen, Mapping):
        return
    width, height = chosen["width"], chosen["height"]
    # Bounds of the two together, which no schema can state.
    message = None
    if max(width, height) > 3 * min(width, height):
        message = "Value error, the aspect ratio must be between 1:3 and 3:1"
    elif not 655_360 <= width * height <= 8_294_400:
        message = "Value error, the picture must have between 655360 and 8294400 pixels"
    if message:
        raise Rejection("value_error", place=("image_size",), given=dict(chosen), message=message)


async def _generate(bench: Bench, entry: Entry, arguments: Arguments, *, looks: tuple[Look, ...] = ()) -> Made:
    """FLUX tells the seed it took, and what its safety checker thought; of its files less than others."""
    seed = arguments.get("seed", new_seed())
    images = await _images(bench, entry, _asked_for(bench, arguments, seed=seed, looks=looks), arguments)
    body = {
        "images": [_without_file(image) for image in images],
        "timings": {"inference": entry.seconds},
        "seed": seed,
        "has_nsfw_concepts": [entry.faults.flagged] * len(images),
        "prompt": arguments["prompt"],
    }
    return Made(body=body, billable_units=str(arguments["num_images"] * megapixels(*size_of(arguments))))


async def _images(bench: Bench, entry: Entry, pictures: list[Picture], arguments: Arguments) -> list[dict[str, Any]]:
    """Draw the pictures, then publish them."""
    # In this order: a request that fails half-way leaves no file behind.
    drawn = [await drawn_by(bench, picture) for picture in pictures]
    return [bench.publish_image(entry, each, inline=arguments["sync_mode"]) for each in drawn]


def new_seed() -> int:
    return random.getrandbits(_SEED_BITS)


def _asked_for(bench: Bench, arguments: Arguments, *, seed: int, looks: tuple[Look, ...] = ()) -> list[Picture]:
    if bench.fixed_pictures:
        return [FIXED_PICTURE] * arguments["num_images"]
    width, height = size_of(arguments)
    picture = functools.partial(Picture, prompt=arguments["prompt"], width=width, height=height, looks=looks)
    return [picture(seed=seed + n, format=arguments["output_format"]) for n in range(arguments["num_images"])]


async def drawn_by(bench: Bench, picture: Picture) -> Drawn:
    # The fixed one is drawn once, then a look-up.
    content = draw(picture) if picture is FIXED_PICTURE else await bench.work(draw, picture)
    return Drawn(content=content, width=picture.width, height=picture.height, format=picture.format)


def _look(bench: Bench, entry: Entry, arguments: Arguments, number: int) -> Look:
    lora = arguments["loras"][number]
    weights = bench.read(entry, lora["path"], place=("loras", number, "path"))
    try:
        return Look(palette=palette_of_weights(weights.content), strength=min(1.0, lora.get("scale", 1)) * _STRENGTH)
    except NotWeights as error:
        # Assumed: which type fal gives this is not known.
        raise weights.refused("value_error", message=f"Failed to load LoRA weights: {error}") from error


def _without_file(image: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in image.items() if name not in ("file_name", "file_size")}
