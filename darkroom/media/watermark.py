"""A mark on a picture, words or a logo. Pure: bytes to bytes, and the same bytes for the same picture and mark.

The picture stays what it was: its format, its size as it is looked at, its transparency. The mark is as high as a share
of the picture's shorter side, and shrinks until it fits between the margins. White letters have a dark edge, so that
they can be read on anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

from darkroom.media.fonts import font_file
from darkroom.media.formats.pictures import open_picture, sniff
from darkroom.media.formats.pixels import FAITHFUL, plain

TEXT = "AI generated"
TEXT_HEIGHT = 0.06  # of the picture's shorter side
LOGO_HEIGHT = 0.15
OPACITY = 0.7
MARGIN = 0.03
_MEASURED_AT = 100  # pixels
_NOBODY_HAS = "\U0010ffff"  # not a character, so drawn as what stands for those a font lacks


class Position(StrEnum):
    TOP_LEFT = "top_left"
    TOP = "top"
    TOP_RIGHT = "top_right"
    LEFT = "left"
    CENTER = "center"
    RIGHT = "right"
    BOTTOM_LEFT = "bottom_left"
    BOTTOM = "bottom"
    BOTTOM_RIGHT = "bottom_right"


@dataclass(frozen=True, kw_only=True)
class Mark:
    """`logo`: a picture, drawn instead of the text. `height` and `margin` are shares of the picture's shorter side."""

    text: str = TEXT
    logo: bytes | None = None
    position: Position = Position.BOTTOM_RIGHT
    opacity: float = OPACITY
    height: float | None = None
    margin: float = MARGIN


def watermark(picture: bytes, mark: Mark) -> bytes:
    """Draw the mark on the picture. `picture`, and a logo, were verified before (`darkroom.media.formats`)."""
    name = sniff(picture)  # Pillow has another name for a JPEG with several pictures in it
    with open_picture(picture) as opened:
        image = _with_colours(plain(opened))
    margin = round(mark.margin * min(image.size))
    room = (max(1, image.width - 2 * margin), max(1, image.height - 2 * margin))
    drawn = _logo(mark, image.size, room) if mark.logo else _text(mark, image.size, room)
    drawn.thumbnail(room)  # hinted letters may be a pixel wider than was measured
    drawn = _faded(drawn, mark.opacity)
    place = _place(mark.position, drawn.size, image.size, margin=margin)
    if image.mode == "RGBA":
        image.alpha_composite(drawn, place)
    else:
        image.paste(drawn, place, drawn)
    out = BytesIO()
    image.save(out, name, **FAITHFUL[name])
    return out.getvalue()


def undrawable(text: str) -> str:
    """Return the characters that our font does not have: emoji, and most scripts of Asia."""
    font = _font(_MEASURED_AT)
    lacking = bytes(font.getmask(_NOBODY_HAS))
    return "".join(dict.fromkeys(each for each in text if bytes(font.getmask(each)) == lacking))


def _with_colours(image: Image.Image) -> Image.Image:
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _text(mark: Mark, size: tuple[int, int], room: tuple[int, int]) -> Image.Image:
    width, height = _ink(mark.text, _MEASURED_AT)[2:]
    fitting = min(room[0] / width, room[1] / height) * _MEASURED_AT
    letters = max(1.0, min((mark.height or TEXT_HEIGHT) * min(size), fitting))
    left, top, width, height = _ink(mark.text, letters)
    drawn = Image.new("RGBA", (width, height))
    pen = ImageDraw.Draw(drawn)
    pen.text(
        (-left, -top),
        mark.text,
        font=_font(letters),
        fill="white",
        stroke_width=_edge(letters),
        stroke_fill="#000000a0",
    )
    return drawn


def _ink(text: str, letters: float) -> tuple[int, int, int, int]:
    """Return left, top, width and height of what is drawn, in pixels; of blanks one pixel."""
    left, top, right, bottom = _font(letters).getbbox(text, stroke_width=_edge(letters))
    return math.floor(left), math.floor(top), max(1, math.ceil(right - left)), max(1, math.ceil(bottom - top))


def _edge(letters: float) -> float:
    return letters / 16


def _font(letters: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(font_file()), letters)


def _logo(mark: Mark, size: tuple[int, int], room: tuple[int, int]) -> Image.Image:
    with open_picture(mark.logo or b"") as opened:
        logo = plain(opened).convert("RGBA")
    factor = min((mark.height or LOGO_HEIGHT) * min(size) / logo.height, room[0] / logo.width, room[1] / logo.height)
    return logo.resize((max(1, int(logo.width * factor)), max(1, int(logo.height * factor))), Image.Resampling.LANCZOS)


def _faded(drawn: Image.Image, opacity: float) -> Image.Image:
    drawn.putalpha(drawn.getchannel("A").point(lambda alpha: alpha * opacity))
    return drawn


def _place(position: Position, drawn: tuple[int, int], size: tuple[int, int], *, margin: int) -> tuple[int, int]:
    return (
        _along(position, "left", "right", size[0] - drawn[0], margin),
        _along(position, "top", "bottom", size[1] - drawn[1], margin),
    )


def _along(position: Position, first: str, last: str, free: int, margin: int) -> int:
    """Return where the mark begins on one axis, of which so many pixels are free."""
    if first in position:
        return min(margin, free)
    return free - min(margin, free) if last in position else free // 2
