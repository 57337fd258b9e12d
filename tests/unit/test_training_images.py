"""Which pictures are fit to train with. All of them are real ones, a few hundred pixels wide."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from typing import Any

import pytest
from PIL import Image, ImageDraw

from darkroom.errors import BadInput
from darkroom.media import training_images
from darkroom.media.archives import LARGEST_IMAGE, Flaw, NamedImage, read_archive
from darkroom.media.training_images import build_archive, check_training_images, with_trigger


@cache  # its grain is drawn by chance
def drawn(number: int, *, size: int = 300) -> Image.Image:
    """A picture unlike those of other numbers: a disc at a place and in a colour of its own."""
    image = Image.effect_noise((size, size), 20).convert("RGB")
    left, top = (number % 5) * size // 6, (number // 5) * size // 6
    colour = (40 * number % 256, 90 * number % 256, 250 - 30 * number % 256)
    ImageDraw.Draw(image).ellipse((left, top, left + size // 3, top + size // 3), fill=colour)
    return image


def saved(image: Image.Image, kind: str = "JPEG", **how: Any) -> bytes:
    out = BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def camera() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0110] = "a stranger's camera"
    return exif


def named(*contents: bytes) -> list[NamedImage]:
    return [NamedImage(name=f"{number}.jpg", content=content) for number, content in enumerate(contents)]


def refused(images: list[NamedImage], *flaws: Flaw) -> BadInput:
    with pytest.raises(BadInput) as caught:
        check_training_images(images, flaws=flaws)
    return caught.value


@pytest.fixture(scope="module")
def good() -> list[bytes]:
    return [saved(drawn(number)) for number in range(6)]


def test_good_pictures_become_an_archive_of_numbers_with_their_captions(good: list[bytes]) -> None:
    """As they are, in their order: the names that people gave them stay here."""
    images = [
        NamedImage(name="Grandma's fox.jpg", content=good[0], caption="a fox, painted"),
        NamedImage(name="b.jpg", content=saved(drawn(9), "PNG")),
        *named(*good[1:3]),
    ]
    archive = build_archive(check_training_images(images).images)
    found = read_archive(BytesIO(archive)).images
    assert [image.name for image in found] == ["001.jpg", "002.png", "003.jpg", "004.jpg"]
    assert [image.caption for image in found] == ["a fox, painted", None, None, None]
    assert [image.content for image in found] == [image.content for image in images]
    assert archive == build_archive(check_training_images(images).images)


def test_captions_have_the_trigger_word_and_where_there_are_none_there_stay_none(good: list[bytes]) -> None:
    """Where it stands, or as `[trigger]`, or put in front; a picture without one beside others gets the word alone."""
    plain = list(check_training_images(named(*good)).images)
    assert with_trigger(plain, "tok-fox") == plain
    captions = ["a tok-fox in snow", "a tok-foxes' den", "[trigger] asleep", None, "tok-fox", "a fox"]
    images = [NamedImage(name=str(n), content=good[n], caption=caption) for n, caption in enumerate(captions)]
    assert [image.caption for image in with_trigger(check_training_images(images).images, "tok-fox")] == [
        "a tok-fox in snow",
        "tok-fox, a tok-foxes' den",
        "[trigger] asleep",
        "tok-fox",
        "tok-fox",
        "tok-fox, a fox",
    ]


def test_every_bad_picture_is_named_with_its_reason_in_one_error(good: list[bytes]) -> None:
    """Who has sent forty of them mends all at once."""
    bad = {
        "small.png": saved(drawn(7, size=200), "PNG"),
        "cut.jpg": good[5][:-2000],
        "text.jpg": b"<html>no picture</html>",
        "copy.jpg": good[0],
        "empty.jpg": b"",
    }
    images = named(*good[:5]) + [NamedImage(name=name, content=content) for name, content in bad.items()]
    error = refused(images, Flaw(name="gone.jpg", reason="is not there"))
    assert error.field == "images"
    assert error.message == (
        "6 files cannot be used: gone.jpg is not there; small.png has 200 × 200 pixels, and each side needs 256; "
        "cut.jpg does not decode: it is cut short or damaged; "
        "text.jpg cannot be stored: the file is not a JPEG, PNG or WebP picture, nor a HEIC, AVIF, GIF, TIFF or BMP, "
        "but a web page; "
        "copy.jpg is the same picture as 0.jpg; empty.jpg does not decode: it is cut short or damaged. "
        "Replace them or leave them out."
    )


def test_a_picture_that_is_too_large_is_refused_before_it_is_decoded(good: list[bytes]) -> None:
    """20 MiB are a lot for a picture that a trainer makes smaller anyway."""
    error = refused(named(*good, bytes(LARGEST_IMAGE + 1)))
    assert "6.jpg has more than 20 MiB" in error.message


@pytest.mark.parametrize(
    "again",
    [
        lambda image: saved(image, "PNG", compress_level=1),
        lambda image: saved(image.convert("RGBA"), "PNG"),
        lambda image: saved(image, "BMP"),
        lambda image: saved(image, "TIFF"),
        lambda image: saved(image, "WEBP", lossless=True),
        lambda image: saved(image.rotate(-90, expand=True), "PNG", exif=turned(8)),
    ],
    ids=["packed otherwise", "with alpha", "BMP", "TIFF", "WebP", "turned by its metadata"],
)
def test_the_same_pixels_in_another_file_are_the_same_picture(good: list[bytes], again: object) -> None:
    """They would only be learned twice as hard."""
    assert callable(again)
    error = refused(named(*good, saved(drawn(7), "PNG"), again(drawn(7))))
    assert error.message == ("One file cannot be used: 7.jpg is the same picture as 6.jpg. Replace it or leave it out.")


@pytest.mark.parametrize(
    "again",
    [
        lambda image: saved(image, quality=60),
        lambda image: saved(image.resize((280, 280)), "WEBP"),
        lambda image: saved(image.point(lambda value: min(value + 2, 255)), "PNG"),
    ],
    ids=["lower quality", "smaller", "the next one of a burst"],
)
def test_what_looks_alike_is_told_and_refuses_nothing(good: list[bytes], again: object) -> None:
    """It may be what is wanted; who says so is not told."""
    assert callable(again)
    images = named(*good, again(drawn(3)))
    checked = check_training_images(images)
    assert (len(checked.images), checked.notes) == (7, (Flaw(name="6.jpg", reason="looks like 3.jpg"),))
    assert check_training_images(images, allow_similar=True).notes == ()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_fine_textures_are_neither_the_same_nor_alike(kind: str) -> None:
    """Small copies of noise are all one grey: what differs is in the detail."""
    textures = [saved(Image.effect_noise((300, 300), 60), kind) for _ in range(5)]
    assert check_training_images(named(*textures)).notes == ()


def test_plain_grounds_look_alike() -> None:
    """They have no detail in which they could differ."""
    grounds = [saved(Image.new("RGB", (300, 300), (90 + shade, 90, 90)), "PNG") for shade in range(4)]
    assert [note.reason for note in check_training_images(named(*grounds)).notes] == ["looks like 0.jpg"] * 3


def test_scans_of_sixteen_bits_are_scaled_and_never_the_same() -> None:
    """Not even where they differ below the eight that a trainer gets."""
    scans = []
    for number in range(4):
        scan = (
            Image.linear_gradient("L").resize((300, 300)).convert("I").point(lambda value: value * 256).convert("I;16")
        )
        scan.putpixel((9, 9), 40_000 + number)
        scans.append(saved(scan, "PNG"))
    checked = check_training_images(named(*scans), allow_similar=True)
    assert {note.reason for note in checked.notes} == {
        "had more than 8 bits of grey for a pixel, which were scaled to 8"
    }
    with Image.open(BytesIO(checked.images[0].media.content)) as kept:
        assert (kept.mode, kept.getextrema()) == ("L", (0, 255))


def test_a_trainer_gets_nothing_but_pixels_upright(good: list[bytes]) -> None:
    """No place of a photograph goes to it, and no picture that lies on its side; what was changed is told."""
    lying = saved(drawn(8).resize((300, 400)).rotate(90, expand=True), exif=turned(6))
    placed = saved(drawn(9), exif=camera())
    checked = check_training_images(named(*good, lying, placed))
    assert [(note.name, note.reason) for note in checked.notes] == [
        ("6.jpg", "was turned upright, and what it came with was left out"),
        ("7.jpg", "came with EXIF or XMP, which was left out"),
    ]
    assert (checked.images[6].media.width, checked.images[6].media.height) == (300, 400)
    assert b"a stranger's" not in build_archive(checked.images)


def test_an_asset_that_is_named_twice_is_found(good: list[bytes]) -> None:
    """By its bytes, though the names are the same too."""
    twice = [NamedImage(name="ast_1", content=good[0])] * 2
    assert "ast_1 is the same picture as ast_1" in refused(named(*good[1:]) + twice).message


def test_pictures_that_differ_are_not_taken_for_one(good: list[bytes]) -> None:
    """Not by their common background."""
    assert len(check_training_images(named(*good)).images) == 6


@pytest.mark.parametrize("kind", ["P", "CMYK", "L", "LA"])
def test_pictures_of_every_mode_are_looked_at(good: list[bytes], kind: str) -> None:
    """Palettes, print colours and grey ones too."""
    odd = saved(
        drawn(8).convert(kind), "JPEG" if kind == "CMYK" else "PNG", **({"transparency": 0} if kind == "P" else {})
    )
    assert len(check_training_images(named(*good, odd)).images) == 7


@pytest.mark.parametrize(("count", "words"), [(0, "are 0 pictures"), (1, "is one picture"), (3, "are 3 pictures")])
def test_too_few_pictures_are_refused(good: list[bytes], count: int, words: str) -> None:
    """The trainer takes no less than four."""
    assert refused(named(*good[:count])).message == f"There {words}; a training takes 4 to 50."


def test_where_too_few_pictures_are_left_what_was_passed_over_is_told(good: list[bytes]) -> None:
    """It may be why."""
    with pytest.raises(BadInput) as caught:
        check_training_images(named(*good[:3]), notes=[Flaw(name="._3.jpg", reason="was passed over")])
    assert caught.value.message == "There are 3 pictures; a training takes 4 to 50. ._3.jpg was passed over."


def test_pictures_that_are_too_large_together_are_refused(good: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them may be as large as it may be, all of them not."""
    monkeypatch.setattr(training_images, "MOST_BYTES", sum(map(len, good)) - 1)
    assert refused(named(*good)).message == "Together they have more than 0 MiB. Make them smaller."


def test_too_many_pictures_are_refused() -> None:
    """Counted once they are known to be good: the bad ones are told first."""
    many = [saved(drawn(number, size=260), quality=50) for number in range(25)]
    shifted = [saved(drawn(number, size=260).rotate(180), quality=50) for number in range(26)]
    assert "There are 51 pictures" in refused(named(*many, *shifted)).message
