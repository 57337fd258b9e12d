"""What programs write into a picture beside its pixels: left out of what is kept, and never unpacked without bound."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pillow_heif
import pytest
from picture_files import RED, camera, chunk, halves, into_png, near, saved, shown
from PIL import Image, ImageCms, PngImagePlugin

from darkroom.media.formats import verify
from darkroom.media.formats.pictures import open_picture


def with_text(image: Image.Image, **texts: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name, text, zip=True)
    info.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta>a stranger's</x:xmpmeta>", zip=True)
    return saved(image, pnginfo=info)


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


def many_texts(packed: bytes) -> bytes:
    return b"".join(chunk(b"zTXt", b"a%d\0\0" % n + packed) for n in range(200))


@pytest.mark.parametrize(
    "bomb",
    [
        lambda: chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(60_000_000))),
        lambda: chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(60_000_000))),
        lambda: large_profile(b"\0", 60_000_000),
        lambda: many_texts(zlib.compress(bytes(1_000_000))),
    ],
    ids=["zTXt", "iTXt", "iCCP", "many"],
)
def test_what_would_unpack_to_much_is_not_unpacked(bomb: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture is whole, and so it is taken; the rest is read by nobody."""
    content = into_png(saved(halves()), bomb())
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
