"""What stands around the pixels of a JPEG, PNG or WebP: read by its bytes alone, and left out without touching a pixel.

So metadata never reach a decoder that would unpack them: a megabyte of text or of XMP in a PNG (ComfyUI, Automatic1111
and Photoshop write it) is no reason to refuse a picture, and a bomb in it never goes off. What is kept is named; the
rest goes, since any program may have put anything there: the place of a photograph, a prompt, a whole second picture.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

PNG = b"\x89PNG\r\n\x1a\n"
PNG_END = b"\0\0\0\0IEND\xae\x42\x60\x82"
JPEG_END = b"\xff\xd9"
LARGEST_PROFILE = 1024 * 1024  # bytes, unpacked: what Pillow reads of one in a PNG by itself
LARGEST_PROFILE_READ = 16 * 1024 * 1024

# Colours, transparency, measures, and the frames of an animation.
PNG_KEPT = frozenset(b"tRNS gAMA cHRM sRGB iCCP cICP mDCV cLLI sBIT bKGD hIST pHYs sPLT acTL fcTL fdAT".split())
WEBP_KEPT = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP"})
WEBP_NO_METADATA = 0xFF ^ 0x0C  # flags of a WebP: EXIF, XMP
PNG_NAMES = {b"tEXt": "text", b"zTXt": "text", b"iTXt": "text", b"eXIf": "EXIF", b"caBX": "C2PA"}
WEBP_NAMES = {b"EXIF": "EXIF", b"XMP ": "XMP"}
JPEG_NAMES = {0xE1: "EXIF or XMP", 0xE2: "other pictures", 0xEB: "C2PA", 0xED: "IPTC", 0xFE: "a comment"}

_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # in a JPEG's pixels: no stuffed 0xff, and no restart
_WITHOUT_LENGTH = frozenset({0x01, 0xD8})


class Unreadable(Exception):
    """The file is not built as its format has it; its pixels may be whole all the same."""


@dataclass(frozen=True, kw_only=True)
class Bare:
    """A file without what it carried: `dropped` has names of it, `damaged` those of what was not whole.

    `broken`: a part of a PNG that its pixels need is not what its checksum says.
    """

    content: bytes
    dropped: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    broken: bool = False
    profile: bytes | None = None  # of a PNG: a colour profile that is too large to stay


def bare(content: bytes, name: str) -> Bare:
    """Return the file without metadata; the same bytes where it carried none. Raise Unreadable."""
    try:
        return {"PNG": png, "JPEG": jpeg, "WEBP": webp}[name](content)
    except (IndexError, ValueError) as error:
        raise Unreadable(name) from error


def readable(content: bytes, name: str) -> Bare:
    """Return the file as a decoder may have it: a PNG without what would be unpacked; anything else as it is."""
    return png(content, keeping=frozenset({b"eXIf"})) if name == "PNG" else Bare(content=content)


def repaired_png(content: bytes) -> Bare:
    """Leave out ancillary chunks whose checksum is wrong, as browsers do; everything else stays."""
    return png(content, only_damaged=True)


# -- PNG -------------------------------------------------------------------------------------------------------------


def png(content: bytes, *, keeping: frozenset[bytes] = frozenset(), only_damaged: bool = False) -> Bare:
    kept, dropped, damaged = [PNG], dict[str, None](), dict[str, None]()
    profile, chunks = None, list(_png_chunks(content))
    for name, chunk in chunks:
        if not _is_ancillary(name):
            kept.append(chunk)
        elif not _is_whole(chunk):
            damaged[name.decode("ascii", "replace")] = None
        elif only_damaged or name in keeping:
            kept.append(chunk)
        elif name == b"iCCP" and (large := _large_profile(chunk)) is not None:
            profile = large
            dropped["a large colour profile"] = None
        elif name in PNG_KEPT:
            kept.append(chunk)
        else:
            dropped[PNG_NAMES.get(name, "other data")] = None
    if _lacks_end(chunks):
        kept.append(PNG_END)
        damaged["IEND"] = None
    elif sum(len(chunk) for _, chunk in chunks) < len(content) - len(PNG) and not only_damaged:
        dropped["what stood behind its end"] = None
    whole = content if not dropped and not damaged else b"".join(kept)
    broken = not all(_is_whole(chunk) for name, chunk in chunks if not _is_ancillary(name))
    return Bare(content=whole, dropped=tuple(dropped), damaged=tuple(damaged), profile=profile, broken=broken)


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and bytes of each chunk; the last one may be cut short."""
    at, name = len(PNG), b""
    while at + 8 <= len(content) and name != b"IEND":
        name = content[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        yield name, content[at:end]
        at = end


def _lacks_end(chunks: list[tuple[bytes, bytes]]) -> bool:
    """Return whether nothing but the end is missing; behind half a chunk it would be taken for the chunk's own."""
    whole = [name for name, chunk in chunks if _is_ancillary(name) or len(chunk) == _length(chunk) + 12]
    return len(whole) == len(chunks) and b"IEND" not in whole


def _length(chunk: bytes) -> int:
    return int.from_bytes(chunk[:4], "big")


def _is_ancillary(name: bytes) -> bool:
    # By PNG's rule a small first letter is of what the picture can be seen without.
    return bool(name[0] & 0x20)


def _is_whole(chunk: bytes) -> bool:
    return len(chunk) == _length(chunk) + 12 and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")


def _large_profile(chunk: bytes) -> bytes | None:
    """Return the profile in the chunk if it is larger than may stay; empty if it is larger than anybody needs."""
    packed = chunk[8:-4].partition(b"\0")[2][1:]
    try:
        unpacked = zlib.decompressobj().decompress(packed, LARGEST_PROFILE_READ + 1)
    except zlib.error:
        return b""
    if len(unpacked) > LARGEST_PROFILE_READ:
        return b""
    return unpacked if len(unpacked) > LARGEST_PROFILE else None


# -- JPEG ------------------------------------------------------------------------------------------------------------


def jpeg(content: bytes) -> Bare:
    kept, dropped = [content[:2]], dict[str, None]()
    length = 2
    for marker, segment in _jpeg_segments(content):
        length += len(segment)
        if _stays(marker, segment):
            kept.append(segment)
        else:
            dropped[JPEG_NAMES.get(marker, "other data")] = None
    if length < len(content):
        dropped["what stood behind its end"] = None
    return Bare(content=b"".join(kept) if dropped else content, dropped=tuple(dropped))


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and bytes of each segment up to the end, pixels with the header in front of them."""
    at, marker = 2, 0
    while marker != JPEG_END[1]:
        if content[at] != 0xFF:
            raise ValueError("there is no marker")
        marker = content[at + 1]
        if marker == 0xFF:  # filled up
            at += 1
            continue
        end = at + 2
        if marker not in _WITHOUT_LENGTH and marker != JPEG_END[1]:
            end += int.from_bytes(content[end : end + 2], "big")
        if marker == 0xDA:
            following = _MARKER.search(content, end)
            if following is None:
                raise ValueError("there is no end")
            end = following.start()
        if end > len(content):
            raise ValueError("a segment is cut short")
        yield marker, content[at:end]
        at = end


def _stays(marker: int, segment: bytes) -> bool:
    """Return whether the segment is needed: tables, pixels, and what says how their colours are meant."""
    said = segment[4:]
    match marker:
        case 0xE0:
            return said.startswith(b"JFIF\0")
        case 0xE2:
            return said.startswith(b"ICC_PROFILE\0")
        case 0xEE:
            return said.startswith(b"Adobe")
    return not (0xE0 <= marker <= 0xEF or marker == 0xFE)


def has_end(content: bytes) -> bool:
    """Return whether a JPEG has its end marker, behind its pixels and not only in a small picture in its EXIF."""
    if JPEG_END in content[-256:]:
        return True
    try:
        return any(marker == JPEG_END[1] for marker, _ in _jpeg_segments(content))
    except (IndexError, ValueError):
        return False


def tells_intervals(content: bytes) -> bool:
    """Return whether a JPEG's pixels lie in intervals, each with a marker before it."""
    return any(marker == 0xDD for marker, _ in _jpeg_segments(content + JPEG_END))


def is_all_there(content: bytes) -> bool:
    """Return whether a JPEG without an end marker has all its scans: a progressive one is coarse without its last."""
    missing: dict[int, set[int]] = {}
    for marker, segment in _jpeg_segments(content + JPEG_END):
        # A progressive picture brings each component's 64 coefficients in ranges, and each range bit by bit.
        if marker == 0xC2:
            missing = {segment[10 + 3 * n]: set(range(64)) for n in range(segment[9])}
        elif marker == 0xDA and missing:
            count = segment[4]
            first, last, low = segment[5 + 2 * count], segment[6 + 2 * count], segment[7 + 2 * count] & 0x0F
            for n in range(count if low == 0 else 0):
                missing[segment[5 + 2 * n]] -= set(range(first, last + 1))
    return not any(missing.values())


# -- WebP ------------------------------------------------------------------------------------------------------------


def webp(content: bytes) -> Bare:
    kept, dropped, at = list[bytes](), dict[str, None](), 12
    stated = 8 + int.from_bytes(content[4:8], "little")
    end_of_all = min(len(content), stated)
    while at + 8 <= end_of_all:
        name, length = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        # RIFF fills a chunk up to an even length.
        end = at + 8 + length + length % 2
        chunk = content[at:end]
        if name == b"VP8X":
            chunk = chunk[:8] + bytes([chunk[8] & WEBP_NO_METADATA]) + chunk[9:]
        if name in WEBP_KEPT:
            kept.append(chunk)
        else:
            dropped[WEBP_NAMES.get(name, "other data")] = None
        at = end
    if stated < len(content):
        dropped["what stood behind its end"] = None
    if not dropped:
        return Bare(content=content)
    body = b"WEBP" + b"".join(kept)
    return Bare(content=b"RIFF" + len(body).to_bytes(4, "little") + body, dropped=tuple(dropped))
