"""The bytes of the files on disk, by their hash: what several files share is there once."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path


class Shelf:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # What clients have uploaded is in it.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def keep(self, content: bytes) -> str:
        """Write the content, if it is not there yet. Return the name to read it by."""
        name = hashlib.sha256(content).hexdigest()
        place = self._folder / name
        if not place.exists():
            # A kill leaves nothing under the hash of what is not whole.
            temporary = place.with_suffix(".new")
            temporary.write_bytes(content)
            temporary.replace(place)
        return name

    def read(self, name: str) -> bytes | None:
        with suppress(OSError):
            return (self._folder / name).read_bytes()
        return None

    def drop(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    def keep_only(self, names: Collection[str]) -> None:
        for each in self._folder.iterdir():
            if each.name not in names:
                each.unlink(missing_ok=True)
