"""A mark on a picture, looked at by its pixels."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageCms

from darkroom.media.formats import verify
from darkroom.media.watermark import Mark, Position, undrawable, watermark

GREEN = (40, 120, 60)
FORMATS = pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])


def field(size: tuple[int, int] = (600, 400), mode: str = "RGB") -> Image.Image:
    return Image.new("RGB", size, GREEN).convert(mode)


def saved(image: Image.Image, name: str = "PNG", **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, name, **options)
    return out.getvalue()


def marked(content: bytes, **mark: Any) -> Image.Image:
    made = watermark(content, Mark(**mark))
    verify(made)
    image = Image.open(BytesIO(made))
    image.load()
    return image


def touched(image: Image.Image, before: Image.Image, *, by: int = 24) -> tuple[int, int, int, int]:
    """The box of what has changed by more than compression does."""
    changed = ImageChops.difference(image.convert("RGB"), before.convert("RGB")).convert("L")
    box = changed.point(lambda value: 255 if value > by else 0).getbbox()
    assert box is not None, "nothing was drawn"
    return box


@FORMATS
def test_a_picture_keeps_its_format_and_size(name: str) -> None:
    """A JPEG stays a JPEG, however it is marked."""
    image = marked(saved(field(), name))
    assert (image.format, image.size, image.mode) == (name, (600, 400), "RGB")
    touched(image, field())


def test_a_jpeg_with_several_pictures_in_it_is_a_jpeg() -> None:
    """As phones write them: a small one beside the large, or one for each eye."""
    content = saved(field(), "MPO", save_all=True, append_images=[field()])
    image = marked(content)
    assert (image.format, image.size) == ("JPEG", (600, 400))


@pytest.mark.parametrize("position", Position)
def test_it_stands_where_it_is_wanted(position: Position) -> None:
    """In one of nine places, with the margin to the edges it stands at."""
    left, top, right, bottom = touched(marked(saved(field()), position=position, margin=0.05), field())
    gaps = {"left": left, "right": 600 - right, "top": top, "bottom": 400 - bottom}
    for edge, gap in gaps.items():
        if edge in position:
            assert 20 <= gap <= 23
        else:
            assert gap > 23
    if "left" not in position and "right" not in position:
        assert abs(gaps["left"] - gaps["right"]) <= 4
    if "top" not in position and "bottom" not in position:
        assert abs(gaps["top"] - gaps["bottom"]) <= 4


@pytest.mark.parametrize("size", [(600, 400), (400, 600), (64, 64), (1200, 90), (16, 16), (1, 1)])
@pytest.mark.parametrize("text", ["AI generated", "x", "made by machines, looked at by people " * 5])
def test_words_shrink_until_they_fit(size: tuple[int, int], text: str) -> None:
    """Whatever the picture's shape: nothing is cut off, nothing reaches into the margins."""
    left, top, right, bottom = touched(marked(saved(field(size)), text=text, opacity=1), field(size), by=2)
    margin = round(0.03 * min(size))
    assert left >= margin and top >= margin and right <= size[0] - margin and bottom <= size[1] - margin


def test_letters_are_as_high_as_a_share_of_the_shorter_side() -> None:
    """Twice the picture, twice the letters."""
    small = touched(marked(saved(field((600, 400))), text="H"), field((600, 400)))
    large = touched(marked(saved(field((1200, 800))), text="H"), field((1200, 800)))
    assert large[3] - large[1] == pytest.approx(2 * (small[3] - small[1]), abs=3)


def test_words_can_be_read_on_white_and_on_black() -> None:
    """The letters are white, their edge is dark."""
    for colour in ("white", "black"):
        before = Image.new("RGB", (600, 400), colour)
        assert touched(marked(saved(before)), before, by=60)


