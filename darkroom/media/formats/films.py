"""Films (MP4, H.264) and sound (MP3, WAV, M4A), decoded to their end by PyAV.

To their end, because damage in the middle shows nowhere else; a second of 720p costs 0.02 s of CPU, of 1080p 0.05 s.
The decoder is told the container, so that nothing FFmpeg might take the bytes for instead (a playlist, which names
other files) is ever opened. Imported by who verifies films alone: PyAV takes 0.2 s to load.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import IO

import av
from av.container import InputContainer
from av.error import FFmpegError
from PIL import Image

from darkroom.errors import Refused, Unverified
from darkroom.media.formats.files import Media, whole

FILM = ("video/mp4", "mp4")
MAX_SECONDS = 600
MAX_FILM_PIXELS = 4096 * 2304
MAX_BOXES = 10_000
SHORTER_BY_SECONDS = 0.2  # what encoders put before and after a sound
SOUNDS = {"mp3": ("audio/mpeg", "mp3"), "wav": ("audio/wav", "wav"), "mov": ("audio/mp4", "m4a")}
_STREAMED = (0, 0xFFFF_FFFF)  # a WAV whose length was not known when its header was written


@dataclass(frozen=True, kw_only=True)
class Film:
    """What a film holds. Sizes in pixels; `seconds` is the container's, its longest stream."""

    width: int
    height: int
    seconds: float
    has_sound: bool


def film(content: bytes, *, max_pixels: int) -> Media:
    """Read a film to its end and return its file."""
    read = read_film(content, max_pixels=max_pixels)
    return whole(content, *FILM, width=read.width, height=read.height, seconds=read.seconds)


def read_film(content: bytes | IO[bytes], *, max_pixels: int = MAX_FILM_PIXELS, to_its_end: bool = True) -> Film:
    """Decode every frame of a film, or none, and return what it holds.

    Raise Refused for what is no film of ours, Unverified for a damaged one.
    """
    file = BytesIO(content) if isinstance(content, bytes) else content
    if not _is_mp4(file):
        raise Refused("the file is not an MP4 film", code="wrong_type")
    with _opened(file, "mov") as container:
        if not container.streams.video:
            raise Refused("the file has no moving picture", code="wrong_type")
        stream = container.streams.video[0]
        # None where FFmpeg has no decoder for it.
        if stream.codec_context is None or stream.codec_context.name != "h264":
            raise Refused("the film is not H.264", code="wrong_type")
        if stream.width * stream.height > min(max_pixels, MAX_FILM_PIXELS):
            raise Refused(f"the film has more than {max_pixels} pixels", code="too_many_pixels")
        seconds = _duration(container)
        if to_its_end:
            _decode(container)
        return Film(
            width=stream.width,
            height=stream.height,
            seconds=seconds,
            has_sound=bool(container.streams.audio),
        )


def first_frame(file: IO[bytes]) -> Image.Image:
    """Return the first picture of a film that was verified before. Raise Unverified where there is none any more."""
    with _opened(file, "mov") as container:
        for frame in container.decode(video=0):
            image: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]
            return image
    raise Unverified("the film has no picture")


def sound(content: bytes) -> Media:
    """Read a sound to its end and return its file."""
    container_format = _sniff_sound(content)
    with _opened(BytesIO(content), container_format) as container:
        if container.streams.video or not container.streams.audio:
            raise Refused("the file is not a sound alone", code="wrong_type")
        declared = _duration(container)
        decoded = _decode(container)
        if _says_how_long(content) and decoded < declared - SHORTER_BY_SECONDS:
            raise Unverified(f"the sound is cut short: {decoded:.1f} of {declared:.1f} seconds")
        content_type, extension = SOUNDS[container_format]
        return whole(content, content_type, extension, seconds=decoded)


