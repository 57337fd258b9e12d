"""The model that makes a film of a picture."""

from __future__ import annotations

import zlib

from .bench import Bench, Made, Source
from .book import Entry
from .films import Film, Move, film
from .retouching import opened
from .sizes import Arguments

# fal's page of Kling states these for every picture it takes.
_MAX_BYTES = 10 * 1024**2
_MIN_EDGE = 300


async def kling(bench: Bench, entry: Entry, arguments: Arguments) -> Made:
    """Charged by the second of film."""
    source = bench.read(entry, arguments["image_url"], place=("image_url",))
    made = await bench.work(_film, source, seconds=int(arguments["duration"]), move=move_of(arguments["prompt"]))
    video = bench.publish_file(entry, made.content, content_type="video/mp4", name="output.mp4")
    return Made(body={"video": video}, billable_units=arguments["duration"])


def _film(source: Source, *, seconds: int, move: Move) -> Film:
    if len(source.content) > _MAX_BYTES:
        raise source.refused("file_too_large", max_size=_MAX_BYTES)
    if min(opened(source).size) < _MIN_EDGE:
        raise source.refused("image_too_small", min_width=_MIN_EDGE, min_height=_MIN_EDGE)
    return film(source.content, seconds=seconds, move=move)


def move_of(prompt: str) -> Move:
    """Return the camera's movement for the prompt: the same prompt makes the same film."""
    # By a checksum: `hash` differs from process to process.
    moves = list(Move)
    return moves[zlib.crc32(prompt.encode("utf-8", "replace")) % len(moves)]
