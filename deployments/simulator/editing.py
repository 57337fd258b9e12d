"""Models that make a new picture of a given one: upscalers, and the removal of the background."""

from __future__ import annotations

import random

from .bench import Bench, Made
from .book import Entry
from .retouching import cut_out, enlarge
from .sizes import Arguments, megapixels

_SEED_BITS = 31


async def clarity(bench: Bench, entry: Entry, arguments: Arguments) -> Made:
    """Enlarge the picture, charged by the megapixel of what comes out."""
    source = bench.read(entry, arguments["image_url"], place=("image_url",))
    drawn = await bench.work(enlarge, source, factor=arguments["upscale_factor"], format="png")
    body = {
        "image": bench.publish_image(entry, drawn),
        "seed": arguments.get("seed", random.getrandbits(_SEED_BITS)),
        "timings": {"inference": entry.seconds},
    }
    # Assumed: rounded up, as other models' are.
    return Made(body=body, billable_units=str(megapixels(drawn.width, drawn.height)))


async def esrgan(bench: Bench, entry: Entry, arguments: Arguments) -> Made:
    source = bench.read(entry, arguments["image_url"], place=("image_url",))
    drawn = await bench.work(enlarge, source, factor=arguments["scale"], format=arguments["output_format"])
    return Made(body={"image": bench.publish_image(entry, drawn)}, billable_units=_compute_seconds(entry))


async def birefnet(bench: Bench, entry: Entry, arguments: Arguments) -> Made:
    source = bench.read(entry, arguments["image_url"], place=("image_url",))
    picture, mask = await bench.work(cut_out, source, format=arguments["output_format"])
    inline = arguments["sync_mode"]
    body = {"image": bench.publish_image(entry, mask if arguments["mask_only"] else picture, inline=inline)}
    if arguments["output_mask"]:
        body["mask_image"] = bench.publish_image(entry, mask, inline=inline)
    return Made(body=body, billable_units=_compute_seconds(entry))


def _compute_seconds(entry: Entry) -> str:
    """Return the time it ran, which it is charged by."""
    # Here that is the latency.
    return f"{entry.seconds:.3f}"
