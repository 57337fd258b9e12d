"""Pictures, decoded by Pillow (HEIC: by libheif): what they are by their bytes, and whether they are whole.

JPEG, PNG and WebP are kept as they are: every program knows them. Of HEIC, AVIF, GIF, TIFF and BMP the picture is kept
that one sees, as one of those three. What browsers pass over is passed over here, and told in the `notes`: a checksum
that is wrong beside the pixels, a JPEG's end marker that is not there. Pixels that are not there are not passed over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from threading import Lock

from PIL import Image
from PIL.ExifTags import Base

from darkroom.errors import DarkroomError, Refused, Unverified
from darkroom.media.formats.containers import (
    JPEG_END,
    PNG,
    Bare,
    Unreadable,
    bare,
    has_end,
    is_all_there,
    readable,
    repaired_png,
    tells_intervals,
)
from darkroom.media.formats.files import Media, whole
from darkroom.media.formats.pixels import FAITHFUL, is_deep_grey, plain
from darkroom.strange_bytes import other_file

IMAGES = {"JPEG": ("image/jpeg", "jpg"), "PNG": ("image/png", "png"), "WEBP": ("image/webp", "webp")}
LOSSLESS = frozenset({"PNG", "GIF", "TIFF", "BMP"})
# Who decodes them beside those that Pillow loads by itself. Loaded when the first one comes: few ever do.
DECODERS = {
    "WEBP": "PIL.WebPImagePlugin",
    "TIFF": "PIL.TiffImagePlugin",
    "AVIF": "PIL.AvifImagePlugin",
}
SHOWN = {"WEBP": "WebP", "HEIF": "HEIC"}
HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
AVIF_BRANDS = frozenset({b"avif", b"avis"})
LARGEST_WRITTEN = 20 * 1024 * 1024  # of a picture that we write for another: what may be uploaded, and trained with
QUALITIES = (95, 90, 80, 60)
# Behind the last byte of a JPEG: were it cut short these would be read as pixels, other ones than libjpeg makes up.
MADE_UP = b"\xb5" * 256

UNWRITTEN = bytes(16)  # of a file whose length was set before its content came
MOST_RUNS = 4_000_000  # pixels of a BMP in runs of one colour: those Pillow decodes in Python, a megapixel in a second
OF_SEVERAL = "has several pictures, of which the one shown first is taken"
NO_END = "had no end marker; all its pixels are there"

_WRITING = Lock()  # for the memory: one that is written anew lies there as pixels, twice


def picture(content: bytes, *, max_pixels: int, metadata: bool = True) -> Media:
    """Read a picture to its last pixel. `metadata=False`: without whatever it carries beside them, and upright."""
    name = sniff(content)
    seen = _read(content, name, max_pixels=max_pixels)
    if name not in IMAGES:
        of_many = ", of which the first picture is taken" if name == "GIF" else ""
        return _rewritten(seen, [f"was {SHOWN.get(name, name)}{of_many}"])
    if metadata:
        return _as_it_came(seen)
    if seen.turned or seen.deep or seen.profile:
        return _rewritten(seen, [])
    return _without_metadata(seen)


def is_picture(head: bytes) -> bool:
    """Return whether a file that begins so is a picture of a kind that is taken."""
    return _kind(head) is not None


def sniff(content: bytes) -> str:
    """Return the format, as Pillow calls it. Raise Refused for what is not taken."""
    if (name := _kind(content)) is None:
        other = other_file(content)
        but = f", but {other}" if other else ""
        raise Refused(
            f"the file is not a JPEG, PNG or WebP picture, nor a HEIC, AVIF, GIF, TIFF or BMP{but}", code="wrong_type"
        )
    return name


@contextmanager
def open_picture(content: bytes) -> Iterator[Image.Image]:
    """Open a picture, by its bytes; nothing of it is decoded yet, and its metadata are not unpacked.

    Raise Refused for what is not taken, and what Pillow raises for what is damaged.
    """
    name = sniff(content)
    _load(name)
    known = readable(content, name)
    with Image.open(BytesIO(known.content), formats=(name,)) as opened:
        if known.profile:
            opened.info["icc_profile"] = known.profile
        yield opened


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """A picture that was read to its last pixel."""

    content: bytes
    name: str
    width: int
    height: int
    turned: bool  # by its metadata
    deep: bool  # grey of more than eight bits
    profile: bool  # a colour profile that is too large to stay
    notes: tuple[str, ...] = ()


def _read(content: bytes, name: str, *, max_pixels: int) -> _Seen:
    try:
        return _decode(content, name, max_pixels=max_pixels)
    except DarkroomError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels(max_pixels) from error
    except Exception as error:
        # Pillow has no error of its own: its decoders raise whatever they stumble over in a damaged file.
        ended = _with_end(content) if name == "JPEG" else None
        if ended is None:
            raise _undecodable(name) from error
    return _decode(ended, name, max_pixels=max_pixels, notes=(NO_END,))


def _decode(content: bytes, name: str, *, max_pixels: int, notes: tuple[str, ...] = ()) -> _Seen:
    known = readable(content, name)
    with open_picture(content) as image:
        width, height = image.size
        max_pixels = min(max_pixels, MOST_RUNS) if _is_in_runs(content, name) else max_pixels
        if width * height > max_pixels:
            raise _too_many_pixels(max_pixels)
        deep = is_deep_grey(image)
        turned = image.getexif().get(Base.Orientation, 1) in range(2, 9)
        # A JPEG at an eighth of its scale: every entropy-coded byte is still read, at 40 % of the cost.
        image.draft(None, (1, 1))
        image.load()
        if image.width * image.height > max_pixels:  # HEIC: its pixels may be more than its header says
            raise _too_many_pixels(max_pixels)
        if name not in IMAGES:
            width, height = image.size
            notes = (*notes, OF_SEVERAL) if _has_more(image) else notes
        made_up = name == "JPEG" and _ends_in_one_colour(image) and _lacks_pixels(content)
    if made_up or known.broken:  # which Pillow does not look at: half a file with zeros behind may decode all the same
        raise _undecodable(name)
    if name == "JPEG" and not has_end(content):  # decoded all the same, perhaps from what stands for its last pixels
        ended = _with_end(content)
        if ended is None:
            raise _undecodable(name)
        content, notes = ended, (*notes, NO_END)
    if name == "PNG" and known.damaged:
        content = repaired_png(content).content
        notes = (*notes, f"had a wrong checksum beside its pixels ({', '.join(known.damaged)}), which was left out")
    return _Seen(
        content=content,
        name=name,
        width=width,
        height=height,
        turned=turned,
        deep=deep,
        profile=known.profile is not None,
        notes=notes,
    )


def _has_more(image: Image.Image) -> bool:
    """Return whether a HEIC, AVIF or TIFF has a second picture; a GIF is told as what it is."""
    if image.format == "GIF":
        return False
    try:
        image.seek(1)
    except (EOFError, OSError, ValueError, SyntaxError):
        return False
    return True


def _is_in_runs(content: bytes, name: str) -> bool:
    return name == "BMP" and content[30:34] in (b"\1\0\0\0", b"\2\0\0\0")


def _with_end(content: bytes) -> bytes | None:
    """Return a JPEG with the end marker that it lacks; None where it lacks more than that."""
    begun = content.rstrip(b"\xff")
    if begun.endswith(UNWRITTEN):
        begun = begun.rstrip(b"\0\xff")
    try:
        if not is_all_there(begun):
            return None
        # Where its data end before its pixels do, libjpeg makes up the rest: from what follows, or from nothing. So
        # all are there if it makes no difference what follows.
        # Between two intervals nothing but the marker of the next one goes on.
        markers = (b"", *(bytes((0xFF, 0xD0 + n)) for n in range(8))) if tells_intervals(begun) else (b"",)
        pixels = _pixels(begun + JPEG_END)
        if any(_pixels(begun + marker + MADE_UP + JPEG_END) != pixels for marker in markers):
            return None
    except Exception:  # damaged in other ways
        return None
    return begun + JPEG_END


def _ends_in_one_colour(image: Image.Image) -> bool:
    """Return whether the last row is of one colour, as libjpeg makes it up where pixels are missing."""
    last = image.crop((0, image.height - 1, image.width, image.height)).getextrema()
    ranges = last if isinstance(last[0], tuple) else (last,)
    return all(low == high for low, high in ranges)


def _lacks_pixels(content: bytes) -> bool:
    """Return whether a JPEG was cut short and then given an end: then what stands in front of that is decoded."""
    if not content.endswith(JPEG_END):
        return False
    try:
        return _pixels(content, small=True) != _pixels(content[:-2] + MADE_UP + JPEG_END, small=True)
    except Exception:  # only what follows would be damaged
        return False


def _pixels(content: bytes, *, small: bool = False) -> bytes:
    with open_picture(content) as image:
        if small:
            image.draft(None, (1, 1))
        return hashlib.sha256(image.tobytes()).digest()


# -- what is kept ----------------------------------------------------------------------------------------------------


def _as_it_came(seen: _Seen) -> Media:
    return whole(seen.content, *IMAGES[seen.name], width=seen.width, height=seen.height, notes=seen.notes)


def _without_metadata(seen: _Seen) -> Media:
    try:
        left: Bare = bare(seen.content, seen.name)
    except Unreadable:
        return _rewritten(seen, [])
    notes = [*seen.notes]
    if left.dropped:
        notes.append(f"came with {', '.join(left.dropped)}, which was left out")
    return whole(left.content, *IMAGES[seen.name], width=seen.width, height=seen.height, notes=notes)


def _rewritten(seen: _Seen, notes: Sequence[str]) -> Media:
    """Write the picture anew as it is looked at: nothing but its pixels is left."""
    with _WRITING:
        try:
            with open_picture(seen.content) as opened:
                image = plain(opened)
        except Exception as error:
            raise _undecodable(seen.name) from error
        image = _opaque(image)
        content, name = _written(image, seen.name)
    told = [*notes, *seen.notes]
    if seen.deep:
        told.append("had more than 8 bits of grey for a pixel, which were scaled to 8")
    if seen.turned and name == seen.name:
        told.append("was turned upright, and what it came with was left out")
    if seen.profile:
        told.append("had a colour profile of more than 1 MiB, which was left out")
    if name != seen.name:
        told.append(f"is kept as {SHOWN.get(name, name)}")
    return whole(content, *IMAGES[name], width=image.width, height=image.height, notes=told)


def _opaque(image: Image.Image) -> Image.Image:
    """Take away a transparency that hides nothing."""
    if image.mode in ("RGBA", "LA") and image.getchannel("A").getextrema() == (255, 255):
        return image.convert(image.mode[:-1])
    return image


def _written(image: Image.Image, came_as: str) -> tuple[bytes, str]:
    """Write a picture in the format of its kind, and return it with the name of that."""
    transparent = image.mode in ("RGBA", "LA")
    # What lost nothing loses nothing, unless it became too large so.
    if came_as in LOSSLESS or (transparent and came_as != "WEBP"):
        content = _saved(image, "PNG", **FAITHFUL["PNG"])
        if len(content) <= LARGEST_WRITTEN:
            return content, "PNG"
    name = "WEBP" if transparent or came_as == "WEBP" else "JPEG"
    content = b""
    for quality in QUALITIES:
        content = _saved(image, name, **{**FAITHFUL[name], "quality": quality})
        if len(content) <= LARGEST_WRITTEN:
            break
    return content, name


def _saved(image: Image.Image, name: str, **how: object) -> bytes:
    out = BytesIO()
    image.save(out, name, **how)
    return out.getvalue()


# -- kinds -----------------------------------------------------------------------------------------------------------


def _kind(head: bytes) -> str | None:
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(PNG):
        return "PNG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        return "BMP"
    return _box_kind(head) if head[4:8] == b"ftyp" else None


def _box_kind(head: bytes) -> str | None:
    """AVIF and HEIC, by the brands that the file says it has; one may be both, and then is what it says first."""
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(int.from_bytes(head[:4], "big"), 64), 4))]
    if brands[0] in HEIF_BRANDS and not AVIF_BRANDS & set(brands):
        return "HEIF"
    if AVIF_BRANDS & set(brands):
        return "AVIF"
    return "HEIF" if HEIF_BRANDS & set(brands) else None


def _load(name: str) -> None:
    if name == "HEIF" and name not in Image.OPEN:
        import pillow_heif

        # The one picture, by one thread: nothing else in the file is looked at.
        pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
    elif name in DECODERS:
        import_module(DECODERS[name])


def _undecodable(name: str) -> Unverified:
    return Unverified(f"the file does not decode as {SHOWN.get(name, name)}")


def _too_many_pixels(max_pixels: int) -> Refused:
    return Refused(f"the picture has more than {max_pixels} pixels", code="too_many_pixels")
