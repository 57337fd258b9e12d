"""Pictures as people have them: of every kind, with all that programs write into them, and a little damaged.

Those in `tests/fixtures/pictures` are from reports. The others are made here.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pillow_heif
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from darkroom.errors import DarkroomError, Refused, Unverified
from darkroom.media.contact_sheet import Sample, contact_sheet
from darkroom.media.film.split_screen import side_by_side
from darkroom.media.formats import Media, pictures, verify
from darkroom.media.formats.containers import bare
from darkroom.media.formats.pictures import open_picture
from darkroom.media.resize import resize, square
from darkroom.media.watermark import Mark, watermark

CASES = Path(__file__).parents[1] / "fixtures" / "pictures"
RED, BLUE = (200, 30, 30), (30, 30, 200)
MADE = frozenset({"HEIF", "AVIF", "TIFF", "BMP", "GIF"})


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
    """A GIF's first frame, a TIFF's first page."""
    second = Image.new("RGB", (300, 200), "black")
    for kind in ("GIF", "TIFF"):
        image = shown(verify(saved(halves(), kind, save_all=True, append_images=[second])))
        assert near(image.getpixel((70, 100)), RED)


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


# -- what is beside the pixels ---------------------------------------------------------------------------------------


def with_text(image: Image.Image, **texts: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name, text, zip=True)
    info.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta>a stranger's</x:xmpmeta>", zip=True)
    return saved(image, pnginfo=info)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def into_png(content: bytes, *chunks: bytes) -> bytes:
    """In front of the pixels, where a header's end is."""
    return content[:33] + b"".join(chunks) + content[33:]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (with_text(halves(), workflow='{"a stranger\'s": 1}', parameters="x" * 3_000_000), "text"),
        (saved(halves(), exif=camera()), "EXIF"),
        (
            saved(halves(), "JPEG", quality=95, exif=camera(), xmp=b"a stranger's", comment=b"a stranger's"),
            "EXIF or XMP",
        ),
        (saved(halves(), "WEBP", lossless=True, exif=camera(), xmp=b"a stranger's"), "EXIF"),
        (saved(halves(), "JPEG", quality=95) + b"a stranger's film behind it", "what stood behind its end"),
        (saved(halves()) + b"a stranger's archive behind it", "what stood behind its end"),
        (saved(halves(), "WEBP", lossless=True) + b"a stranger's", "what stood behind its end"),
        (into_png(saved(halves()), chunk(b"prVW", b"a stranger's preview")), "other data"),
        (into_png(saved(halves()), chunk(b"caBX", b"a stranger's")), "C2PA"),
    ],
)
def test_metadata_are_left_out_of_what_is_kept_and_no_pixel_changes(content: bytes, told: str) -> None:
    """Where it was taken, the workflow that made it, a film behind its end."""
    media = verify(content, metadata=False)
    assert told in media.notes[0]
    assert b"stranger" not in media.content
    with open_picture(content) as before:
        assert shown(media).tobytes() == before.tobytes()
    assert verify(media.content, metadata=False).notes == ()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_that_carries_nothing_is_kept_to_the_byte(kind: str) -> None:
    """And so is any, where it is asked for."""
    content = saved(halves(), kind)
    assert verify(content, metadata=False).content == content
    content = saved(halves(), kind, exif=camera(6))
    assert verify(content).content == content


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_what_says_how_colours_are_meant_stays(kind: str) -> None:
    """Without its profile a picture is another one."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    media = verify(saved(halves(), kind, icc_profile=profile, exif=camera()), metadata=False)
    assert shown(media).info["icc_profile"] == profile
    assert b"stranger" not in media.content


def test_the_frames_of_an_animation_stay() -> None:
    """They are no metadata."""
    second = Image.new("RGB", (300, 200), "black")
    for kind in ("PNG", "WEBP"):
        content = saved(halves(), kind, save_all=True, append_images=[second])
        with Image.open(BytesIO(verify(content, metadata=False).content)) as image:
            assert image.n_frames == 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_picture_that_its_metadata_turn_is_turned(kind: str) -> None:
    """Before they are left out."""
    lying = halves().transpose(Image.Transpose.ROTATE_90)
    media = verify(saved(lying, kind, exif=camera(6), **({"quality": 95} if kind != "PNG" else {})), metadata=False)
    image = shown(media)
    assert image.size == (300, 200)
    assert near(image.getpixel((70, 100)), RED, off=12)
    assert b"stranger" not in media.content


def test_a_heic_stands_upright_once() -> None:
    """Its turning is in the file and in its EXIF: done by the decoder, and not again."""
    lying = halves().transpose(Image.Transpose.ROTATE_90)
    pillow_heif.register_heif_opener()
    out = BytesIO()
    lying.save(out, "HEIF", quality=95, exif=camera(6))
    media = verify(out.getvalue(), metadata=False)
    assert shown(media).size == (300, 200)
    assert b"stranger" not in media.content


def large_profile(byte: bytes, size: int) -> bytes:
    return chunk(b"iCCP", b"ICC\0\0" + zlib.compress(byte * size))


@pytest.mark.parametrize(
    "bomb",
    [
        chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(60_000_000))),
        chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(60_000_000))),
        large_profile(b"\0", 60_000_000),
        b"".join(chunk(b"zTXt", b"a%d\0\0" % n + zlib.compress(bytes(1_000_000))) for n in range(200)),
    ],
    ids=["zTXt", "iTXt", "iCCP", "many"],
)
def test_what_would_unpack_to_much_is_not_unpacked(bomb: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture is whole, and so it is taken; the rest is read by nobody."""
    content = into_png(saved(halves()), bomb)
    unpacked = []
    whole = zlib.decompressobj

    class Counting:
        def __init__(self, *args: Any) -> None:
            self._real = whole(*args)

        def decompress(self, data: bytes, most: int = 0) -> bytes:
            out = self._real.decompress(data, most)
            unpacked.append(len(out))
            return out

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    monkeypatch.setattr(zlib, "decompressobj", Counting)
    for metadata in (True, False):
        media = verify(content, metadata=metadata)
        assert (media.width, media.height) == (300, 200)
    assert sum(unpacked) < 150_000_000
    assert max(unpacked, default=0) <= 16 * 1024 * 1024 + 1


