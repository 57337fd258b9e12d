"""Captions of pictures, as they lie beside them in an archive: in any encoding, and found by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from darkroom.errors import BadInput
from darkroom.media.archive_names import key, stem
from darkroom.strange_bytes import MARKS, has_controls, looks_misread, without_mark

LONGEST_CAPTION = 2000  # characters
LARGEST_CAPTION = 4 * LONGEST_CAPTION + 4  # bytes, in any encoding
CAPTIONS = frozenset({".txt", ".caption"})


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Which caption a picture has, by its name; and what is to be told of captions, by theirs."""

    captions: Mapping[str, str]
    told: Sequence[tuple[str, str]]


def read_caption(content: bytes) -> tuple[str, str | None]:
    """Return the caption, and what is to be told of how it was read. Raise BadInput, which goes on from its name."""
    for mark, encoding in MARKS:
        if content.startswith(mark):
            return check_caption(_decoded(content[len(mark) :], encoding)), None
    if (guessed := without_mark(content)) is not None:
        return check_caption(_decoded(content, guessed)), f"has no mark of its encoding: read as {guessed.upper()}"
    try:
        return check_caption(content.decode()), None
    except UnicodeDecodeError:
        text = _decoded(content, "cp1252")
    if looks_misread(text):
        raise BadInput("is neither UTF-8 nor, as it looks, Windows-1252: save it as UTF-8")
    return check_caption(text), "is not UTF-8: read as Windows-1252"


def check_caption(caption: str) -> str:
    """Strip the space around the caption. Raise BadInput, whose message goes on from a file's name."""
    if len(caption) > LONGEST_CAPTION:
        raise BadInput(f"is a caption of more than {LONGEST_CAPTION} characters")
    # DOS ended its texts with Ctrl-Z.
    if has_controls(caption.rstrip("\x1a")):
        raise BadInput("is no text")
    return caption.rstrip("\x1a").strip()


def pair(captions: Mapping[str, str], pictures: Sequence[str]) -> Paired:
    """Give each caption to the pictures of its name: the whole name, or without its ending; best in the same case.

    A picture has one caption; the one whose name is nearer to its own goes first.
    """
    # The name that is nearer to a picture's own comes first, and takes it.
    found = sorted((*_pictures_of(name, pictures), name) for name in captions)
    given, told = dict[str, str](), list[tuple[str, str]]()
    for _, hits, name in found:
        free = [picture for picture in hits if picture not in given]
        given.update(dict.fromkeys(free, captions[name]))
        if not hits:
            told.append((name, "is the caption of no picture: none has its name; it was passed over"))
        elif not free:
            told.append((name, f"was passed over: {hits[0]} has a caption whose name is nearer to its own"))
        elif len(free) > 1:
            told.append((name, f"is the caption of {len(free)} pictures, and each has it: {', '.join(free)}"))
    return Paired(captions=given, told=sorted(told))


def _pictures_of(caption: str, pictures: Sequence[str]) -> tuple[int, list[str]]:
    """Return how far the names are apart, and the pictures of which none is nearer."""
    own = stem(caption)
    near = (
        [picture for picture in pictures if picture == own],
        [picture for picture in pictures if stem(picture) == own],
        [picture for picture in pictures if key(picture) == key(own)],
        [picture for picture in pictures if key(stem(picture)) == key(own)],
    )
    return next(((distance, hits) for distance, hits in enumerate(near) if hits), (len(near), []))


def _decoded(content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise BadInput("is no text") from None
