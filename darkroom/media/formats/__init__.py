"""Files of media, believed only once they were read to their end: what arrives and what we make goes through `verify`.

A type is what the bytes say, never what was declared. Sizes, pixels and seconds are bounded before anything is decoded;
how many bytes there may be is the caller's to bound, before they are here.
"""

from __future__ import annotations

import os
from functools import partial
from typing import IO

from darkroom.errors import NeedsHuman, Refused, Unverified
from darkroom.extras import needs_extra
from darkroom.media.formats.files import Kind, Media, MediaOnDisk, RemoteFile
from darkroom.media.formats.opaque import known_kind, opaque, type_of
from darkroom.media.formats.pictures import picture
from darkroom.media.formats.tables import table
from darkroom.media.formats.trained import WEIGHTS, config, require_weights, weights
from darkroom.media.formats.zips import ARCHIVE, archive, require_archive

__all__ = ["MAX_PIXELS", "Kind", "Media", "MediaOnDisk", "RemoteFile", "verify", "verify_file"]

MAX_PIXELS = 50_000_000
SMALL_BYTES = 16 << 20  # of a file that may be in memory as a whole
MOST_IN_MEMORY_BYTES = 64 << 20  # of kinds that are read there: pictures and sound
HEAD_BYTES = 64  # which tell the kind


def verify(content: bytes, kind: Kind = Kind.IMAGE, *, max_pixels: int = MAX_PIXELS, metadata: bool = True) -> Media:
    """Read a file to its end and return what it holds. `metadata=False`: without what a picture carries beside it.

    Raise Refused for what must not be stored, Unverified for what another try may bring whole.
    """
    if not content:
        raise Unverified("the file is empty")
    match kind:
        case Kind.IMAGE:
            return picture(content, max_pixels=max_pixels, metadata=metadata)
        case Kind.WEIGHTS:
            return weights(content)
        case Kind.CONFIG:
            return config(content)
        case Kind.ARCHIVE:
            return archive(content)
        case Kind.TABLE:
            return table(content)
        case Kind.FILE:
            return _of_any_kind(content, max_pixels=max_pixels)
        case Kind.VIDEO | Kind.AUDIO:
            # Here, because who handles pictures alone must not pay for loading PyAV.
            with needs_extra("film"):
                from darkroom.media.formats import films

            return films.film(content, max_pixels=max_pixels) if kind is Kind.VIDEO else films.sound(content)


def _of_any_kind(content: bytes, *, max_pixels: int) -> Media:
    """Read a file as the kind that its first bytes name; keep one that we do not read as an attachment."""
    kind = known_kind(content)
    if kind is None:
        return opaque(content)
    try:
        return verify(content, kind, max_pixels=max_pixels)
    except (Refused, NeedsHuman):  # a film in another codec, one longer than we decode, or nothing here reads films
        return opaque(content)


def verify_file(file: IO[bytes], kind: Kind, *, sha256: str, max_pixels: int = MAX_PIXELS) -> Media | MediaOnDisk:
    """Read a file on disk to its end, as `verify` does, without a large one being in memory.

    Raise as `verify` does.
    """
    size = file.seek(0, os.SEEK_END)
    if size <= SMALL_BYTES or kind not in (Kind.VIDEO, Kind.WEIGHTS, Kind.ARCHIVE, Kind.FILE):
        return _in_memory(file, kind, max_pixels=max_pixels)
    kept = partial(MediaOnDisk, file=file, size=size, sha256=sha256)
    match kind:
        case Kind.WEIGHTS:
            require_weights(file)
            return kept(content_type=WEIGHTS[0], extension=WEIGHTS[1])
        case Kind.ARCHIVE:
            require_archive(file)
            return kept(content_type=ARCHIVE[0], extension=ARCHIVE[1])
        case Kind.VIDEO:
            with needs_extra("film"):
                from darkroom.media.formats.films import FILM, read_film
            film = read_film(file, max_pixels=max_pixels)
            content_type, extension = FILM
            return kept(
                content_type=content_type,
                extension=extension,
                width=film.width,
                height=film.height,
                seconds=film.seconds,
            )
        case _:
            return _large_of_any_kind(file, kept, size=size, max_pixels=max_pixels)


def _large_of_any_kind(
    file: IO[bytes], kept: partial[MediaOnDisk], *, size: int, max_pixels: int
) -> Media | MediaOnDisk:
    """Read a file as `_of_any_kind` does, but for what would have to be in memory and is too large for that."""
    file.seek(0)
    head = file.read(HEAD_BYTES)
    kind = known_kind(head, size=size)
    try:
        if kind in (Kind.IMAGE, Kind.AUDIO) and size <= MOST_IN_MEMORY_BYTES:
            return _in_memory(file, kind, max_pixels=max_pixels)
        if kind in (Kind.VIDEO, Kind.WEIGHTS, Kind.ARCHIVE):
            return verify_file(file, kind, sha256=kept.keywords["sha256"], max_pixels=max_pixels)
    except (Refused, NeedsHuman):
        pass
    content_type, extension = type_of(head)
    return kept(content_type=content_type, extension=extension)


def _in_memory(file: IO[bytes], kind: Kind, *, max_pixels: int) -> Media:
    file.seek(0)
    return verify(file.read(), kind, max_pixels=max_pixels)
