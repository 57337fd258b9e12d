"""Archives as other programs write them, where `zipfile` cannot be told to too, and what is read of them."""

from __future__ import annotations

import stat
import struct
import zipfile
from io import BytesIO

import pytest

from darkroom.errors import BadInput
from darkroom.media import archives
from darkroom.media.archives import read_archive

Entry = tuple[str | zipfile.ZipInfo, bytes]
JPEG = b"\xff\xd8\xff\xe0 a picture of a fox"


def zipped(*entries: Entry, method: int = zipfile.ZIP_STORED) -> bytes:
    target = BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
    return target.getvalue()


def info(name: str, *, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    return entry


def read(content: bytes) -> archives.Contents:
    return read_archive(BytesIO(content))


def refused(content: bytes) -> BadInput:
    with pytest.raises(BadInput) as caught:
        read(content)
    return caught.value


def flaws(content: bytes) -> dict[str, str]:
    return {flaw.name: flaw.reason for flaw in read(content).flaws}


def changed(content: bytes, before: bytes, after: bytes, *, times: int = -1) -> bytes:
    assert before in content and len(before) == len(after)
    return content.replace(before, after, times)


def in_zip64(content: bytes, *, list_bytes: int | None = None) -> bytes:
    """The archive with its list of entries in the format for more than 4 GB, which says to be so long."""
    end = content.rfind(b"PK\x05\x06")
    entries, said, offset = struct.unpack("<10xHLL2x", content[end : end + 22])
    said = said if list_bytes is None else list_bytes
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, entries, entries, said, offset)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    last = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return content[:end] + record + locator + last
