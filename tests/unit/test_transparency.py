"""The transparency of one picture given to another, looked at by its pixels."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from darkroom.media.formats import verify
from darkroom.media.transparency import may_be_transparent, with_transparency_of


def saved(image: Image.Image, name: str = "PNG") -> bytes:
    out = BytesIO()
    image.save(out, name)
    return out.getvalue()


def cut_out() -> Image.Image:
    image = Image.new("RGBA", (60, 40))
    image.paste((200, 30, 30, 255), (20, 10, 40, 30))
    return image


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_a_painted_picture_becomes_as_transparent_as_it_was_before(name: str) -> None:
    """However much larger it is; a JPEG, which cannot be transparent, becomes a PNG."""
    painted = Image.new("RGB", (240, 160), (200, 30, 30))
    made = with_transparency_of(saved(painted, name), saved(cut_out()))
    media = verify(made)
    assert (media.width, media.height, media.content_type) == (
        240,
        160,
        f"image/{'png' if name == 'JPEG' else name.lower()}",
    )
    image = Image.open(BytesIO(made))
    assert image.getpixel((5, 5))[3] == 0
    red, _, _, alpha = image.getpixel((120, 80))
    assert red > 180 and alpha == 255


@pytest.mark.parametrize(
    ("content", "room"),
    [
        (saved(cut_out()), True),
        (saved(cut_out(), "WEBP"), True),
        (saved(cut_out().convert("RGB")), False),
        (saved(cut_out().convert("RGB"), "JPEG"), False),
        (saved(cut_out().quantize()), True),
    ],
)
def test_whether_a_picture_may_be_transparent_is_in_its_header(content: bytes, room: bool) -> None:
    """An alpha channel, or a palette with a transparent colour."""
    assert may_be_transparent(content) is room
