"""Files of media, believed only once they were read to their end: what arrives and what we make goes through `verify`.

A type is what the bytes say, never what was declared. Sizes, pixels and seconds are bounded before anything is decoded;
how many bytes there may be is the caller's to bound, before they are here.
"""

from __future__ import annotations

from darkroom.errors import NeedsHuman, Refused, Unverified
from darkroom.extras import needs_extra
from darkroom.media.formats.files import Kind, Media, RemoteFile
from darkroom.media.formats.opaque import known_kind, opaque
from darkroom.media.formats.pictures import picture
from darkroom.media.formats.tables import table
from darkroom.media.formats.trained import config, weights
from darkroom.media.formats.zips import archive

__all__ = ["MAX_PIXELS", "Kind", "Media", "RemoteFile", "verify"]

MAX_PIXELS = 50_000_000


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
