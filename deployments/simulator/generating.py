"""Models that draw a picture from a prompt."""

from __future__ import annotations

import functools
import random
from typing import Any

from .bench import Bench, Drawn, Made
from .book import Entry
from .models import FluxLoraInput, PictureInput
from .pictures import Look, Picture, draw
from .weights import NotWeights, palette_of_weights

_SEED_BITS = 31
# At full scale a little of the picture's own colours stays, so that hills of one colour are still hills.
_STRENGTH = 0.8
_FIXED_PICTURE = Picture(prompt="The same picture for everybody", seed=1, width=1024, height=768)


async def generate(bench: Bench, entry: Entry, arguments: PictureInput) -> Made:
    return await _generate(bench, entry, arguments)


async def generate_with_loras(bench: Bench, entry: Entry, arguments: FluxLoraInput) -> Made:
    """Each LoRA turns the picture's colours towards those it was trained on, by as much as its scale says."""
    looks = tuple(_look(bench, entry, arguments, number) for number in range(len(arguments.loras)))
    return await _generate(bench, entry, arguments, looks=looks)


async def generate_images_only(bench: Bench, entry: Entry, arguments: PictureInput) -> Made:
    """OpenAI's models have no seed to tell."""
    images = await _images(bench, entry, _asked_for(bench, arguments, seed=_new_seed()), arguments)
    return Made(body={"images": images}, billable_units=str(arguments.units()))


async def _generate(bench: Bench, entry: Entry, arguments: PictureInput, *, looks: tuple[Look, ...] = ()) -> Made:
    """FLUX tells the seed it took, and what its safety checker thought; of its files less than others."""
    seed = arguments.seed if arguments.seed is not None else _new_seed()
    images = await _images(bench, entry, _asked_for(bench, arguments, seed=seed, looks=looks), arguments)
    body = {
        "images": [_without_file(image) for image in images],
        "timings": {"inference": entry.seconds},
        "seed": seed,
        "has_nsfw_concepts": [False] * len(images),
        "prompt": arguments.prompt,
    }
    return Made(body=body, billable_units=str(arguments.units()))


async def _images(bench: Bench, entry: Entry, pictures: list[Picture], arguments: PictureInput) -> list[dict[str, Any]]:
    """Nothing is published before all is drawn."""
    drawn = [await _drawn(bench, picture) for picture in pictures]
    return [bench.publish_image(entry, each, inline=arguments.sync_mode) for each in drawn]


def _new_seed() -> int:
    return random.getrandbits(_SEED_BITS)


def _asked_for(bench: Bench, arguments: PictureInput, *, seed: int, looks: tuple[Look, ...] = ()) -> list[Picture]:
    if bench.fixed_pictures:
        return [_FIXED_PICTURE] * arguments.num_images
    width, height = arguments.size()
    picture = functools.partial(Picture, prompt=arguments.prompt, width=width, height=height, looks=looks)
    return [picture(seed=seed + n, format=arguments.output_format) for n in range(arguments.num_images)]


async def _drawn(bench: Bench, picture: Picture) -> Drawn:
    # The fixed one is drawn once, then a look-up.
    content = draw(picture) if picture is _FIXED_PICTURE else await bench.work(draw, picture)
    return Drawn(content=content, width=picture.width, height=picture.height, format=picture.format)


def _look(bench: Bench, entry: Entry, arguments: FluxLoraInput, number: int) -> Look:
    lora = arguments.loras[number]
    weights = bench.read(entry, lora.path, place=("loras", number, "path"))
    try:
        return Look(palette=palette_of_weights(weights.content), strength=min(1.0, lora.scale) * _STRENGTH)
    except NotWeights as error:
        # Assumed: which type fal gives this is not known.
        raise weights.refused("value_error", message=f"Failed to load LoRA weights: {error}") from error


def _without_file(image: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in image.items() if name not in ("file_name", "file_size")}
