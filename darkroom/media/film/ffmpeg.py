"""One run of FFmpeg, the binary that comes in the wheel `imageio-ffmpeg`: it reads and writes in one folder."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from imageio_ffmpeg import get_ffmpeg_exe

from darkroom.errors import Permanent, Retry

_TAIL_LETTERS = 300

LOCAL_ONLY = ("-protocol_whitelist", "file")  # before each input: a playlist could name addresses


def run_ffmpeg(arguments: Sequence[str], *, folder: Path, limit: timedelta) -> None:
    """Run FFmpeg. Raise Permanent with FFmpeg's last words, Retry where the machine was in its way."""
    seconds = limit.total_seconds()
    # The limit on its CPU time ends it, too, if this process is killed meanwhile.
    command = [get_ffmpeg_exe(), "-nostdin", "-hide_banner", "-v", "error", "-timelimit", str(int(seconds)), *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise Retry(f"FFmpeg was not done after {seconds:.0f} seconds", code="film_slow") from error
    # By its limit of CPU time, or by whoever makes room in memory.
    if done.returncode < 0:
        raise Retry(f"FFmpeg was ended by signal {-done.returncode}", code="film_slow")
    if done.returncode:
        raise Permanent(f"FFmpeg failed: {_tail(done.stderr)}", code="film_failed")


def _environment(folder: Path) -> dict[str, str]:
    # Nothing of ours: keys are in it.
    return {"PATH": "", "HOME": str(folder), "XDG_CACHE_HOME": str(folder), "LC_ALL": "C"}


def _tail(stderr: bytes) -> str:
    text = stderr.decode(errors="replace")
    return "".join(letter if letter.isprintable() else " " for letter in text[-_TAIL_LETTERS:]).strip()
