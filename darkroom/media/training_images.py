"""Pictures to train with: whether they are fit for it, and the archive in which a trainer takes them.

All that are wrong are named in one error, because a training is ordered with dozens of them at once. The same picture
twice, by its bytes or its pixels, is wrong: it would only be learned twice as hard. Two that look alike may be what is
wanted, as two frames of a burst are: that is told, and refuses nothing.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from operator import mul
from typing import cast

from PIL import Image, ImageChops

from darkroom.errors import BadInput, DarkroomError, Unverified
from darkroom.media.archives import LARGEST_IMAGE, MIB, MOST_BYTES, Flaw, NamedImage, listed, shown, told, write_archive
from darkroom.media.formats import Media, verify
from darkroom.media.formats.pictures import open_picture
from darkroom.media.formats.pixels import is_deep_grey, plain

FEWEST_IMAGES, MOST_IMAGES = 4, 50
SHORTEST_SIDE = 256  # pixels: below, there is nothing for a trainer to learn from

# Two look alike if no colour (0 to 255) of small copies differs by more than that, and larger ones have the same
# features in the same places: small copies of fine textures are all one grey.
THUMB, SAME_WITHIN = 16, 8
DETAIL, SAME_FEATURES = 64, 0.9
FLAT = 2.0  # how much a picture's colours vary that has no features


@dataclass(frozen=True, kw_only=True)
class TrainingImage:
    """A picture to train with: verified, large enough, no copy of another."""

    name: str
    media: Media
    caption: str | None


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The pictures, all fit to train with, and what is to be told of them."""

    images: tuple[TrainingImage, ...]
    notes: tuple[Flaw, ...] = ()


def check_training_images(
    images: Iterable[NamedImage],
    *,
    flaws: Sequence[Flaw] = (),
    notes: Sequence[Flaw] = (),
    field: str = "images",
    allow_similar: bool = False,
) -> Checked:
    """Return the pictures if all of them are fit to train with and there are enough; else raise BadInput(field).

    `flaws`: what is known to be wrong already, e.g. of pictures that could not be fetched. `notes`: what is to be told
    already. `allow_similar`: do not tell which look alike.
    """
    found, good, seen = list(flaws), list[TrainingImage](), _Seen(compare=not allow_similar)
    for image in images:
        try:
            good.append(TrainingImage(name=image.name, media=_checked(image, seen), caption=image.caption))
        except BadInput as error:
            found.append(Flaw(name=image.name, reason=error.message))
    if found:
        raise listed(found, field=field)
    if not FEWEST_IMAGES <= len(good) <= MOST_IMAGES:
        counted = "is one picture" if len(good) == 1 else f"are {len(good)} pictures"
        told_too = " ".join(["", *told(notes)])  # where too few are left, it may be why
        raise BadInput(f"There {counted}; a training takes {FEWEST_IMAGES} to {MOST_IMAGES}.{told_too}", field=field)
    if sum(len(image.media.content) for image in good) > MOST_BYTES:
        raise BadInput(f"Together they have more than {MOST_BYTES // MIB} MiB. Make them smaller.", field=field)
    changed = [Flaw(name=image.name, reason=note) for image in good for note in image.media.notes]
    return Checked(images=tuple(good), notes=(*notes, *changed, *seen.alike))


def with_trigger(images: Sequence[TrainingImage], word: str) -> list[TrainingImage]:
    """Put the trigger word into every caption, where there are any."""
    if not any(image.caption for image in images):
        return list(images)  # the trainer writes its own
    # A picture whose caption lacks the word would teach it nothing.
    return [replace(image, caption=called(image.caption or "", word)) for image in images]


def called(text: str, word: str) -> str:
    """Return the text with the trigger word in it."""
    # Where it stands already it stays, also as `[trigger]`, for which the trainer puts it in.
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


@dataclass(frozen=True)
class _Small:
    """What a picture is compared by: its colours in 16 × 16 fields, and its light in 64 × 64.

    `detail`: how the light differs from its mean, of length 1 as a vector; None where it hardly does.
    """

    name: str
    thumb: Image.Image
    detail: tuple[float, ...] | None


