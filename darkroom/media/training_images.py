"""Pictures to train with: whether they are fit for it, and the archive in which a trainer takes them.

All that are wrong are named in one error, because a training is ordered with dozens of them at once. Copies are found
by their bytes, and by their looks: the same picture saved again or made smaller would only be learned twice as hard.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import cast

from PIL import Image, ImageChops

from darkroom.errors import BadInput, DarkroomError, Unverified
from darkroom.media.archives import LARGEST_IMAGE, MIB, MOST_BYTES, Flaw, NamedImage, listed, shown, write_archive
from darkroom.media.formats import Media, verify

FEWEST_IMAGES, MOST_IMAGES = 4, 50
SHORTEST_SIDE = 256  # pixels: below, there is nothing for a trainer to learn from

# Copies of 16 × 16 pixels, and how much one of their colours (0 to 255) may differ where the pictures are the same one:
# a JPEG of it, or a smaller one, stays within; two frames of a burst do not.
THUMB = 16
SAME_WITHIN = 8


@dataclass(frozen=True, kw_only=True)
class TrainingImage:
    """A picture to train with: verified, large enough, no copy of another."""

    name: str
    media: Media
    caption: str | None


def check_training_images(
    images: Iterable[NamedImage], *, flaws: Sequence[Flaw] = (), field: str = "images"
) -> list[TrainingImage]:
    """Return the pictures if all of them are fit to train with and there are enough; else raise BadInput(field).

    `flaws`: what is known to be wrong already, e.g. of pictures that could not be fetched.
    """
    found, good, seen = list(flaws), list[TrainingImage](), _Seen()
    for image in images:
        try:
            good.append(TrainingImage(name=image.name, media=_checked(image, seen), caption=image.caption))
        except BadInput as error:
            found.append(Flaw(name=image.name, reason=error.message))
    if found:
        raise listed(found, field=field)
    if not FEWEST_IMAGES <= len(good) <= MOST_IMAGES:
        counted = "is one picture" if len(good) == 1 else f"are {len(good)} pictures"
        raise BadInput(f"There {counted}; a training takes {FEWEST_IMAGES} to {MOST_IMAGES}.", field=field)
    if sum(len(image.media.content) for image in good) > MOST_BYTES:
        raise BadInput(f"Together they have more than {MOST_BYTES // MIB} MiB. Make them smaller.", field=field)
    return good


def with_trigger(images: Sequence[TrainingImage], word: str) -> list[TrainingImage]:
    """Put the trigger word into every caption: a picture whose caption lacks it would teach the word nothing.

    Where no picture has a caption there is none afterwards: then the trainer writes its own.
    """
    if not any(image.caption for image in images):
        return list(images)
    return [replace(image, caption=called(image.caption or "", word)) for image in images]


def called(text: str, word: str) -> str:
    """Return the text with the trigger word in it.

    That is where it stands already (or as `[trigger]`, in captions), or else in front.
    """
    if re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) or "[trigger]" in text:
        return text
    return f"{word}, {text}" if text else word


def build_archive(images: Sequence[TrainingImage]) -> bytes:
    """Build the zip a trainer takes: 001.jpg, 001.txt, 002.png and so on.

    The same pictures in the same order give the same bytes.
    """
    files = list[tuple[str, bytes]]()
    for number, image in enumerate(images, start=1):
        files.append((f"{number:03}.{image.media.extension}", image.media.content))
        if image.caption:
            files.append((f"{number:03}.txt", image.caption.encode()))
    return write_archive(files)


@dataclass
class _Seen:
    """The pictures so far: their names by hash, and their small copies."""

    hashes: dict[str, str] = field(default_factory=dict)
    thumbs: list[tuple[str, Image.Image]] = field(default_factory=list)


def _checked(image: NamedImage, seen: _Seen) -> Media:
    """Verify a picture to train with. Raise BadInput, whose message goes on from the picture's name."""
    if len(image.content) > LARGEST_IMAGE:
        raise BadInput(f"has more than {LARGEST_IMAGE // MIB} MiB")
    try:
        media = verify(image.content)
    except Unverified:
        raise BadInput("does not decode: it is cut short or damaged") from None
    except DarkroomError as error:
        raise BadInput(f"cannot be stored: {error.message}") from None
    assert media.width is not None and media.height is not None
    if min(media.width, media.height) < SHORTEST_SIDE:
        raise BadInput(f"has {media.width} × {media.height} pixels, and each side needs {SHORTEST_SIDE}")
    if (twin := _twin(image.name, media, seen)) is not None:
        raise BadInput(f"is the same picture as {shown(twin)}")
    return media


def _twin(name: str, media: Media, seen: _Seen) -> str | None:
    """Return the name of the same picture among those before, or None. Add this one to them."""
    if media.sha256 in seen.hashes:
        return seen.hashes[media.sha256]
    seen.hashes[media.sha256] = name
    thumb = _thumb(media.content)
    twin = next((other for other, known in seen.thumbs if _looks_like(thumb, known)), None)
    seen.thumbs.append((name, thumb))
    return twin


def _thumb(content: bytes) -> Image.Image:
    with Image.open(BytesIO(content)) as image:
        image.draft("RGB", (8 * THUMB, 8 * THUMB))  # a JPEG is decoded small, at a fraction of the cost
        opaque = image.convert("RGBA") if image.has_transparency_data else image  # Pillow warns of palettes otherwise
        return opaque.convert("RGB").resize((THUMB, THUMB), Image.Resampling.BOX)


def _looks_like(thumb: Image.Image, other: Image.Image) -> bool:
    extremes = cast(tuple[tuple[int, int], ...], ImageChops.difference(thumb, other).getextrema())
    return max(most for _, most in extremes) <= SAME_WITHIN
