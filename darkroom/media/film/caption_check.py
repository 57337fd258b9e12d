"""Whether captions are in the picture: frames of the finished film beside those it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import av
from PIL import Image, ImageChops

from darkroom.media.film.captions import Caption

_PLAIN_TO_SEE = 60  # of 255 shades; what coding loses stays well below
_LEAST_SHARE = 0.0005  # of the lower half: about ten letters have four times as much


def captions_show(made: bytes, film: bytes, captions: Sequence[Caption], *, film_seconds: float) -> bool:
    """Look at the film half-way through each caption. Return whether all captions can be seen.

    The film that went in was shown again and again, every `film_seconds`.
    """
    moments = [(caption.start + caption.end) / 2 for caption in captions]
    with_captions = frames_at(made, moments)
    # A film shorter than its sound is shown again and again.
    without = frames_at(film, [moment % film_seconds for moment in moments])
    return all(_drawn_upon(one, other) for one, other in zip(with_captions, without, strict=True))


def frames_at(content: bytes, moments: Sequence[float]) -> list[Image.Image]:
    """Return what the film shows at these seconds of it."""
    wanted = dict.fromkeys(sorted(moments))
    shown: dict[float, Image.Image] = {}
    with av.open(BytesIO(content), "r", format="mov") as container:
        stream, frame = container.streams.video[0], None
        stream.thread_type = "AUTO"  # several frames at once: somebody waits for it
        for frame in container.decode(stream):
            passed = [moment for moment in wanted if frame.time is not None and moment < frame.time + _length(frame)]
            for moment in passed:
                shown[moment] = _image(frame)
                del wanted[moment]
            if not wanted:
                break
        if frame is not None:  # the sound may go on for some milliseconds more
            shown |= dict.fromkeys(wanted, _image(frame))
    return [shown[moment] for moment in moments]


def _image(frame: av.VideoFrame) -> Image.Image:
    image: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]
    return image


def _length(frame: av.VideoFrame) -> float:
    """Return how long the frame is shown, in seconds."""
    return float(frame.duration * frame.time_base) if frame.time_base else 0.0


def _drawn_upon(one: Image.Image, other: Image.Image) -> bool:
    width, height = one.size
    difference = ImageChops.difference(one.convert("L"), other.resize(one.size).convert("L"))
    changed = difference.crop((0, height // 2, width, height)).histogram()[_PLAIN_TO_SEE:]
    return sum(changed) >= _LEAST_SHARE * width * (height // 2)
