"""A film, a sound and captions become one film (MP4, H.264 and AAC) that any browser plays.

Nothing is cut: it lasts as long as the longer of the two, the film begins anew under a longer sound, and silence
follows a shorter one. The film's own sound, if it has one, gives way. What came out is measured and looked at. To its
end it is read by who stores it, as all files are.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from darkroom.errors import Permanent
from darkroom.media.film import captions as subtitles
from darkroom.media.film.caption_check import captions_show
from darkroom.media.film.captions import Caption, spread
from darkroom.media.film.ffmpeg import LOCAL_ONLY, run_ffmpeg
from darkroom.media.fonts import font_file
from darkroom.media.formats import Kind, verify
from darkroom.media.formats.films import Film, read_film

__all__ = ["Caption", "compose", "spread"]

LONG_EDGE, SHORT_EDGE = 1280, 720  # pixels
LIMIT = timedelta(minutes=3)
TOLERANCE_SECONDS = 0.25  # a frame of the film and one of the sound
ABANDONED_AFTER = timedelta(hours=1)
_FOLDER = "darkroom-film-"
_SOUND_FORMATS = {"mp3": "mp3", "wav": "wav", "m4a": "mov"}


def compose(film: bytes, sound: bytes, captions: Sequence[Caption], *, limit: timedelta = LIMIT) -> bytes:
    """Make the finished MP4, 1280 × 720 pixels at most. This takes a sixth of its length in CPU time.

    Raise what `darkroom.media.formats.verify` does for what goes in, Permanent for what cannot be made of it, Retry
    where it took longer than the limit.
    """
    picture, voice = read_film(film, to_its_end=False), verify(sound, Kind.AUDIO)
    assert voice.seconds is not None
    seconds = max(picture.seconds, voice.seconds)
    subtitles.check(captions, seconds)
    width, height = _fitted(picture.width, picture.height)
    _sweep()
    with TemporaryDirectory(prefix=_FOLDER) as name:
        folder = Path(name)
        (folder / "film.mp4").write_bytes(film)
        (folder / "sound").write_bytes(sound)
        _lay_out(folder, captions, width=width, height=height)
        arguments = _arguments(_SOUND_FORMATS[voice.extension], seconds=seconds, width=width, height=height)
        run_ffmpeg(arguments, folder=folder, limit=limit)
        made = (folder / "out.mp4").read_bytes()
    _check(read_film(made, to_its_end=False), seconds)
    # FFmpeg is content with drawing no captions where it finds no font.
    if not captions_show(made, film, captions, film_seconds=picture.seconds):
        raise Permanent("the captions are not to be seen in the film", code="captions_missing")
    return made


def _sweep() -> None:
    """Delete what processes that were killed at this have left in the machine's folder for such things."""
    for folder in Path(gettempdir()).glob(f"{_FOLDER}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > ABANDONED_AFTER.total_seconds():
                shutil.rmtree(folder)


def _lay_out(folder: Path, captions: Sequence[Caption], *, width: int, height: int) -> None:
    (folder / "captions.ass").write_text(subtitles.written(captions, width=width, height=height), encoding="utf-8")
    (folder / "fonts").mkdir()
    shutil.copyfile(font_file(), folder / "fonts" / "font.ttf")


def _arguments(sound_format: str, *, seconds: float, width: int, height: int) -> list[str]:
    """Return FFmpeg's arguments."""
    # Every name in them is ours, and every format is given: what is in the files decides nothing.
    picture = f"[0:v:0]scale={width}:{height},setsar=1,ass=captions.ass:fontsdir=fonts,format=yuv420p[picture]"
    return [
        "-xerror",
        *(*LOCAL_ONLY, "-err_detect", "explode", "-stream_loop", "-1", "-f", "mov", "-i", "film.mp4"),
        *(*LOCAL_ONLY, "-f", sound_format, "-i", "sound"),
        *("-filter_complex", f"{picture};[1:a:0]apad[voice]", "-map", "[picture]", "-map", "[voice]"),
        *("-t", f"{seconds:.3f}", "-map_metadata", "-1", "-bitexact"),
        # Mux encodes it anew anyhow: half the CPU time of `veryfast` for twice the bytes.
        *("-c:v", "libx264", "-preset", "ultrafast", "-crf", "20"),
        *("-c:a", "aac", "-b:a", "128k", "-ar", "44100", "-ac", "2"),
        # The index in front, so that a browser plays it while it comes.
        *("-movflags", "+faststart", "-f", "mp4", "out.mp4"),
    ]


def _fitted(width: int, height: int) -> tuple[int, int]:
    """Return the largest size that is allowed, in the film's own shape; even, as H.264 wants it."""
    factor = min(1.0, LONG_EDGE / max(width, height), SHORT_EDGE / min(width, height))
    return round(width * factor / 2) * 2, round(height * factor / 2) * 2


def _check(made: Film, seconds: float) -> None:
    if not made.has_sound or abs(made.seconds - seconds) > TOLERANCE_SECONDS:
        raise Permanent(
            f"FFmpeg made a film of {made.seconds:.2f} seconds, sound: {made.has_sound}, and not of {seconds:.2f}.",
            code="film_failed",
        )