@dataclass
class _Seen:
    """The pictures so far: their names by hash of bytes and of pixels, small copies, and which looked alike."""

    compare: bool = True
    hashes: dict[str, str] = field(default_factory=dict)
    small: list[_Small] = field(default_factory=list)
    alike: list[Flaw] = field(default_factory=list)


def _checked(image: NamedImage, seen: _Seen) -> Media:
    """Verify a picture to train with. Raise BadInput, whose message goes on from the picture's name."""
    if len(image.content) > LARGEST_IMAGE:
        raise BadInput(f"has more than {LARGEST_IMAGE // MIB} MiB")
    try:
        media = verify(image.content, metadata=False)
    except Unverified:
        raise BadInput("does not decode: it is cut short or damaged") from None
    except DarkroomError as error:
        raise BadInput(f"cannot be stored: {error.message}") from None
    assert media.width is not None and media.height is not None
    if min(media.width, media.height) < SHORTEST_SIDE:
        raise BadInput(f"has {media.width} × {media.height} pixels, and each side needs {SHORTEST_SIDE}")
    _compare(image, media, seen)
    return media


def _compare(image: NamedImage, media: Media, seen: _Seen) -> None:
    """Raise BadInput for the same picture as one before. Note which one it looks like; add it to them."""
    same = hashlib.sha256(image.content).hexdigest()
    if same not in seen.hashes:
        seen.hashes[same] = image.name
        # Of 16 bits as it came: scans that differ in the lower eight are not the same.
        same = _pixels(image.content if _is_deep(image.content) else media.content)
    if same in seen.hashes:
        raise BadInput(f"is the same picture as {shown(seen.hashes[same])}")
    seen.hashes[same] = image.name
    if seen.compare:
        small = _small(image.name, media.content)
        if (like := next((other.name for other in seen.small if _looks_like(small, other)), None)) is not None:
            seen.alike.append(Flaw(name=image.name, reason=f"looks like {shown(like)}"))
        seen.small.append(small)


def _is_deep(content: bytes) -> bool:
    with open_picture(content) as image:
        return is_deep_grey(image)


def _pixels(content: bytes) -> str:
    """Hash the pixels as they are looked at, whatever file they are in."""
    with open_picture(content) as image:
        seen = image if is_deep_grey(image) else plain(image)
        if seen.has_transparency_data and seen.getchannel("A").getextrema() == (255, 255):
            seen = seen.convert(seen.mode[:-1])
        seen = seen.convert("RGB") if seen.mode == "L" else seen
        return hashlib.sha256(f"{seen.mode} {seen.size} ".encode() + seen.tobytes()).hexdigest()


def _small(name: str, content: bytes) -> _Small:
    with open_picture(content) as image:
        image.draft("RGB", (8 * DETAIL, 8 * DETAIL))  # a JPEG is decoded small, at a fraction of the cost
        seen = plain(image).convert("RGB")
    light = seen.convert("L").resize((DETAIL, DETAIL), Image.Resampling.BOX).tobytes()
    return _Small(name=name, thumb=seen.resize((THUMB, THUMB), Image.Resampling.BOX), detail=_detail(light))


def _detail(light: bytes) -> tuple[float, ...] | None:
    mean = sum(light) / len(light)
    length = math.sqrt(sum((value - mean) ** 2 for value in light))
    if length < FLAT * math.sqrt(len(light)):
        return None
    return tuple((value - mean) / length for value in light)


def _looks_like(one: _Small, other: _Small) -> bool:
    extremes = cast(tuple[tuple[int, int], ...], ImageChops.difference(one.thumb, other.thumb).getextrema())
    if max(most for _, most in extremes) > SAME_WITHIN:
        return False
    if one.detail is None or other.detail is None:
        return True
    correlation: float = sum(map(mul, one.detail, other.detail))
    return correlation >= SAME_FEATURES
