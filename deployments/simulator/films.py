"""Films made of one picture: the camera passes over it slowly, in H.264, as a person expects of a short clip."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from enum import Enum

from PIL import Image

FRAMES_PER_SECOND = 24
# The real one makes 1080p.
_LONGEST_EDGE = 960
# How much larger than what is seen the picture is: the room that the camera has.
_ROOM = 1.16
# Frequent key frames: whoever looks into the middle of the film need not decode all of it.
_ENCODING = {"preset": "ultrafast", "crf": "30", "g": "48"}


class Move(Enum):
    """Where the camera begins and ends, in shares of the room it has: across and down."""

    RIGHT = ((0.0, 0.5), (1.0, 0.5))
    LEFT = ((1.0, 0.5), (0.0, 0.5))
    UP = ((0.5, 1.0), (0.5, 0.0))
    DIAGONAL = ((0.0, 0.0), (1.0, 1.0))

    def place(self, share: float) -> tuple[float, float]:
        (x, y), (end_x, end_y) = self.value
        return x + (end_x - x) * share, y + (end_y - y) * share


@dataclass(frozen=True, kw_only=True)
class Film:
    content: bytes
    width: int
    height: int


@functools.lru_cache(maxsize=8)
def film(picture: bytes, *, seconds: float, move: Move, longest_edge: int = _LONGEST_EDGE) -> Film:
    """Render an mp4 without sound, in the picture's proportions."""
    # Here, since PyAV takes 17 MB that a simulator of pictures does without.
    import av

    stage, (width, height) = _stage(picture, longest_edge)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=_ENCODING)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.thread_count = 1
        frames = max(1, round(seconds * FRAMES_PER_SECOND))
        for number in range(frames):
            across, down = move.place(number / max(1, frames - 1))
            # By whole pixels, which costs the encoder little: a film of 5 s takes about a second of CPU.
            left, top = round(across * (stage.width - width)), round(down * (stage.height - height))
            seen = stage.crop((left, top, left + width, top + height))
            frame = av.VideoFrame.from_image(seen)  # type: ignore[no-untyped-call]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return Film(content=buffer.getvalue(), width=width, height=height)


def _stage(picture: bytes, longest_edge: int) -> tuple[Image.Image, tuple[int, int]]:
    """Return the enlarged picture, and the size of what is seen of it."""
    with Image.open(io.BytesIO(picture)) as opened:
        image = opened.convert("RGB")
    scale = longest_edge / max(image.size)
    # Even, as the yuv420p of H.264 has one colour for four pixels.
    width, height = (max(2, round(edge * scale / 2) * 2) for edge in image.size)
    room = (round(width * _ROOM), round(height * _ROOM))
    return image.resize(room, Image.Resampling.BICUBIC), (width, height)
