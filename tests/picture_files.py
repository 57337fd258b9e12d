"""Pictures as people have them, drawn here, and what any program shows of one that is kept."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any

import pillow_heif
import pytest
from PIL import Image

from darkroom.errors import DarkroomError
from darkroom.media.formats import Media, verify

RED, BLUE = (200, 30, 30), (30, 30, 200)


def halves(mode: str = "RGB", size: tuple[int, int] = (300, 200)) -> Image.Image:
    """Red to the left, blue to the right."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image.convert(mode)


def noise(size: tuple[int, int] = (100, 100)) -> Image.Image:
    return Image.effect_noise(size, 50).convert("RGB")


def saved(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    out = BytesIO()
    if kind == "HEIF":
        pillow_heif.from_pillow(image).save(out, **how)
    else:
        image.save(out, kind, **how)
    return out.getvalue()


def shown(media: Media) -> Image.Image:
    """As any program opens it, by nothing but its bytes."""
    with Image.open(BytesIO(media.content)) as image:
        image.load()
        assert (media.width, media.height) == image.size
        assert media.content_type == Image.MIME[image.format or ""]
        return image


def failure(content: bytes, **how: Any) -> DarkroomError:
    with pytest.raises(DarkroomError) as caught:
        verify(content, **how)
    return caught.value


def near(pixel: Any, colour: tuple[int, ...], *, off: int = 8) -> bool:
    return all(abs(one - other) <= off for one, other in zip(pixel, colour, strict=True))


def camera(orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0110] = "a stranger's camera"
    exif[0x0112] = orientation
    exif.get_ifd(0x8825)[1] = "N"
    return exif.tobytes()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def into_png(content: bytes, *chunks: bytes) -> bytes:
    """In front of the pixels, where a header's end is."""
    return content[:33] + b"".join(chunks) + content[33:]
