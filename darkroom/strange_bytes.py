"""What bytes from strangers are: which other file they are by mistake, and in which encoding their text is.

A byte order mark decides an encoding; without one zeros betray UTF-16 and UTF-32. What is no UTF-8 either may be of an
older code page, which is a guess: `looks_misread` tells one that hardly can be right.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence

MARKS: Sequence[tuple[bytes, str]] = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BEGINNINGS: Sequence[tuple[bytes, str]] = (
    (b"PK\x03\x04", "an Excel, Numbers or OpenDocument file, or another archive"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"PK\x07\x08", "a part of a zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"BZh", "compressed with bzip2"),
    (b"\xfd7zXZ\x00", "compressed with xz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word file"),
    (b"%PDF-", "a PDF"),
    (b"%!PS", "PostScript"),
    (b"{\\rtf", "rich text"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"SQLite format 3\x00", "a database"),
    (b"bplist00", "a property list"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"8BPS", "a Photoshop file"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\x00\x00\x01\x00", "an icon"),
    (b"FUJIFILMCCD-RAW", "a raw photograph"),
    (b"\x1a\x45\xdf\xa3", "a film"),
)
_FILMS = frozenset({b"isom", b"iso2", b"mp41", b"mp42", b"avc1", b"qt  ", b"M4V ", b"MSNV", b"3gp4", b"3gp5"})
_TEXTS: Sequence[tuple[re.Pattern[bytes], str]] = (
    (re.compile(rb"<(?:!doctype html|html|head|body)\b", re.IGNORECASE), "a web page"),
    # A comment ends at the first sign that ends one: by any of the later ones, fifty would be tried in every grouping.
    (
        re.compile(rb"<svg\b|<\?xml[^>]*>\s*(?:<!--(?:[^-]|-(?!->))*-->\s*|<!DOCTYPE[^>]*>\s*)*<svg\b"),
        "an SVG drawing",
    ),
    (re.compile(rb"<\?xml\b"), "XML"),
)
TELLING_BYTES = 1024  # of a file, which tell what it is
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f]")
# Western words are not spelled in accented letters alone: this is another alphabet's code page.
_UNLIKELY_WORD = re.compile("[À-ÖØ-öø-ÿ]{4,}|(?<![\\w])[À-ÖØ-öø-ÿ]{2,}(?![\\w])")
# Nor do signs stand within their words, or in rows.
_SIGNS = "¢£¤¥¦§¨ª¬¯°±²³´µ¶¸¹º¼½¾¿"
_MISREAD = re.compile(f"[^\\W\\d_][{_SIGNS}¡«»†‡ˆ‰‹›„“”˜][^\\W\\d_]|[{_SIGNS}©®]{{2,}}")
MOST_UNLIKELY = 1  # a sample of letters is written so: äöüß


def other_file(content: bytes) -> str | None:
    """Return what a file is by its first bytes, as it goes on from "it is"; None for text and what nobody knows."""
    for start, kind in _BEGINNINGS:
        if content.startswith(start):
            return kind
    if content[4:8] == b"ftyp" and content[8:12] in _FILMS:
        return "a film"
    if content[257:262] == b"ustar":
        return "a tar archive"
    head = content[:TELLING_BYTES].removeprefix(codecs.BOM_UTF8).lstrip()
    if head.startswith(b"%PDF-"):
        return "a PDF"
    return next((kind for pattern, kind in _TEXTS if pattern.match(head)), None)


def without_mark(content: bytes) -> str | None:
    """Return the UTF-16 or UTF-32 that it must be without a byte order mark.

    Text begins with four Latin signs, as a header and JSON do, or is Latin for the most part. Then the other half of
    its bytes is zero, and no text has zeros otherwise.
    """
    start = content[:64]
    if len(start) < 4 or b"\x00" not in start:
        return None
    if len(start) >= 8 and not any(start[1:4]) and not any(start[5:8]) and start[0] and start[4]:
        return "utf-32-le"
    if len(start) >= 8 and not any(start[0:3]) and not any(start[4:7]) and start[3] and start[7]:
        return "utf-32-be"
    even, odd = start[0::2], start[1::2]
    if 0 not in even and (not any(odd[:4]) or odd.count(0) > len(odd) * 0.6):
        return "utf-16-le"
    return "utf-16-be" if 0 not in odd and (not any(even[:4]) or even.count(0) > len(even) * 0.6) else None


def looks_misread(text: str) -> bool:
    """Return whether text that was read as Windows-1252 hardly can be that."""
    return len(_UNLIKELY_WORD.findall(text)) > MOST_UNLIKELY or _MISREAD.search(text) is not None


def has_controls(text: str) -> bool:
    """Return whether there are signs in it that no text has: beside tabs, line ends and form feeds."""
    return _CONTROL.search(text) is not None
