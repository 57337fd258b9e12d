"""Pictures made smaller and clean: upright, in sRGB, without metadata. Pure: bytes to bytes.

A picture from elsewhere carries more than what one sees: where it was taken, an orientation that not every program
obeys, a colour space that is not the web's. These are applied to the pixels, or dropped. Of an animation the first
picture stays.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from PIL import Image, ImageOps
from PIL.ExifTags import Base

from darkroom.media.formats import Media
from darkroom.media.formats.files import whole
from darkroom.media.formats.pictures import IMAGES, open_picture
from darkroom.media.formats.pixels import in_srgb, plain, without_palette

QUALITY = 85
FORMATS = {content_type: name for name, (content_type, _) in IMAGES.items()}
LYING = (5, 6, 7, 8)  # EXIF orientations in which width and height change places
REDUCING_GAP = 2.0  # how much larger than asked a cheap reduction leaves it for the good one; as Pillow's thumbnails


def resize(picture: Media, *, max_width: int, quality: int = QUALITY) -> Media:
    """Make a picture at most `max_width` pixels wide, in the same format, and never larger than it was.

    The picture was verified before. `quality` of JPEG and WebP, 1 to 100; PNG loses nothing.
    """
    name = FORMATS[picture.content_type]
    upright = smaller(picture.content, max_width=max_width)
    out = BytesIO()
    upright.save(out, name, **_options(name, quality))
    return whole(out.getvalue(), *IMAGES[name], width=upright.width, height=upright.height, notes=picture.notes)


def smaller(content: bytes, *, max_width: int) -> Image.Image:
    """Return the pixels of a picture that was verified before, at most that wide: upright, in sRGB, and clean."""
    with open_picture(content) as opened:
        profile = opened.info.get("icc_profile")
        small = in_srgb(_smaller(opened, max_width=max_width), profile)
    upright = ImageOps.exif_transpose(small)
    # Pillow's writers look here for what they were not given: profile, comment, transparent colour.
    upright.info.clear()
    return upright


def square(content: bytes, *, side: int, quality: int = QUALITY) -> bytes:
    """Cut out the middle of a picture that was verified before, `side` pixels wide and high.

    The result is a JPEG, or a PNG if it is see-through.
    """
    with open_picture(content) as opened:
        opened.draft("RGB", (side * 2, side * 2))
        fitted = ImageOps.fit(plain(opened), (side, side), Image.Resampling.LANCZOS)
    out = BytesIO()
    if fitted.has_transparency_data:
        fitted.save(out, "PNG")
    else:
        fitted.convert("RGB").save(out, "JPEG", quality=quality)
    return out.getvalue()


def _smaller(opened: Image.Image, *, max_width: int) -> Image.Image:
    """Scale the picture down. Keep its colours as they are, but as ones that can be averaged."""
    lying = opened.getexif().get(Base.Orientation) in LYING
    factor = min(1.0, max_width / (opened.height if lying else opened.width))
    size = (max(1, round(opened.width * factor)), max(1, round(opened.height * factor)))
    # A JPEG comes out of its decoder at a half, a quarter or an eighth, for a fraction of the work and the memory.
    opened.draft(None, (round(size[0] * REDUCING_GAP), round(size[1] * REDUCING_GAP)))
    return without_palette(opened).resize(size, Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)


def _options(name: str, quality: int) -> dict[str, Any]:
    return {} if name == "PNG" else {"quality": quality}
