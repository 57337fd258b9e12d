"""The uploads that were announced and are still to come, in one piece or in parts.

They are on disk alone, a folder each, so that they outlive a process as they do at fal.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from .cdn import Terms
from .private_files import replace_content

_LAST_SECONDS = 24 * 3600  # assumed: fal says nothing of uploads that nobody goes on with
_ID = re.compile(r"[A-Za-z0-9_-]{22}")
_ANNOUNCED = "announced.json"


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What was announced of an upload."""

    url: str
    terms: Terms
    content_type: str


class BegunUploads:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for each in folder.iterdir():
            if time.time() - each.stat().st_mtime > _LAST_SECONDS:
                shutil.rmtree(each)

    def begin(self, expected: Expected) -> str:
        """Return a new id, under which it comes."""
        id = secrets.token_urlsafe(16)
        (self._folder / id).mkdir(mode=0o700)
        replace_content(self._folder / id / _ANNOUNCED, json.dumps(asdict(expected)).encode())
        return id

    def find(self, id: str) -> Expected | None:
        # What a client writes for an id is no path.
        if not _ID.fullmatch(id) or not (announced := self._folder / id / _ANNOUNCED).exists():
            return None
        noted = json.loads(announced.read_bytes())
        return Expected(url=noted["url"], terms=Terms(**noted["terms"]), content_type=noted["content_type"])

    def keep_part(self, id: str, number: int, content: bytes) -> None:
        replace_content(self._folder / id / f"{number}.part", content)

    def parts(self, id: str) -> dict[int, bytes]:
        """Return the parts that have come, in the order of their numbers."""
        found = {int(each.stem): each for each in (self._folder / id).glob("*.part")}
        return {number: found[number].read_bytes() for number in sorted(found)}

    def end(self, id: str) -> None:
        shutil.rmtree(self._folder / id)
