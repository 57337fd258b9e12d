"""Files of a folder as a power cut and a kill leave them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from stat import S_ISDIR

import pytest

from darkroom.media.store import LocalFolder, MediaStore

KEY = "images/usr_1/job_1/generate-0.png"
CONTENT = b"a picture"


class Disk:
    """What a power cut leaves: of a file what it held when it was synced, of a folder the names it had then."""

    def __init__(self, root: Path) -> None:
        self._root = root.stat().st_ino
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}

    def sync(self, opened: int) -> None:
        found = os.stat(opened)
        if S_ISDIR(found.st_mode):
            self._names[found.st_ino] = {each.name: each.inode() for each in os.scandir(opened)}
        else:
            self._contents[found.st_ino] = Path(f"/proc/self/fd/{opened}").read_bytes()

    def content(self, key: str) -> bytes | None:
        at: int | None = self._root
        for name in key.split("/"):
            at = None if at is None else self._names.get(at, {}).get(name)
        return None if at is None else self._contents.get(at)


WAYS: list[Callable[[MediaStore, str, bytes], None]] = [
    lambda store, key, content: store.write(key, content),
    lambda store, key, content: store.write_file(key, BytesIO(content)),
]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the test's disk needs Linux")
@pytest.mark.parametrize("write", WAYS)
def test_what_is_stored_outlasts_a_power_cut(
    write: Callable[[MediaStore, str, bytes], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its content and its name, with the folders that are new: the row that tells of it outlasts one, too."""
    disk, store = Disk(tmp_path), MediaStore(LocalFolder(str(tmp_path)))
    monkeypatch.setattr(os, "fsync", disk.sync)
    write(store, KEY, CONTENT)
    assert disk.content(KEY) == CONTENT
    write(store, KEY, b"another")
    assert disk.content(KEY) == b"another"


def left(folder: Path, name: str, *, age: timedelta) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(CONTENT)
    os.utime(file, times=(time.time() - age.total_seconds(),) * 2)
    return file


def test_what_killed_processes_were_writing_is_deleted_a_day_later(tmp_path: Path) -> None:
    """Nothing else is: neither what is being written, nor what somebody else has put there. It is looked for daily."""
    store, day = MediaStore(LocalFolder(str(tmp_path))), timedelta(days=1)
    writing = f".{'0a' * 16}"
    old = left(tmp_path, f"videos/usr_1/job_1/{writing}", age=2 * day)
    kept = [
        left(tmp_path, f"images/{writing}", age=day / 2),
        left(tmp_path, "images/.DS_Store", age=2 * day),
        left(tmp_path, f"images/{writing[1:]}", age=2 * day),
    ]
    store.sweep()
    assert not old.exists()
    assert all(file.exists() for file in kept)
    again = left(tmp_path, f"videos/{writing}", age=2 * day)
    store.sweep()
    assert again.exists()
    (marker,) = tmp_path.glob(".*")
    os.utime(marker, times=(0, 0))
    store.sweep()
    assert not again.exists()


def test_a_folder_that_is_not_there_yet_has_nothing_to_sweep(tmp_path: Path) -> None:
    MediaStore(LocalFolder(str(tmp_path / "none"))).sweep()
    assert not (tmp_path / "none").exists()