@contextmanager
def _opened(file: IO[bytes], container_format: str) -> Iterator[InputContainer]:
    file.seek(0)
    try:
        with av.open(file, "r", format=container_format) as container:
            yield container
    except FFmpegError as error:
        raise Unverified("the file does not decode to its end") from error


def _duration(container: InputContainer) -> float:
    """Return the duration in seconds, as the container has it. Raise Refused for more than MAX_SECONDS."""
    seconds = (container.duration or 0) / av.time_base
    if seconds > MAX_SECONDS:
        raise Refused(f"the file lasts longer than {MAX_SECONDS} seconds", code="too_long")
    return seconds


def _decode(container: InputContainer) -> float:
    """Decode every packet of picture and sound. Return how many seconds of sound there were."""
    streams = (*container.streams.video[:1], *container.streams.audio)
    packets = dict.fromkeys((stream.index for stream in streams), 0)
    seconds = 0.0
    for stream in streams:
        # Without it a decoder hides what is damaged behind the last good frame.
        stream.codec_context.options = {"err_detect": "explode"}
    for packet in container.demux(*streams):
        if packet.is_corrupt:
            raise Unverified("the file is damaged")
        packets[packet.stream_index] += packet.size > 0
        for frame in packet.decode():
            if isinstance(frame, av.AudioFrame):
                seconds += frame.samples / frame.sample_rate
    for stream in streams:
        if not packets[stream.index] or packets[stream.index] < stream.frames:
            raise Unverified(f"the file is cut short: {packets[stream.index]} of {stream.frames} frames")
    if seconds > MAX_SECONDS:
        raise Refused(f"the file lasts longer than {MAX_SECONDS} seconds", code="too_long")
    return seconds


def _sniff_sound(content: bytes) -> str:
    if content.startswith(b"ID3") or (content[0] == 0xFF and content[1:2] and content[1] & 0xE0 == 0xE0):
        return "mp3"
    if content.startswith(b"RIFF") and content[8:12] == b"WAVE":
        _check_riff(content)
        return "wav"
    if _is_mp4(BytesIO(content)):
        return "mov"
    raise Refused("the file is not an MP3, WAV or M4A sound", code="wrong_type")


def _is_mp4(file: IO[bytes]) -> bool:
    """Return whether the file is an MP4. Raise Unverified for one whose boxes are not all there."""
    size = file.seek(0, os.SEEK_END)
    file.seek(4)
    if file.read(4) != b"ftyp":
        return False
    at = 0
    for _ in range(MAX_BOXES):
        if at >= size:
            break
        file.seek(at)
        at += _box_bytes(file.read(16), left=size - at)
    else:
        raise Refused(f"the file has more than {MAX_BOXES} parts", code="wrong_type")
    if at > size:  # FFmpeg would guess what is not there
        raise Unverified(f"the file is cut short: {size} of {at} bytes")
    return True


def _box_bytes(head: bytes, *, left: int) -> int:
    """Return the size in bytes of the box that begins there, with its head."""
    size = int.from_bytes(head[:4], "big")
    if size == 1:  # 64 bits follow the four letters of its name
        size = int.from_bytes(head[8:16], "big")
    # 0 is a box to the end of the file; one smaller than its own head would be read for ever.
    return max(8, size or left)


def _says_how_long(content: bytes) -> bool:
    """Return whether it is an MP3 whose first frame tells its length. Else FFmpeg guesses it, and is often wrong."""
    first = 0
    if content.startswith(b"ID3"):  # its length has seven bits a byte
        first = 10 + sum((content[6 + n] & 0x7F) << (21 - 7 * n) for n in range(4))
    head = content[first : first + 64]
    return b"Xing" in head or b"Info" in head


def _check_riff(content: bytes) -> None:
    """Raise Unverified for a WAV that is cut short: FFmpeg plays it as a short one."""
    declared = int.from_bytes(content[4:8], "little")
    if declared not in _STREAMED and declared + 8 > len(content):
        raise Unverified(f"the file is cut short: {len(content)} of {declared + 8} bytes")
