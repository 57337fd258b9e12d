"""Which films, sounds, weights and archives are let in. All of them are real ones; pictures: test_fal_files.py."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from io import BytesIO

import pytest
from media_files import film, sound
from zip_files import in_zip64

from darkroom.errors import DarkroomError, Refused, Unverified
from darkroom.media.formats import Kind, verify
from darkroom.media.formats.films import read_film


def failure(content: bytes, kind: Kind) -> DarkroomError:
    with pytest.raises(DarkroomError) as caught:
        verify(content, kind)
    return caught.value


def safetensors(header: object, tensors: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + tensors


def tensor(start: int, stop: int) -> dict[str, object]:
    return {"dtype": "F16", "shape": [(stop - start) // 2], "data_offsets": [start, stop]}


def archive(*names: str) -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as opened:
        for name in names:
            opened.writestr(name, b"a file")
    return out.getvalue()


def test_a_whole_film_is_taken_with_its_measures() -> None:
    """Size and length are those of what was decoded."""
    verified = verify(film(seconds=1.5, size=(160, 90), with_sound=True), Kind.VIDEO)
    assert (verified.content_type, verified.extension) == ("video/mp4", "mp4")
    assert (verified.width, verified.height) == (160, 90)
    assert verified.seconds == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize("with_sound", [True, False])
def test_a_film_is_known_to_have_sound(with_sound: bool) -> None:
    """By its streams."""
    assert read_film(film(with_sound=with_sound)).has_sound is with_sound


@pytest.mark.parametrize("index_first", [True, False])
@pytest.mark.parametrize("kept", [0.999, 0.6, 0.2])
def test_a_film_that_is_cut_short_is_fetched_again(index_first: bool, kept: float) -> None:
    """Even one whose list of frames is whole, and that would open."""
    content = film(index_first=index_first)
    assert isinstance(failure(content[: int(len(content) * kept)], Kind.VIDEO), Unverified)


def test_a_film_that_is_damaged_in_its_middle_is_fetched_again() -> None:
    """A player would show the last good frame instead."""
    content = bytearray(film(index_first=True, seconds=3))
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    assert isinstance(failure(bytes(content), Kind.VIDEO), Unverified)


@pytest.mark.parametrize("kind", ["mp3", "wav", "m4a"])
def test_a_whole_sound_is_taken_with_its_length(kind: str) -> None:
    """As what it is."""
    verified = verify(sound(seconds=2, kind=kind), Kind.AUDIO)
    assert verified.extension == kind
    assert verified.content_type.startswith("audio/")
    assert verified.seconds == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("kind", ["mp3", "wav", "m4a"])
def test_a_sound_that_is_cut_short_is_fetched_again(kind: str) -> None:
    """A player would play the shorter one."""
    content = sound(seconds=2, kind=kind)
    assert isinstance(failure(content[: len(content) // 2 + 17], Kind.AUDIO), Unverified)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (sound(kind="m4a"), Kind.VIDEO),
        (film(with_sound=True), Kind.AUDIO),
        (film(codec="mpeg4"), Kind.VIDEO),
        (b"#EXTM3U\nfile:///etc/passwd\n", Kind.VIDEO),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", Kind.AUDIO),
        (b"<html>no such file</html>", Kind.AUDIO),
        (b"<html>no such file</html>", Kind.WEIGHTS),
        (b"[1, 2]", Kind.CONFIG),
        (b"\x1f\x8b a tar.gz", Kind.ARCHIVE),
        (b"%PDF-1.7", Kind.IMAGE),
    ],
    ids=lambda value: value.value if isinstance(value, Kind) else repr(value[:12]),
)
def test_what_is_of_another_type_is_refused(content: bytes, kind: Kind) -> None:
    """For good: another try brings the same."""
    error = failure(content, kind)
    assert isinstance(error, Refused)
    assert error.code == "wrong_type"


def test_a_film_with_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    """By its header."""
    with pytest.raises(Refused) as caught:
        verify(film(size=(160, 90)), Kind.VIDEO, max_pixels=160 * 90 - 1)
    assert caught.value.code == "too_many_pixels"


def test_a_film_of_more_than_ten_minutes_is_refused() -> None:
    """By its header: it is not decoded."""
    error = failure(film(seconds=610, fps=1, size=(16, 16)), Kind.VIDEO)
    assert isinstance(error, Refused)
    assert error.code == "too_long"


def test_whole_weights_are_taken() -> None:
    """Without a library for them: only the header is read."""
    content = safetensors({"__metadata__": {"format": "pt"}, "b": tensor(4, 8), "a": tensor(0, 4)}, bytes(8))
    assert verify(content, Kind.WEIGHTS).extension == "safetensors"


@pytest.mark.parametrize("cut", [1, 9, 60])
def test_weights_that_are_cut_short_are_fetched_again(cut: int) -> None:
    """In the tensors or in the header."""
    content = safetensors({"a": tensor(0, 8)}, bytes(8))
    assert isinstance(failure(content[:-cut], Kind.WEIGHTS), Unverified)


@pytest.mark.parametrize(
    "header",
    [
        {"a": tensor(0, 4), "b": tensor(2, 8)},
        {"a": tensor(0, 2), "b": tensor(4, 8)},
        {"a": tensor(-4, 8)},
        {"a": {"data_offsets": "0-8"}},
        {"a": [0, 8]},
    ],
)
def test_weights_whose_header_lies_are_refused(header: object) -> None:
    """Overlaps and gaps hide what no reader of weights looks at."""
    assert isinstance(failure(safetensors(header, bytes(8)), Kind.WEIGHTS), Refused)


def test_a_header_of_weights_is_bounded_before_it_is_read() -> None:
    """Its length is the file's own claim."""
    content = (2**40).to_bytes(8, "little") + b'{"a":' + bytes(100)
    assert isinstance(failure(content, Kind.WEIGHTS), Refused)


