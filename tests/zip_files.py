"""Archives as other programs write them, where `zipfile` cannot be told to."""

from __future__ import annotations

import struct


def in_zip64(content: bytes, *, list_bytes: int | None = None) -> bytes:
    """The archive with its list of entries in the format for more than 4 GB, which says to be so long."""
    end = content.rfind(b"PK\x05\x06")
    entries, said, offset = struct.unpack("<10xHLL2x", content[end : end + 22])
    said = said if list_bytes is None else list_bytes
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, entries, entries, said, offset)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    last = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return content[:end] + record + locator + last
