"""From bytes to text, as spreadsheets, editors and databases write it.

A byte order mark decides; without one zeros betray UTF-16, and what is no UTF-8 is what the sender declared, or an
older code page. That last step is a guess, so it is noted, and what hardly can be right is refused.
"""

from __future__ import annotations

import codecs
import re

from darkroom.batches.raw import MOST_BYTES, unreadable
from darkroom.strange_bytes import MARKS, looks_misread, other_file, without_mark

_MARK_MISREAD = "ï»¿"  # UTF-8's mark, read as Windows-1252 by whoever sent it
_NAMES = {"cp1252": "Windows-1252 (cp1252)", "mac_roman": "Mac Roman"}
# Python's names of the character sets that are worth declaring. Its others are no such sets, or say nothing: what is
# declared as UTF-8 or ISO 8859-1 may be anything.
_CHARSETS = re.compile(
    r"cp[0-9]+|iso8859-(?!1$)[0-9]+|mac-\w+|koi8-\w|gb\w+|big5\w*|shift_jis\w*|euc_\w+|utf-(?:16|32)\S*"
)
_AS_UTF8 = "Save it as UTF-8, e.g. “CSV UTF-8” in a spreadsheet."


def decode(source: str | bytes, notes: list[str], *, charset: str | None = None) -> str:
    """Return the text without its byte order mark, and note what was guessed.

    `charset`: as the sender declared it. Raises Unreadable.
    """
    # JSON can hold half of a surrogate pair, which UTF-8 refuses; here bytes are counted alone.
    if len(source.encode("utf-8", "surrogatepass") if isinstance(source, str) else source) > MOST_BYTES:
        unreadable(f"it has more than {MOST_BYTES // 1024 // 1024} MB", "Send it as several batches.")
    text = _repaired(source if isinstance(source, str) else _decoded(source, notes, charset), notes)
    # Files put one after the other have several byte order marks, and a DOS text ends in \x1a.
    text = text.replace("\ufeff", "").rstrip("\x1a\x00")
    if not text.strip():
        unreadable("it is empty", "Send a header line and at least one row.")
    if "\x00" in text:
        unreadable(
            "it has NUL characters, so it is no text", _AS_UTF8, line=text.count("\n", 0, text.index("\x00")) + 1
        )
    return text


def _decoded(content: bytes, notes: list[str], charset: str | None) -> str:
    if (kind := other_file(content)) is not None:
        unreadable(f"it is {kind}, not a manifest", "Save it as CSV: in a spreadsheet “CSV UTF-8”.")
    for mark, encoding in MARKS:
        if content.startswith(mark):
            return _certain(content[len(mark) :], encoding)
    if (wide := without_mark(content)) is not None:
        return _certain(content, wide)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        return _guessed(content, notes, charset, at=error.start)


def _certain(content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-8":
            line = _line(content, error.start)
            unreadable("it begins as UTF-8 does, but is not UTF-8 to its end", _AS_UTF8, line=line)
        unreadable(f"it begins as {encoding[:6].upper()} does, but is cut short or damaged", _AS_UTF8)


def _guessed(content: bytes, notes: list[str], charset: str | None, *, at: int) -> str:
    line = _line(content, at)
    if (declared := _codec(charset)) is not None:
        try:
            return content.decode(declared)
        except UnicodeError:
            unreadable("it is not in the character set that it was sent as", _AS_UTF8, line=line)
    if re.search("[^\x00-\x7f\ufffd]", content.decode(errors="replace")):
        unreadable("it is UTF-8 for the most part, but not on this line", _AS_UTF8, line=line)
    # Only old Macs end lines so: “CSV (Macintosh)”.
    encoding = "mac_roman" if b"\r" in content and b"\n" not in content else "cp1252"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        unreadable("it is neither UTF-8 nor Windows-1252", _AS_UTF8, line=_line(content, error.start))
    if looks_misread(text):
        unreadable("it is not UTF-8, nor does it look like Windows-1252", _AS_UTF8, line=line)
    notes.append(
        f"The manifest is not UTF-8 (line {line}). It was read as {_NAMES[encoding]}: look whether letters with "
        "accents are right, or save it as UTF-8 and send it again."
    )
    return text


def _codec(charset: str | None) -> str | None:
    """Return the codec of a declared character set, if that says anything."""
    try:
        found = codecs.lookup(charset).name if charset else None
    except (LookupError, ValueError):  # a name that nobody knows, or one with a NUL in it
        return None
    return found if found is not None and _CHARSETS.fullmatch(found) else None


def _repaired(text: str, notes: list[str]) -> str:
    if not text.startswith(_MARK_MISREAD):
        return text
    try:
        repaired = text.encode("cp1252").decode()
    except UnicodeError:
        return text.removeprefix(_MARK_MISREAD)
    notes.append("The manifest is UTF-8 that was read as Windows-1252 on its way, which was undone.")
    return repaired


def _line(content: bytes, at: int) -> int:
    return content.count(b"\n" if b"\n" in content else b"\r", 0, at) + 1