def test_a_config_is_a_json_object_of_a_megabyte_at_most() -> None:
    """Cut short it is fetched again, longer or deeper it is refused."""
    assert verify(b' {"lora": {"rank": 16}}', Kind.CONFIG).content_type == "application/json"
    assert isinstance(failure(b'{"lora": {"rank"', Kind.CONFIG), Unverified)
    assert isinstance(failure(b'{"a": "' + b"x" * 2**20 + b'"}', Kind.CONFIG), Refused)
    assert isinstance(failure(b'{"a": ' + b"[" * 100_000, Kind.CONFIG), Refused)


def test_a_whole_archive_is_taken() -> None:
    """With a comment as well: it stands behind the list of entries."""
    out = BytesIO(archive("one.png", "two.png"))
    with zipfile.ZipFile(out, "a") as opened:
        opened.comment = b"faces"
    assert verify(out.getvalue(), Kind.ARCHIVE).extension == "zip"


def test_an_archive_that_is_cut_short_is_fetched_again() -> None:
    """Its list of entries stands at its end."""
    content = archive("one.png", "two.png")
    assert isinstance(failure(content[:-1], Kind.ARCHIVE), Unverified)
    assert isinstance(failure(content[: len(content) // 2], Kind.ARCHIVE), Unverified)


def test_a_list_of_entries_is_bounded_before_it_is_read() -> None:
    """Also where it is in the format for more than 4 GB, which would be read instead."""
    content = archive("one.png")
    end = content.rfind(b"PK\x05\x06")
    long = content[: end + 12] + (2**31).to_bytes(4, "little") + content[end + 16 :]
    assert failure(long, Kind.ARCHIVE).code == "too_many_entries"
    hidden = content[:end] + b"PK\x06\x07" + bytes(16) + content[end:]
    assert isinstance(failure(hidden, Kind.ARCHIVE), Refused)
    assert failure(in_zip64(content, list_bytes=2**31), Kind.ARCHIVE).code == "too_many_entries"


@pytest.mark.parametrize("before", [b"", b"#!/bin/sh\nexec unzip\n"], ids=["as it is", "behind a program"])
@pytest.mark.parametrize("zip64", [False, True])
def test_an_archive_is_one_in_either_format_and_behind_anything(zip64: bool, before: bytes) -> None:
    """Its list is bounded all the same."""
    content = archive("one.png")
    assert verify(before + (in_zip64(content) if zip64 else content), Kind.ARCHIVE).extension == "zip"


def test_who_handles_pictures_alone_does_not_load_the_film_library() -> None:
    """It takes a fifth of a second, and every child of a worker would pay it."""
    code = "import sys, darkroom.media.formats; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