def test_a_large_profile_that_is_one_is_applied() -> None:
    """Then its colours are those of every screen, and it need not stay."""
    swapped = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(swapped[128:132], "big")
    entries = {bytes(swapped[at : at + 4]): at for at in range(132, 132 + 12 * count, 12)}
    red, green = entries[b"rXYZ"], entries[b"gXYZ"]
    swapped[red : red + 4], swapped[green : green + 4] = b"gXYZ", b"rXYZ"
    swapped += bytes(2_000_000)
    swapped[:4] = len(swapped).to_bytes(4, "big")
    packed = chunk(b"iCCP", b"ICC\0\0" + zlib.compress(bytes(swapped)))
    image = shown(verify(into_png(saved(Image.new("RGB", (200, 200), (255, 0, 0))), packed), metadata=False))
    assert near(image.getpixel((50, 50)), (0, 255, 0))


# -- a little damaged ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"tEXt", b"pHYs", b"gAMA", b"tIME", b"iTXt", b"eXIf", b"iCCP", b"tRNS", b"zzZz"])
@pytest.mark.parametrize("metadata", [True, False])
def test_a_wrong_checksum_beside_the_pixels_is_passed_over(name: bytes, metadata: bool) -> None:
    """As libpng does for browsers; it is told, and what is kept is sound."""
    content = into_png(saved(halves()), struct.pack(">I", 9) + name + b"a\0bcdefgh" + b"\1\2\3\4")
    media = verify(content, metadata=metadata)
    assert near(shown(media).convert("RGB").getpixel((70, 100)), RED, off=0)
    assert media.notes == (f"had a wrong checksum beside its pixels ({name.decode()}), which was left out",)


@pytest.mark.parametrize("name", [b"IHDR", b"PLTE", b"IDAT"])
def test_a_wrong_checksum_of_the_pixels_is_not(name: bytes) -> None:
    """What is said there cannot be left out."""
    content = bytearray(saved(halves("P")))
    at = content.index(name)
    content[at + 5] ^= 0x55
    assert isinstance(failure(bytes(content)), Unverified | Refused)


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
