"""Zip archives: that it is one, and whole. What is inside is for who unpacks it (`darkroom/media/archives.py`).

The list of entries stands at an archive's end, so one that is cut short has none. How long the list is, is bounded
before it is read: Python's reader keeps some 500 bytes for each entry of 46.
"""

from __future__ import annotations

from io import BytesIO
from zipfile import BadZipFile, ZipFile

from darkroom.errors import Refused, Unverified
from darkroom.media.formats.files import Media, whole

MAX_LIST_BYTES = 4 * 1024 * 1024
_END, _END_BYTES, _MAX_COMMENT_BYTES = b"PK\x05\x06", 22, 0xFFFF
_ZIP64_LOCATOR, _ZIP64_LOCATOR_BYTES = b"PK\x06\x07", 20


def archive(content: bytes) -> Media:
    if not content.startswith((b"PK\x03\x04", _END)):
        raise Refused("the file is not a zip archive", code="wrong_type")
    _check_list(content)
    try:
        with ZipFile(BytesIO(content)):
            return whole(content, "application/zip", "zip")
    except (BadZipFile, ValueError, EOFError, NotImplementedError) as error:
        raise Unverified("the archive's list of entries cannot be read") from error


def _check_list(content: bytes) -> None:
    end = content.rfind(_END, max(0, len(content) - _END_BYTES - _MAX_COMMENT_BYTES))
    if end < 0 or len(content) < end + _END_BYTES:
        raise Unverified("the archive is cut short")
    # A second list in the format for more than 4 GB would be read in place of this one, and can be of any length.
    if content[max(0, end - _ZIP64_LOCATOR_BYTES) : end].startswith(_ZIP64_LOCATOR):
        raise Refused("the archive is in the format for more than 4 GB", code="wrong_type")
    if int.from_bytes(content[end + 12 : end + 16], "little") > MAX_LIST_BYTES:
        raise Refused("the archive has too many entries", code="too_many_entries")
