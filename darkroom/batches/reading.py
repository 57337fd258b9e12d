"""From what was sent to rows of cells: CSV with a header, JSON in several shapes, or a list of objects.

Nothing is guessed that could pay for the wrong picture; what was guessed is noted. Bounded before it is parsed.
"""

from __future__ import annotations

from collections.abc import Iterator

from darkroom.batches.csv_rows import csv_rows
from darkroom.batches.decoding import decode
from darkroom.batches.json_rows import json_rows, objects
from darkroom.batches.raw import MOST_ROWS, Findings, Raw, Source, too_many_rows


def read_rows(source: Source, found: Findings, *, charset: str | None = None) -> Iterator[Raw]:
    """Yield the rows, and add what is wrong with single ones, and what was guessed, to what was found.

    `charset`: of the bytes, as their sender declared it. Raises Unreadable.
    """
    for count, raw in enumerate(_rows(source, found, charset), 1):
        if count > MOST_ROWS:
            too_many_rows()
        yield raw


def _rows(source: Source, found: Findings, charset: str | None) -> Iterator[Raw]:
    if not isinstance(source, str | bytes):
        return objects(source, found)
    text = decode(source, found.notes, charset=charset)
    # RFC 7464 begins each value with \x1e.
    is_json = text.lstrip("\ufeff\x1e \t\r\n\u00a0\u200b")[:1] in ("{", "[")
    return json_rows(text, found) if is_json else csv_rows(text, found)
