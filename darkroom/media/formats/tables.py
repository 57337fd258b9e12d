"""Tables that we write ourselves: CSV, or JSON lines."""

from __future__ import annotations

from darkroom.errors import Refused
from darkroom.media.formats.files import Media, whole


def table(content: bytes) -> Media:
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise Refused("the table is not UTF-8", code="wrong_type") from error
    if content.startswith(b"{"):
        return whole(content, "application/x-ndjson", "jsonl")
    return whole(content, "text/csv", "csv")
