"""What is done to pictures, with Pillow and without any model: enlarged, or cut out of their background."""

from __future__ import annotations

import io
import warnings

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from .bench import Drawn, Source
from .pictures import encode

# Assumed: fal's own limits are not published. These keep the simulator small.
_MAX_EDGE = 4096
_MAX_RESULT_EDGE = 6144
_MASK_SIZE = (256, 256)
_TOLERANCE = 48  # of 255, in the channel that differs most


def enlarge(source: Source, *, factor: float, format: str) -> Drawn:
    """Enlarge the picture. Raise Rejection."""
    # Transparency stays, so that the steps of a chain may come in any order.
    picture = opened(source, max_edge=min(_MAX_EDGE, int(_MAX_RESULT_EDGE / factor)))
    size = (round(picture.width * factor), round(picture.height * factor))
    return drawn(picture.resize(size, Image.Resampling.LANCZOS), format)


def cut_out(source: Source, *, format: str) -> tuple[Drawn, Drawn]:
    """Return the picture with its background transparent, and the mask. Raise Rejection."""
    picture = opened(source, max_edge=_MAX_EDGE).convert("RGB")
    mask = _foreground(picture)
    picture.putalpha(mask)
    return drawn(picture, format), drawn(mask, "png")


def opened(source: Source, *, max_edge: int = _MAX_EDGE) -> Image.Image:
    """Decode the picture, upright. Raise Rejection."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(source.content), formats=("JPEG", "PNG", "WEBP", "GIF"))
        # Before it is decoded: a small file may be of any size.
        if max(picture.size) > max_edge:
            raise source.refused("image_too_large", max_width=max_edge, max_height=max_edge)
        picture.load()
    except Image.DecompressionBombError as error:
        raise source.refused("image_too_large", max_width=max_edge, max_height=max_edge) from error
    except (OSError, ValueError, SyntaxError) as error:  # Pillow's words for what it cannot read
        raise source.refused("image_load_error") from error
    # A telephone's pictures lie on their side, and their EXIF data says so.
    upright = ImageOps.exif_transpose(picture)
    return upright.convert("RGBA" if upright.has_transparency_data else "RGB")


def drawn(picture: Image.Image, format: str) -> Drawn:
    content = encode(picture.convert("RGB") if format == "jpeg" else picture, format)
    return Drawn(content=content, width=picture.width, height=picture.height, format=format)


def _foreground(picture: Image.Image) -> Image.Image:
    """Mask all but what has the colours of the picture's upper edge and hangs together with it.

    If that is nothing or everything, mask a disc in the middle.
    """
    small = picture.resize(_MASK_SIZE, Image.Resampling.BILINEAR).filter(ImageFilter.GaussianBlur(1))
    edge = small.crop((0, 0, small.width, 8)).resize((small.width, 1), Image.Resampling.BOX).resize(_MASK_SIZE)
    difference = _brightest(ImageChops.difference(small, edge))
    mask = _unreached(difference.point(lambda value: 255 if value > _TOLERANCE else 0))
    if mask.getextrema() != (0, 255):
        mask = Image.new("L", _MASK_SIZE)
        ImageDraw.Draw(mask).ellipse((32, 32, 224, 224), fill=255)
    # The blur above has spread the foreground by a pixel.
    soft = mask.filter(ImageFilter.MinFilter(3)).filter(ImageFilter.GaussianBlur(1))
    return soft.resize(picture.size, Image.Resampling.BICUBIC)


def _unreached(mask: Image.Image) -> Image.Image:
    """Return in white what no way through black leads to from the upper corners."""
    for corner in ((0, 0), (mask.width - 1, 0)):
        if mask.getpixel(corner) == 0:
            ImageDraw.floodfill(mask, corner, 1)
    return mask.point(lambda value: 0 if value == 1 else 255)


def _brightest(picture: Image.Image) -> Image.Image:
    red, green, blue = picture.split()
    return ImageChops.lighter(ImageChops.lighter(red, green), blue)
