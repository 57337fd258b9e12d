"""Small pictures of pictures and films, to be looked at in lists. Each was verified before it was stored."""

from __future__ import annotations

from enum import StrEnum
from io import BytesIO
from typing import IO

from PIL import Image

from darkroom.extras import needs_extra
from darkroom.media.resize import smaller

QUALITY = 80
TRANSPARENT = ("LA", "RGBA")


class Form(StrEnum):
    """What a small picture is written as; the value ends its name."""

    WEBP = "webp"
    JPEG = "jpg"

    @property
    def content_type(self) -> str:
        return "image/webp" if self is Form.WEBP else "image/jpeg"


def of_picture(content: bytes, *, width: int, form: Form) -> bytes:
    """Make a picture at most that wide, and never larger than it was."""
    return _written(smaller(content, max_width=width), form)


def of_film(file: IO[bytes], *, width: int, form: Form) -> bytes:
    """Make a picture of a film's first, at most that wide. Raise NeedsHuman where what reads it is not installed."""
    with needs_extra("film"):
        from darkroom.media.formats.films import first_frame
    frame = first_frame(file)
    height = max(1, round(frame.height * width / frame.width))
    return _written(frame.resize((width, height)) if width < frame.width else frame, form)


def _written(image: Image.Image, form: Form) -> bytes:
    out = BytesIO()
    if form is Form.WEBP:
        image.save(out, "WEBP", quality=QUALITY)
    else:
        _on_white(image).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode not in TRANSPARENT:
        return image
    whole = image.convert("RGBA")
    white = Image.new("RGBA", whole.size, "white")
    return Image.alpha_composite(white, whole).convert("RGB")
