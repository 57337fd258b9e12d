"""Two pictures become the one a film begins with: side by side, each in its half."""

from __future__ import annotations

from io import BytesIO

from PIL import Image, ImageOps

from darkroom.media.formats.pictures import open_picture
from darkroom.media.formats.pixels import plain

SIZE = (1280, 720)  # pixels: what a film model makes of it has this shape
SEAM = 4
QUALITY = 92


def side_by_side(left: bytes, right: bytes) -> bytes:
    """Draw the two pictures side by side, as a JPEG.

    Of each it shows the middle, as large as fits its half; both were verified before.
    """
    stage = Image.new("RGB", SIZE, "white")
    half = (SIZE[0] - SEAM) // 2
    for content, at in ((left, 0), (right, SIZE[0] - half)):
        with open_picture(content) as picture:
            # The upper part of an upright picture has the face.
            fitted = ImageOps.fit(plain(picture).convert("RGB"), (half, SIZE[1]), centering=(0.5, 0.3))
        stage.paste(fitted, (at, 0))
    out = BytesIO()
    stage.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()
