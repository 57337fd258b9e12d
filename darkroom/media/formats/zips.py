"""Zip archives: that it is one, and whole. What is inside is for who unpacks it (`darkroom/media/archives.py`).

How long its list of entries is, is bounded before it is read. What stands in front of an archive does not matter, nor
which of its two formats the list has.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import SEEK_END, BytesIO
from typing import IO, cast
from zipfile import BadZipFile, LargeZipFile, ZipFile

from darkroom.errors import Refused, Unverified
from darkroom.media.formats.files import Media, whole
from darkroom.strange_bytes import TELLING_BYTES, other_file

MAX_LIST_BYTES = 4 * 1024 * 1024  # Python's reader keeps some 500 bytes for each entry of 46
BROKEN = (BadZipFile, LargeZipFile, zlib.error, EOFError, NotImplementedError, ValueError)
_FIRST, _END, _END_BYTES, _MAX_COMMENT_BYTES = b"PK\x03\x04", b"PK\x05\x06", 22, 0xFFFF
_ZIP64_LOCATOR, _ZIP64_LOCATOR_BYTES = b"PK\x06\x07", 20
_ZIP64_END, _ZIP64_END_BYTES = b"PK\x06\x06", 56


# An archive's end: where its list is told, at the latest.
_TAIL_BYTES = _END_BYTES + _MAX_COMMENT_BYTES + _ZIP64_LOCATOR_BYTES + _ZIP64_END_BYTES
_PIECE_BYTES = 1 << 20
ARCHIVE = ("application/zip", "zip")


def archive(content: bytes) -> Media:
    require_archive(BytesIO(content))
    return whole(content, *ARCHIVE)


def require_archive(file: IO[bytes]) -> None:
    """Raise Refused for an archive that is none of ours, Unverified for what is not whole."""
    file.seek(0)
    # A self-extracting archive begins with a program.
    if file.read(len(_FIRST)) != _FIRST and not _has_an_end(file):
        file.seek(0)
        other = other_file(file.read(TELLING_BYTES))
        raise Refused(f"the file is not a zip archive{f', but {other}' if other else ''}", code="wrong_type")
    file.seek(max(0, file.seek(0, SEEK_END) - _TAIL_BYTES))
    _check_list(file.read(_TAIL_BYTES))
    file.seek(0)
    try:
        with open_zip(file, most_list_bytes=MAX_LIST_BYTES):
            pass
    except LargeZipFile as error:
        raise _too_many_entries() from error
    except BROKEN as error:
        raise Unverified("the archive's list of entries cannot be read") from error


@contextmanager
def open_zip(file: IO[bytes], *, most_list_bytes: int) -> Iterator[ZipFile]:
    """Open an archive of which the list of entries is no longer than that, by whichever of its two end records.

    Raise LargeZipFile where it is, one of `BROKEN` for what is no archive.
    """
    bounded = _Bounded(file, most_list_bytes)
    archive = ZipFile(cast(IO[bytes], bounded))
    bounded.most_bytes = None
    with archive:
        yield archive


class _Bounded:
    """A file of which each read is bounded, while zipfile reads the directory: that it takes in one piece."""

    def __init__(self, file: IO[bytes], most_bytes: int) -> None:
        self._file = file
        self.most_bytes: int | None = most_bytes

    def read(self, size: int = -1) -> bytes:
        if self.most_bytes is None:
            return self._file.read(size)
        # However long a directory is said to be, it is never in memory.
        content = self._file.read(self.most_bytes + 1 if size < 0 else min(size, self.most_bytes + 1))
        if len(content) > self.most_bytes:
            raise LargeZipFile("its directory is too large")
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


def _has_an_end(file: IO[bytes]) -> bool:
    """Return whether what ends an archive is anywhere: one that begins as something else may be cut short."""
    file.seek(0)
    before = b""
    while piece := file.read(_PIECE_BYTES):
        if _END in before + piece:
            return True
        before = piece[1 - len(_END) :]
    return False


def _check_list(content: bytes) -> None:
    end = content.rfind(_END, max(0, len(content) - _END_BYTES - _MAX_COMMENT_BYTES))
    if end < 0 or len(content) < end + _END_BYTES:
        # The list of entries stands at the end.
        raise Unverified("the archive is cut short")
    if content[max(0, end - _ZIP64_LOCATOR_BYTES) : end].startswith(_ZIP64_LOCATOR):
        # It stands where nothing else can be in between; else readers differ in which list they take.
        record = end - _ZIP64_LOCATOR_BYTES - _ZIP64_END_BYTES
        if record < 0 or not content.startswith(_ZIP64_END, record):
            raise Refused("the archive names a list of entries that it does not have", code="wrong_type")
        length = int.from_bytes(content[record + 40 : record + 48], "little")
    else:
        length = int.from_bytes(content[end + 12 : end + 16], "little")
    if length > MAX_LIST_BYTES:
        raise _too_many_entries()


def _too_many_entries() -> Refused:
    return Refused("the archive has too many entries", code="too_many_entries")
