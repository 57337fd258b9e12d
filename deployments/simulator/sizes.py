"""How large a picture is to be, and how many billable units one of that size is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .cards.shapes import PRESETS

Arguments = Mapping[str, Any]  # an input that was checked, with the defaults filled in

# Assumed: the picture fal calls "square HD" is one megapixel.
MEGAPIXEL = 1024 * 1024
_RATIOS = {"16:9": "landscape_16_9", "9:16": "portrait_16_9", "4:3": "landscape_4_3", "3:4": "portrait_4_3"}


def size_of(arguments: Arguments) -> tuple[int, int]:
    """Return width and height of what is asked for: `auto`, and what says nothing of it, is a square."""
    chosen = arguments.get("image_size")
    # 512: the default of either edge in fal's schema.
    if isinstance(chosen, Mapping):
        return int(chosen.get("width", 512)), int(chosen.get("height", 512))
    if chosen is None:
        chosen = _RATIOS.get(str(arguments.get("aspect_ratio")))
    return PRESETS.get(str(chosen), PRESETS["square_hd"])


def megapixels(width: int, height: int) -> int:
    """Return the megapixels that a picture is charged by, rounded up."""
    return math.ceil(width * height / MEGAPIXEL)
