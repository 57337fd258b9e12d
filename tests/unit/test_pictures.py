"""Pictures made smaller and clean, looked at by their pixels."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from PIL import Image, ImageCms
from web_shop import picture

from darkroom.media.formats import Media, verify
from darkroom.media.resize import resize, square

RED, BLUE = (200, 30, 30), (30, 30, 200)


def halves(size: tuple[int, int] = (400, 200), mode: str = "RGB") -> Image.Image:
    """Red to the left, blue to the right."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image.convert(mode)


def saved(image: Image.Image, name: str = "PNG", **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, name, **options)
    return out.getvalue()


def resized(content: bytes, *, max_width: int = 100, quality: int = 85) -> tuple[Media, Image.Image]:
    media = resize(verify(content), max_width=max_width, quality=quality)
    image = Image.open(BytesIO(media.content))
    image.load()
    assert (media.width, media.height) == image.size
    assert verify(media.content) == media
    return media, image


def near(pixel: Any, colour: tuple[int, ...], *, off: int = 6) -> bool:
    return all(abs(one - other) <= off for one, other in zip(pixel, colour, strict=True))


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_a_picture_becomes_as_wide_as_it_may_be(name: str) -> None:
    """Its format and its proportions stay."""
    media, image = resized(saved(halves(), name))
    assert (image.format, image.size) == (name, (100, 50))
    assert media.content_type == f"image/{name.lower()}"
    left, right = image.convert("RGB").getpixel((20, 25)), image.convert("RGB").getpixel((80, 25))
    assert near(left, RED) and near(right, BLUE)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_a_smaller_picture_is_not_made_larger(name: str) -> None:
    """It is written anew all the same, without what it carried."""
    assert resized(saved(halves((60, 30)), name))[1].size == (60, 30)


def test_a_picture_of_one_line_stays_one() -> None:
    """No side becomes nothing."""
    assert resized(picture("PNG", size=(3000, 1)))[1].size == (100, 1)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stands_upright(name: str, orientation: int) -> None:
    """As a browser shows it: turned by what its metadata say, and then as wide as it may be."""
    turned = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    lying = halves()
    for move in turned.get(orientation, []):
        lying = lying.transpose(move)
    exif = Image.Exif()
    exif[0x0112] = orientation
    _, image = resized(saved(lying, name, exif=exif.tobytes()))
    assert image.size == (100, 50)
    assert near(image.convert("RGB").getpixel((20, 25)), RED)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_nothing_of_what_a_picture_carried_is_left(name: str) -> None:
    """Where it was taken, with what, its profile, its comments."""
    exif = Image.Exif()
    exif[0x0110] = "camera of a stranger"
    exif.get_ifd(0x8825)[1] = "N"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options: dict[str, Any] = {"exif": exif.tobytes(), "icc_profile": profile}
    if name == "JPEG":
        options["comment"] = b"a comment of a stranger"
    media, image = resized(saved(halves(), name, **options))
    assert b"stranger" not in media.content
    assert not image.getexif()
    assert not {"icc_profile", "comment", "exif", "xmp"} & set(image.info)


def test_colours_are_those_that_were_meant() -> None:
    """In a profile where red and green have changed places the numbers mean other colours; sRGB is written."""
    swapped = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(swapped[128:132], "big")
    entries = {bytes(swapped[at : at + 4]): at for at in range(132, 132 + 12 * count, 12)}
    red, green = entries[b"rXYZ"], entries[b"gXYZ"]
    swapped[red : red + 4], swapped[green : green + 4] = b"gXYZ", b"rXYZ"
    _, image = resized(saved(Image.new("RGB", (200, 200), (255, 0, 0)), "PNG", icc_profile=bytes(swapped)))
    assert near(image.getpixel((50, 50)), (0, 255, 0))


@pytest.mark.parametrize("profile", [b"", b"not a profile", bytes(200)])
def test_a_profile_that_is_none_is_passed_over(profile: bytes) -> None:
    """The picture stays what it is."""
    _, image = resized(saved(halves(), "JPEG", icc_profile=profile))
    assert near(image.getpixel((20, 25)), RED)


