"""The transparency of one picture given to another: upscalers paint what was transparent black.

Pure: bytes to bytes.
"""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from darkroom.media.formats.pictures import open_picture
from darkroom.media.formats.pixels import FAITHFUL, plain


def may_be_transparent(picture: bytes) -> bool:
    """Return whether the picture has room for transparency, by its header."""
    with open_picture(picture) as opened:
        return bool(opened.has_transparency_data)


def with_transparency_of(picture: bytes, original: bytes) -> bytes:
    """Make `picture` as transparent as the other is in the same places; both were verified before."""
    with open_picture(original) as opened:
        alpha = plain(opened).convert("RGBA").getchannel("A")
    with open_picture(picture) as opened:
        kept_in = "WEBP" if opened.format == "WEBP" else "PNG"  # a JPEG has no transparency
        image = plain(opened).convert("RGBA")
    image.putalpha(alpha.resize(image.size, Image.Resampling.LANCZOS))
    out = BytesIO()
    image.save(out, kept_in, **FAITHFUL[kept_in])
    return out.getvalue()
