"""Pictures that are a little damaged: passed over as browsers do beside the pixels, refused within them."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from picture_files import RED, camera, failure, halves, into_png, near, noise, saved, shown
from PIL import Image

from darkroom.errors import DarkroomError, Refused, Unverified
from darkroom.media.formats import verify
from darkroom.media.formats.containers import bare


@pytest.mark.parametrize("name", [b"tEXt", b"pHYs", b"gAMA", b"tIME", b"iTXt", b"eXIf", b"iCCP", b"tRNS", b"zzZz"])
@pytest.mark.parametrize("metadata", [True, False])
def test_a_wrong_checksum_beside_the_pixels_is_passed_over(name: bytes, metadata: bool) -> None:
    """As libpng does for browsers; it is told, and what is kept is sound."""
    content = into_png(saved(halves()), struct.pack(">I", 9) + name + b"a\0bcdefgh" + b"\1\2\3\4")
    media = verify(content, metadata=metadata)
    assert near(shown(media).convert("RGB").getpixel((70, 100)), RED, off=0)
    assert media.notes == (f"had a wrong checksum beside its pixels ({name.decode()}), which was left out",)


@pytest.mark.parametrize("name", [b"IHDR", b"PLTE", b"IDAT"])
@pytest.mark.parametrize("of_data", [True, False])
def test_a_wrong_checksum_of_the_pixels_is_not(name: bytes, of_data: bool) -> None:
    """What is said there cannot be left out."""
    content = bytearray(saved(halves("P")))
    at = content.index(name)
    content[at + 5 if of_data else at + 4 + int.from_bytes(content[at - 4 : at], "big")] ^= 0x55
    assert isinstance(failure(bytes(content)), Unverified | Refused)


@pytest.mark.parametrize("part", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_file_that_was_not_written_to_its_end_is_not(kind: str, part: float) -> None:
    """A download has its length before it has its content: what is missing is zeros, which decode."""
    content = saved(noise((600, 400)), kind)
    whole = int(len(content) * part)
    assert isinstance(failure(content[:whole].ljust(len(content), b"\0")), Unverified)


def test_a_png_without_its_end_is_whole_if_its_pixels_are() -> None:
    """As one of a writer that was stopped there."""
    content = saved(halves())
    media = verify(content[:-12])
    assert media.content == content
    assert isinstance(failure(content[:-30]), Unverified)


JPEGS: dict[str, Callable[[], bytes]] = {
    "baseline": lambda: saved(noise((96, 96)), "JPEG"),
    "progressive": lambda: saved(noise((96, 96)), "JPEG", progressive=True),
    "restarts": lambda: saved(noise((96, 96)), "JPEG", restart_marker_blocks=4),
    "grey": lambda: saved(noise((96, 96)).convert("L"), "JPEG"),
    "full colour": lambda: saved(noise((96, 96)), "JPEG", subsampling=0, quality=95),
    "with EXIF": lambda: saved(noise((96, 96)), "JPEG", exif=camera()),
}


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("cut", [1, 2])
def test_a_jpeg_without_its_end_marker_is_whole_if_its_pixels_are(kind: str, cut: int) -> None:
    """Half of the marker or all of it; it has one afterwards, and its pixels are what they were."""
    content = JPEGS[kind]()
    media = verify(content[:-cut])
    assert media.content == content
    assert media.notes == ("had no end marker; all its pixels are there",)


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("cut", [6, 10, 40, 200, 1000])
def test_a_jpeg_without_its_last_pixels_is_not(kind: str, cut: int) -> None:
    """A viewer would show them grey."""
    assert isinstance(failure(JPEGS[kind]()[:-cut]), Unverified)


@pytest.mark.parametrize("kind", ["baseline", "grey", "full colour", "with EXIF"])
def test_a_jpeg_that_was_cut_short_and_given_an_end_is_not(kind: str) -> None:
    """As some programs do; one whose last rows are of one colour is whole all the same."""
    content = JPEGS[kind]()
    assert isinstance(failure(content[: len(content) // 2] + b"\xff\xd9"), Unverified)
    noisy = noise((96, 96))
    noisy.paste("white", (0, 40, 96, 96))
    assert verify(saved(noisy, "JPEG")).notes == verify(saved(Image.new("RGB", (96, 96)), "JPEG")).notes == ()


def test_a_jpeg_that_ends_between_two_intervals_is_not() -> None:
    """What follows is no part of it unless it is the next interval, so a decoder makes up all the rest alike."""
    content = JPEGS["restarts"]()
    markers = [at for at in range(len(content)) if content[at] == 0xFF and 0xD0 <= content[at + 1] <= 0xD7]
    assert len(markers) > 4
    assert all(isinstance(failure(content[:at]), Unverified) for at in markers)


def test_a_progressive_jpeg_without_its_last_scans_is_not() -> None:
    """Cut short between two of them it decodes without a complaint, and is only coarse."""
    content = JPEGS["progressive"]()
    scans = [at for at in range(len(content)) if content[at : at + 2] == b"\xff\xda"]
    for scan in scans[1:]:
        tables = content.rfind(b"\xff\xc4", 0, scan)
        end = tables if tables > scans[scans.index(scan) - 1] else scan
        assert isinstance(failure(content[:end]), Unverified)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_whatever_stands_in_a_file_its_metadata_are_found_or_its_pixels_are_written_anew(kind: str) -> None:
    """No damage gets another error out of it."""
    content = saved(halves(), kind, exif=camera())
    for start in range(2, len(content), 5):
        broken = content[:start] + b"\xff\x00\x80" + content[start + 3 :]
        try:
            media = verify(broken, metadata=False)
        except DarkroomError:
            continue
        assert bare(media.content, kind).dropped == ()
