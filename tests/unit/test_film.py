"""Films with sound and captions, made by the real FFmpeg from real films, and looked at."""

from __future__ import annotations

import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from media_files import film, sound
from PIL import Image, ImageChops

from darkroom.errors import Permanent, Refused, Retry, Unverified
from darkroom.media.film import Caption, captions, compose, ffmpeg, spread
from darkroom.media.film import caption_check as looking
from darkroom.media.formats.films import read_film

SAYS_HELLO = Caption(speaker="Foxbrew", text="Hello there, kettle", start=0.1, end=0.9)


def said(text: str, *, speaker: str = "Foxbrew", start: float = 0.0, end: float = 1.0) -> Caption:
    return Caption(speaker=speaker, text=text, start=start, end=end)


def grey(number: int, width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), (120, 120, 120))


def changed(content: bytes, moment: float, *, half: str = "lower") -> int:
    """How many pixels of the frame are plainly other than grey."""
    frame = looking.frames_at(content, [moment])[0].convert("L")
    width, height = frame.size
    box = (0, height // 2, width, height) if half == "lower" else (0, 0, width, height // 2)
    difference = ImageChops.difference(frame.crop(box), Image.new("L", (width, height // 2), 120))
    return sum(difference.histogram()[60:])


@pytest.mark.parametrize(
    ("film_seconds", "sound_seconds"), [(1, 2.6), (2, 1), (1, 1)], ids=["film begins anew", "silence follows", "alike"]
)
def test_the_finished_film_lasts_as_long_as_the_longer_of_film_and_sound(
    film_seconds: float, sound_seconds: float
) -> None:
    """Nothing of either is cut."""
    made = read_film(compose(film(seconds=film_seconds), sound(seconds=sound_seconds), []))
    assert made.seconds == pytest.approx(max(film_seconds, sound_seconds), abs=0.15)
    assert made.has_sound


@pytest.mark.parametrize("kind", ["mp3", "wav", "m4a"])
def test_every_kind_of_sound_can_be_laid_under_a_film(kind: str) -> None:
    """Those that are let in."""
    assert read_film(compose(film(), sound(kind=kind), [SAYS_HELLO])).has_sound


def test_a_caption_is_seen_while_it_is_said_and_not_before_or_after() -> None:
    """In the lower half of the picture."""
    made = compose(film(seconds=3, draw=grey, size=(320, 180)), sound(seconds=3), [said("Tea!", start=1, end=2)])
    assert changed(made, 0.5) == 0
    assert changed(made, 1.5) > 100
    assert changed(made, 2.5) == 0
    assert changed(made, 1.5, half="upper") == 0


def test_captions_go_on_when_the_film_begins_anew() -> None:
    """Their time is that of the sound."""
    late = said("Still talking", start=2.0, end=2.9)
    made = compose(film(seconds=1, draw=grey, size=(320, 180)), sound(seconds=3), [late])
    assert changed(made, 0.5) == 0
    assert changed(made, 2.5) > 100


@pytest.mark.parametrize(
    "text",
    [
        r"It's 100% {\an8}'quoted', \N; [brackets]: a=b, \\ and C:\new",
        '%{localtime} $(touch owned) `touch owned` ; | & > < "',
        "Zwölf Größen: žluťoučký, ΑΒΓ, Привет, “so” – it’s…",
        "one\nDialogue: 0,0:00:00.00,0:00:05.00,Line,two\r\n\x00\x1b[0m",
        "日本 😀",
    ],
)
def test_what_is_said_is_never_a_command(text: str) -> None:
    """Neither to a shell, nor to FFmpeg, nor to the renderer, which knows several: it stands where captions stand."""
    made = compose(film(draw=grey, size=(320, 180)), sound(), [said(text, speaker="{Fox},brew")])
    assert changed(made, 0.5) > 100
    assert changed(made, 0.5, half="upper") == 0


def test_each_side_has_its_own_colour() -> None:
    """One sees who speaks."""
    written = captions.written([said("a", speaker="Foxbrew"), said("b", speaker="Kettle & Co")], width=1280, height=720)
    first, second = (line for line in written.splitlines() if line.startswith("Dialogue"))
    assert "Foxbrew" in first and "Kettle & Co" in second
    assert first.split(r"\c&H")[1][:6] != second.split(r"\c&H")[1][:6]


@pytest.mark.parametrize("caption", [said(" "), said("x", start=0.5, end=0.5), said("x", end=9), said("x", start=-1)])
def test_a_caption_nobody_would_see_is_no_caption(caption: Caption) -> None:
    """It is said, rather than cut."""
    with pytest.raises(Permanent) as caught:
        compose(film(), sound(), [caption])
    assert caught.value.code == "caption_unseen"


def test_lines_are_given_time_by_their_length() -> None:
    """The whole of it, one after the other."""
    short, long = spread([("a", "x" * 10), ("b", "y" * 30)], 8.0)
    assert (short.start, long.start) == (0, 2)
    assert short.end == pytest.approx(2, abs=0.1)
    assert long.end == pytest.approx(8, abs=0.1)


def test_a_large_film_is_made_smaller_and_keeps_its_shape() -> None:
    """1280 × 720 at most, or 720 × 1280."""
    wide = read_film(compose(film(seconds=0.2, size=(1920, 800)), sound(seconds=0.2), []))
    upright = read_film(compose(film(seconds=0.2, size=(1080, 1920)), sound(seconds=0.2), []))
    assert (wide.width, wide.height) == (1280, 534)
    assert (upright.width, upright.height) == (720, 1280)


def test_what_is_damaged_is_not_worked_upon() -> None:
    """It is fetched again, or refused; also where the damage shows only to who decodes it."""
    with pytest.raises(Unverified):
        compose(film()[:-500], sound(), [])
    damaged = bytearray(film(seconds=3, index_first=True))
    damaged[len(damaged) // 2 : len(damaged) // 2 + 200] = bytes(200)
    with pytest.raises(Permanent):
        compose(bytes(damaged), sound(), [])
    with pytest.raises(Refused):
        compose(film(), b"ffconcat version 1.0\nfile /etc/passwd\n", [])


def test_a_film_without_its_captions_is_not_taken_for_finished() -> None:
    """What a renderer without any font would make."""
    moving = film(seconds=2, size=(320, 180))
    plain = compose(moving, sound(seconds=2), [])
    with_caption = compose(moving, sound(seconds=2), [SAYS_HELLO])
    assert not looking.captions_show(plain, moving, [SAYS_HELLO], film_seconds=2)
    assert looking.captions_show(with_caption, moving, [SAYS_HELLO], film_seconds=2)


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour later, by the next film; one that is being made elsewhere is left alone."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left, elsewhere = tmp_path / "darkroom-film-left", tmp_path / "darkroom-film-now"
    for folder in (left, elsewhere):
        folder.mkdir()
        (folder / "film.mp4").write_bytes(b"half of it")
    os.utime(left, (0, 0))
    compose(film(), sound(), [])
    assert not left.exists()
    assert [path.name for path in tmp_path.iterdir()] == [elsewhere.name]


def binary(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Another program in FFmpeg's place."""
    path = folder / "ffmpeg"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(ffmpeg, "get_ffmpeg_exe", lambda: str(path))


def test_ffmpeg_gets_none_of_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are in it."""
    monkeypatch.setenv("FAL_KEY", "secret")
    binary(tmp_path, monkeypatch, f"/usr/bin/env > {tmp_path}/seen")
    ffmpeg.run_ffmpeg([], folder=tmp_path, limit=timedelta(seconds=5))
    assert "secret" not in (tmp_path / "seen").read_text()
    assert "secret" in str(os.environ)


def test_ffmpeg_opens_nothing_but_files(tmp_path: Path) -> None:
    """Not even where a film names something else."""
    with pytest.raises(Permanent) as caught:
        ffmpeg.run_ffmpeg(
            [*ffmpeg.LOCAL_ONLY, "-f", "mov", "-i", "http://127.0.0.1:9/film.mp4", "-f", "mp4", "out.mp4"],
            folder=tmp_path,
            limit=timedelta(seconds=5),
        )
    assert "whitelist" in caught.value.message


def test_a_failure_says_why_in_few_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg's last ones."""
    binary(tmp_path, monkeypatch, f"echo {'x' * 100_000} >&2; echo 'No such filter: ass' >&2; exit 1")
    with pytest.raises(Permanent) as caught:
        ffmpeg.run_ffmpeg([], folder=tmp_path, limit=timedelta(seconds=5))
    assert caught.value.code == "film_failed"
    assert caught.value.message.endswith("No such filter: ass")
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("script", ["exec /bin/sleep 60", "kill -KILL $$"])
def test_a_machine_that_was_in_the_way_is_another_try(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too slow, or killed for its memory: nothing is wrong with the film."""
    binary(tmp_path, monkeypatch, script)
    with pytest.raises(Retry) as caught:
        ffmpeg.run_ffmpeg([], folder=tmp_path, limit=timedelta(seconds=1))
    assert caught.value.code == "film_slow"