@pytest.mark.parametrize("opacity", [0.2, 1.0])
def test_opacity_is_how_much_of_the_mark_is_seen(opacity: float) -> None:
    """A white logo on green is so much whiter."""
    logo = saved(Image.new("RGB", (100, 100), "white"))
    image = marked(saved(field()), logo=logo, opacity=opacity, position=Position.CENTER)
    expected = [round(value + (255 - value) * opacity) for value in GREEN]
    assert list(image.getpixel((300, 200))) == pytest.approx(expected, abs=2)


def test_an_invisible_mark_changes_nothing() -> None:
    """Opacity 0."""
    assert ImageChops.difference(marked(saved(field()), opacity=0), field()).getbbox() is None


def test_a_picture_keeps_its_transparency() -> None:
    """A background that was removed stays away, and the mark is seen on it all the same."""
    cut_out = Image.new("RGBA", (600, 400))
    cut_out.paste((200, 30, 30, 255), (200, 100, 400, 300))
    image = marked(saved(cut_out), opacity=1)
    assert image.mode == "RGBA"
    assert image.getpixel((10, 10))[3] == 0
    assert image.getpixel((300, 200)) == (200, 30, 30, 255)
    corner = image.getchannel("A").crop((400, 300, 600, 400))
    assert corner.getextrema()[1] == 255


@pytest.mark.parametrize("mode", ["P", "L", "LA", "1", "CMYK"])
def test_a_picture_of_few_or_other_colours_can_be_marked(mode: str) -> None:
    """A palette or grey has no place for the logo's colours."""
    name = "JPEG" if mode == "CMYK" else "PNG"
    logo = saved(Image.new("RGB", (100, 100), (250, 20, 20)))
    image = marked(saved(field(mode=mode), name), logo=logo, opacity=1, position=Position.CENTER)
    assert image.format == name
    red, green, blue = image.convert("RGB").getpixel((300, 200))
    assert red > 230 and green < 50 and blue < 50


def test_a_logo_keeps_its_proportions_and_its_transparency() -> None:
    """15 % of the shorter side high, and what is transparent in it is the picture."""
    logo = Image.new("RGBA", (400, 200))
    logo.paste((255, 255, 255, 255), (0, 0, 200, 200))
    image = marked(saved(field()), logo=saved(logo), opacity=1, position=Position.CENTER)
    left, top, right, bottom = touched(image, field())
    assert bottom - top == pytest.approx(60, abs=2)
    assert right - left == pytest.approx(60, abs=3)


def test_a_wide_logo_shrinks_until_it_fits() -> None:
    """Between the margins, and stays whole."""
    logo = saved(Image.new("RGB", (3000, 30), "white"))
    left, _, right, _ = touched(marked(saved(field()), logo=logo, height=0.9), field())
    assert (left, right) == (12, 588)


def test_a_lying_photograph_is_marked_as_it_is_looked_at() -> None:
    """A camera's orientation is applied, so that the words stand upright in the right corner."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    image = marked(saved(field((600, 400)), "JPEG", exif=exif), position=Position.BOTTOM_RIGHT)
    assert image.size == (400, 600)
    assert not image.getexif()
    left, top, _, _ = touched(image, field((400, 600)))
    assert left > 200 and top > 500


def test_a_colour_profile_is_applied() -> None:
    """The mark is drawn in the web's colours, and so the picture comes in them."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert "icc_profile" not in marked(saved(field(), "JPEG", icc_profile=lab)).info


@FORMATS
def test_the_same_mark_gives_the_same_bytes(name: str) -> None:
    """So that a paid step after it is known again by its content."""
    content = saved(field(), name)
    assert watermark(content, Mark()) == watermark(content, Mark())
    assert watermark(content, Mark()) != watermark(content, Mark(text="AI"))


@pytest.mark.parametrize(("text", "lacking"), [("© Jürgen Łoś, Ελλάδα, Россия — 2026…", ""), ("新作 🦊 新", "新作🦊")])
def test_what_the_font_lacks_can_be_asked(text: str, lacking: str) -> None:
    """Each once, so that nobody gets a picture with boxes for letters."""
    assert undrawable(text) == lacking
