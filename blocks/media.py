"""Files of media, believed only once they were read to their end: what arrives and what we make goes through `verify`.

A type is what the bytes say, never what was declared. Sizes and pixels are bounded before anything is decoded.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO

from PIL import Image

from blocks.errors import Refused, Unverified

MAX_PIXELS = 50_000_000
IMAGES = {"JPEG": ("image/jpeg", "jpg"), "PNG": ("image/png", "png"), "WEBP": ("image/webp", "webp")}


class Kind(StrEnum):
    """What a file is for. Where it lies in the store begins with it: `images/…`."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    WEIGHTS = "weights"  # of a trained model: safetensors
    CONFIG = "config"  # JSON that goes with them
    ARCHIVE = "archive"  # zip


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file as a provider's output describes it: only the address is sure to be there. May be a `data:` URL."""

    url: str
    kind: Kind = Kind.IMAGE
    content_type: str | None = None
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, kw_only=True)
class Media:
    """A whole file. Type and measures are those of the decoded bytes, `sha256` is in hex."""

    content: bytes
    content_type: str
    extension: str
    sha256: str
    width: int | None = None  # pixels
    height: int | None = None
    seconds: float | None = None


def verify(content: bytes, kind: Kind = Kind.IMAGE, *, max_pixels: int = MAX_PIXELS) -> Media:
    """Raises Refused for what must not be stored, Unverified for what another try may bring whole."""
    if not content:
        raise Unverified("the file is empty")
    match kind:
        case Kind.IMAGE:
            return _image(content, max_pixels=max_pixels)
        case _:
            raise NotImplementedError(kind)


def _image(content: bytes, *, max_pixels: int) -> Media:
    name = _sniff(content)
    width, height = _decode(content, name, max_pixels=max_pixels)
    content_type, extension = IMAGES[name]
    return Media(
        content=content,
        content_type=content_type,
        extension=extension,
        sha256=hashlib.sha256(content).hexdigest(),
        width=width,
        height=height,
    )


def _decode(content: bytes, name: str, *, max_pixels: int) -> tuple[int, int]:
    try:
        with Image.open(BytesIO(content), formats=(name,)) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise _too_many_pixels(max_pixels)
            # A JPEG at an eighth of its scale: every entropy-coded byte is still read, at 40 % of the cost.
            image.draft(None, (1, 1))
            image.load()
            return width, height
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels(max_pixels) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        # Pillow has no error of its own: these are what its decoders raise for a damaged file.
        raise Unverified(f"the file does not decode as {name}") from error


def _sniff(content: bytes) -> str:
    if content.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "WEBP"
    raise Refused("the file is not a JPEG, PNG or WebP picture", code="wrong_type")


def _too_many_pixels(max_pixels: int) -> Refused:
    return Refused(f"the picture has more than {max_pixels} pixels", code="too_many_pixels")
