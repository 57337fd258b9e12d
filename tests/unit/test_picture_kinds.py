"""Pictures of every kind, as people have them: what is kept of each, and what is refused.

Those in `tests/fixtures/pictures` are from reports. The others are made here.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from picture_files import BLUE, RED, failure, halves, near, noise, saved, shown
from PIL import Image

from darkroom.errors import DarkroomError, Refused, Unverified
from darkroom.media.contact_sheet import Sample, contact_sheet
from darkroom.media.film.split_screen import side_by_side
from darkroom.media.formats import pictures, verify
from darkroom.media.resize import resize, square
from darkroom.media.watermark import Mark, watermark

CASES = Path(__file__).parents[1] / "fixtures" / "pictures"
MADE = frozenset({"HEIF", "AVIF", "TIFF", "BMP", "GIF"})


# -- the reports -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "size", "notes"),
    [
        ("gray16.png", "PNG", (640, 480), ["had more than 8 bits of grey for a pixel, which were scaled to 8"]),
        ("missing-eoi.jpg", "JPEG", (640, 480), ["had no end marker; all its pixels are there"]),
        ("picture.avif", "JPEG", (640, 480), ["was AVIF", "is kept as JPEG"]),
        ("picture.gif", "PNG", (640, 480), ["was GIF, of which the first picture is taken", "is kept as PNG"]),
        (
            "png-ancillary-bad-crc.png",
            "PNG",
            (640, 480),
            ["had a wrong checksum beside its pixels (tEXt), which was left out"],
        ),
        ("png-icc-1.5mb.png", "PNG", (400, 400), ["had a colour profile of more than 1 MiB, which was left out"]),
        ("png-itxt-xmp-2mb.png", "PNG", (640, 480), ["came with text, which was left out"]),
    ],
)
def test_what_was_reported_is_taken_and_what_was_done_is_told(
    name: str, kind: str, size: tuple[int, int], notes: list[str]
) -> None:
    """And what is kept is read by every program, and no second time changed."""
    media = verify((CASES / name).read_bytes(), metadata=False)
    image = shown(media)
    assert (image.format, image.size, list(media.notes)) == (kind, size, notes)
    assert not {"exif", "xmp", "icc_profile", "comment", "XML:com.adobe.xmp", "parameters"} & set(image.info)
    assert len(set(image.convert("L").resize((8, 8)).tobytes())) > 1 or name == "png-icc-1.5mb.png"
    again = verify(media.content, metadata=False)
    assert (again.content, again.notes) == (media.content, ())


def test_what_only_begins_as_heic_is_refused_by_its_kind() -> None:
    """The one of the reports has no picture in it."""
    error = failure((CASES / "picture.heic").read_bytes())
    assert (type(error), error.message) == (Unverified, "the file does not decode as HEIC")


# -- kinds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize(
    ("kind", "how", "kept"),
    [
        ("HEIF", {"quality": 95}, "JPEG"),
        ("AVIF", {"quality": 95}, "JPEG"),
        ("GIF", {}, "PNG"),
        ("BMP", {}, "PNG"),
        ("TIFF", {}, "PNG"),
        ("TIFF", {"compression": "tiff_lzw"}, "PNG"),
        ("TIFF", {"compression": "tiff_adobe_deflate"}, "PNG"),
        ("TIFF", {"compression": "jpeg", "quality": 95}, "PNG"),
    ],
)
def test_other_kinds_are_kept_as_the_same_picture(kind: str, how: dict[str, Any], kept: str, metadata: bool) -> None:
    """As a JPEG where they have lost something already, else as a PNG."""
    media = verify(saved(halves(), kind, **how), metadata=metadata)
    image = shown(media)
    assert (image.format, image.size) == (kept, (300, 200))
    assert near(image.getpixel((70, 100)), RED) and near(image.getpixel((230, 100)), BLUE)
    assert media.notes[0].startswith(f"was {'HEIC' if kind == 'HEIF' else kind}")
    assert media.notes[-1] == f"is kept as {kept}"


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("TIFF", mode) for mode in ("1", "L", "LA", "P", "RGBA", "CMYK", "LAB", "YCbCr")),
        *(("BMP", mode) for mode in ("1", "L", "P", "RGB")),
        *(("GIF", mode) for mode in ("1", "L", "P", "RGB")),
        *(("AVIF", mode) for mode in ("RGB", "RGBA")),
        *(("HEIF", mode) for mode in ("L", "RGB", "RGBA")),
    ],
)
def test_every_kind_of_pixels_becomes_what_every_program_shows(kind: str, mode: str) -> None:
    """Palettes, print colours, Lab."""
    with Image.open(BytesIO(verify(saved(halves(mode), kind)).content)) as image:
        assert image.mode in ("L", "RGB")
        light = image.convert("L")
        assert abs(light.getpixel((70, 100)) - 80) < 45 or mode == "1"


@pytest.mark.parametrize("kind", ["HEIF", "AVIF", "GIF", "TIFF"])
def test_what_is_transparent_stays_so(kind: str) -> None:
    """It is no JPEG then."""
    clear = Image.new("RGBA", (200, 100), (0, 0, 0, 0))
    clear.paste(RED, (0, 0, 100, 100))
    image = shown(verify(saved(clear, kind)))
    assert image.format == "PNG"
    assert image.convert("RGBA").getpixel((150, 50))[3] < 8
    assert near(image.convert("RGBA").getpixel((50, 50)), (*RED, 255))


def test_of_several_pictures_the_first_is_taken() -> None:
    """A GIF's first frame, a TIFF's first page; and it is told."""
    second = Image.new("RGB", (300, 200), "black")
    for kind in ("GIF", "TIFF", "AVIF"):
        media = verify(saved(halves(), kind, save_all=True, append_images=[second]))
        assert near(shown(media).convert("RGB").getpixel((70, 100)), RED)
        assert " of which the " in "".join(media.notes)


@pytest.mark.parametrize("kind", sorted(MADE))
@pytest.mark.parametrize("part", [0.3, 0.8])
def test_pixels_cut_short_stay_refused(kind: str, part: float) -> None:
    """In every kind, whatever its decoder raises."""
    content = saved(noise(), kind)
    assert isinstance(failure(content[: int(len(content) * part)]), Unverified)


@pytest.mark.parametrize("kind", sorted(MADE))
def test_too_many_pixels_stay_refused(kind: str) -> None:
    """In every kind, by its header."""
    assert failure(saved(noise(), kind), max_pixels=9999).code == "too_many_pixels"


def in_runs(width: int, height: int) -> bytes:
    """A BMP of few bytes: a run of one pixel to a line, and the rest of the line is left out."""
    body = bytes((1, 1, 0, 0)) * height + b"\0\1"
    start = 14 + 40 + 1024
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    palette = bytes(4) + bytes((30, 30, 200, 0)) + bytes(1016)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + palette + body


def test_a_bmp_in_runs_is_taken_up_to_what_is_decoded_in_time() -> None:
    """Pillow reads those in Python: fifty million pixels in 28 kB would keep it busy for a minute."""
    image = shown(verify(in_runs(300, 200)))
    assert (image.size, image.getpixel((0, 0)), image.getpixel((9, 9))) == ((300, 200), RED, (0, 0, 0))
    assert failure(in_runs(7000, 7000)).code == "too_many_pixels"


def test_a_large_tiff_is_one_too() -> None:
    """In the format for more than 4 GB."""
    content = saved(halves(), "TIFF", big_tiff=True)
    assert content.startswith(b"II+")
    assert shown(verify(content)).size == (300, 200)


@pytest.mark.parametrize("kind", sorted(MADE))
def test_damage_is_told_as_that(kind: str) -> None:
    """Nothing but our own errors gets out, whatever is in a file behind its first bytes."""
    content = saved(noise(), kind)
    for start in range(12, min(len(content), 600), 7):
        broken = content[:start] + b"\xff\x00\x80\x7f" * 3 + content[start + 12 :]
        with suppress(DarkroomError):
            verify(broken)


@pytest.mark.parametrize(
    "content", [b"BM, said the man", b"GIF, they said", b"\0\0\0\x18ftypisom\0\0\0\0mp42", b"II*", b"<svg/>", b"%PDF"]
)
def test_what_is_of_no_kind_is_refused(content: bytes) -> None:
    """With the kinds that are taken."""
    error = failure(content)
    assert (type(error), error.code) == (Refused, "wrong_type")
    assert "JPEG, PNG or WebP" in error.message and "HEIC, AVIF, GIF, TIFF or BMP" in error.message


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b'<?xml version="1.0"?>\n<svg/>', "an SVG drawing"),
        (b"<?xml?><!----><!-- a - b\n-->\n<!DOCTYPE svg>\n<svg/>", "an SVG drawing"),
        (b"<?xml?><!-- <svg/> --><note/>", "XML"),
        (b"%PDF-1.7", "a PDF"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 picture"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"\0\0\1\0\1\0", "an icon"),
        (b"<html><body>not found", "a web page"),
        (b"\x1f\x8b\x08", "compressed with gzip"),
    ],
)
def test_what_is_another_kind_is_called_that(content: bytes, kind: str) -> None:
    """Who sent it knows what to do then."""
    assert failure(content).message.endswith(f"or BMP, but {kind}")


def test_comments_without_end_tell_no_more_than_one() -> None:
    """Nor take more time than a moment: in all groupings of thirty, it would be minutes, and of a hundred for ever."""
    began = time.process_time()
    assert failure(b"<?xml?>" + b"<!---->" * 26 + b"<note/>").message.endswith("but XML")
    assert time.process_time() - began < 2


def test_what_is_written_anew_stays_within_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be a PNG within it is a JPEG, as fine as goes; or a WebP, if it is transparent."""
    content = saved(noise((300, 300)), "TIFF")
    monkeypatch.setattr(pictures, "LARGEST_WRITTEN", 40_000)
    media = verify(content)
    assert (media.content_type, len(media.content) <= 40_000) == ("image/jpeg", True)
    seen_through = noise((300, 300))
    seen_through.putalpha(99)
    media = verify(saved(seen_through, "TIFF"))
    assert (media.content_type, len(media.content) <= 40_000) == ("image/webp", True)