@pytest.mark.parametrize(
    ("mode", "name", "written"),
    [
        ("1", "PNG", "L"),
        ("L", "PNG", "L"),
        ("L", "JPEG", "L"),
        ("LA", "PNG", "LA"),
        ("P", "PNG", "RGB"),
        ("RGBA", "PNG", "RGBA"),
        ("RGBA", "WEBP", "RGB"),
        ("CMYK", "JPEG", "RGB"),
    ],
)
def test_every_kind_of_pixels_is_taken(mode: str, name: str, written: str) -> None:
    """Palettes and print colours become what every browser shows; what shines through still does."""
    image = resized(saved(halves(mode=mode), name))[1]
    assert (image.mode, image.size) == (written, (100, 50))


def test_grey_of_sixteen_bits_keeps_its_shades() -> None:
    """It is not cut off at the first 255 of 65,535."""
    _, image = resized(saved(Image.new("I;16", (200, 100), 0x8000), "PNG"))
    assert (image.mode, image.getpixel((10, 10))) == ("L", 128)


def test_what_is_transparent_stays_so() -> None:
    """By an alpha channel, by a palette's colour, by a colour that stands for nothing."""
    clear = Image.new("RGBA", (200, 100), (0, 0, 0, 0))
    clear.paste(RED, (0, 0, 100, 100))
    palette = clear.convert("RGB").convert("P")
    keyed = Image.new("RGB", (200, 100), RED)
    keyed.paste((1, 2, 3), (100, 0, 200, 100))
    for content in (
        saved(clear),
        saved(clear, "WEBP"),
        saved(palette, transparency=palette.getpixel((150, 50))),
        saved(keyed, transparency=(1, 2, 3)),
    ):
        image = resized(content)[1].convert("RGBA")
        assert image.getpixel((80, 25))[3] == 0
        assert near(image.getpixel((20, 25)), (*RED, 255))


@pytest.mark.parametrize("name", ["PNG", "WEBP"])
def test_of_an_animation_the_first_picture_stays(name: str) -> None:
    """A product is not shown by what moves."""
    second = Image.new("RGB", (400, 200), "black")
    _, image = resized(saved(halves(), name, save_all=True, append_images=[second]))
    assert getattr(image, "n_frames", 1) == 1
    assert near(image.convert("RGB").getpixel((20, 25)), RED)


def test_less_quality_is_fewer_bytes() -> None:
    """Of the formats that lose something."""
    noise = Image.effect_noise((300, 300), 80).convert("RGB")
    for name in ("JPEG", "WEBP"):
        content = saved(noise, name, quality=95)
        fine, coarse = (len(resized(content, max_width=300, quality=quality)[0].content) for quality in (90, 30))
        assert coarse < fine * 0.7


def test_the_same_picture_gives_the_same_bytes() -> None:
    """So that what was imported twice is known by its hash."""
    content = saved(halves(), "JPEG")
    assert resized(content)[0].sha256 == resized(content)[0].sha256


@pytest.mark.parametrize(("name", "size"), [("JPEG", (400, 200)), ("PNG", (200, 400)), ("WEBP", (30, 60))])
def test_a_square_is_the_middle_of_a_picture(name: str, size: tuple[int, int]) -> None:
    """As large as asked for, whatever it was; cut evenly, left and right or above and below."""
    media = verify(square(saved(halves(size), name), side=64))
    image = Image.open(BytesIO(media.content)).convert("RGB")
    assert (media.content_type, image.size) == ("image/jpeg", (64, 64))
    assert near(image.getpixel((8, 32)), RED, off=12) and near(image.getpixel((56, 32)), BLUE, off=12)


def test_a_square_that_is_see_through_stays_so() -> None:
    """And one that lies on its side is put upright first."""
    clear = Image.new("RGBA", (300, 100), (0, 0, 0, 0))
    media = verify(square(saved(clear), side=32))
    assert media.content_type == "image/png"
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = Image.open(BytesIO(square(saved(halves(), "JPEG", exif=exif), side=32))).convert("RGB")
    assert near(lying.getpixel((16, 4)), RED, off=12) and near(lying.getpixel((16, 28)), BLUE, off=12)
