"""Real films and sounds, made by PyAV from drawn frames and a tone: small, so that a test makes them in a moment."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
from PIL import Image, ImageDraw

RATE = 44_100
Draw = Callable[[int, int, int], Image.Image]


def moving_bar(number: int, width: int, height: int) -> Image.Image:
    """A white bar that goes over a blue ground."""
    frame = Image.new("RGB", (width, height), (20, 40, 90))
    left = number * 5 % width
    ImageDraw.Draw(frame).rectangle((left, 0, left + 8, height), fill="white")
    return frame


def film(
    *,
    seconds: float = 1.0,
    size: tuple[int, int] = (160, 90),
    fps: int = 12,
    codec: str = "libx264",
    with_sound: bool = False,
    index_first: bool = False,
    draw: Draw = moving_bar,
) -> bytes:
    """An MP4. `index_first`: its list of frames stands at its beginning, so that one cut short still opens."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        options = {"movflags": "faststart"} if index_first else {}
        with av.open(path, "w", format="mp4", options=options) as container:
            stream = container.add_stream(
                codec, rate=fps, options={"preset": "ultrafast"} if codec == "libx264" else {}
            )
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            tones = container.add_stream("aac", rate=RATE, layout="mono") if with_sound else None
            for number in range(round(seconds * fps)):
                container.mux(stream.encode(av.VideoFrame.from_image(draw(number, *size))))
            container.mux(stream.encode())
            if tones is not None:
                _sing(container, tones, seconds)
        return path.read_bytes()


def sound(*, seconds: float = 1.0, kind: str = "mp3") -> bytes:
    """A tone of 440 Hz as mp3, wav or m4a."""
    codec, container_format = {"mp3": ("libmp3lame", "mp3"), "wav": ("pcm_s16le", "wav"), "m4a": ("aac", "ipod")}[kind]
    out = BytesIO()
    with av.open(out, "w", format=container_format) as container:
        _sing(container, container.add_stream(codec, rate=RATE, layout="mono"), seconds)
    return out.getvalue()


def _sing(container: Any, stream: Any, seconds: float) -> None:
    for frame in _tone(seconds):
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def _tone(seconds: float) -> Iterator[av.AudioFrame]:
    total, at_once = round(seconds * RATE), 1024
    for start in range(0, total, at_once):
        samples = array("h", [_sample(n) for n in range(start, min(start + at_once, total))])
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(samples))
        frame.planes[0].update(samples.tobytes().ljust(frame.planes[0].buffer_size, b"\0"))
        frame.sample_rate, frame.pts = RATE, start
        yield frame


def _sample(number: int) -> int:
    return int(8000 * math.sin(2 * math.pi * 440 * number / RATE))