def test_who_meets_no_heic_does_not_load_its_library() -> None:
    """Nor that of AVIF: they take time and memory at every start."""
    unwanted = {"pillow_heif", "PIL.AvifImagePlugin", "PIL.TiffImagePlugin"}
    code = f"import sys, darkroom.media.formats; sys.exit(not {unwanted}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- grey ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_of_sixteen_bits_is_scaled(kind: str) -> None:
    """Not cut off at the first 255 of 65,535."""
    scan = Image.new("I;16", (200, 100), 0x8000)
    scan.paste(Image.new("I;16", (100, 100), 0x2000), (0, 0))
    image = shown(verify(saved(scan, kind), metadata=False))
    assert (image.mode, image.getpixel((10, 10)), image.getpixel((150, 10))) == ("L", 32, 128)


@pytest.mark.parametrize(("mode", "low", "high"), [("F", 0.0, 1.0), ("F", -3.0, 900.0), ("I", 0, 1 << 20)])
def test_measurements_are_scaled_to_what_there_is(mode: str, low: float, high: float) -> None:
    """Floating point, and more than 16 bits: their darkest is black, their lightest white."""
    measured = Image.new(mode, (100, 100), low)
    measured.putpixel((1, 1), high)
    assert shown(verify(saved(measured, "TIFF"))).getextrema() == (0, 255)


def test_a_result_of_sixteen_bits_is_kept_as_it_came_and_shown_scaled() -> None:
    """A depth map is paid for with all its bits; where it is looked at it is not white."""
    content = saved(Image.new("I;16", (300, 300), 0x4000))
    assert verify(content).content == content
    small = resize(verify(content), max_width=100).content
    sheet = contact_sheet([Sample(content=content, label="")] * 2, title="")
    seen = {"resize": small, "square": square(content, side=64), "watermark": watermark(content, Mark(opacity=0))}
    for name, made in {**seen, "split screen": side_by_side(content, content)}.items():
        with Image.open(BytesIO(made)) as image:
            assert near(image.convert("RGB").getpixel((20, 20)), (64, 64, 64)), name
    with Image.open(BytesIO(sheet)) as image:
        assert near(image.getpixel((200, 300)), (64, 64, 64))
