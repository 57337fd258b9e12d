"""Files for their owner only, from their first byte: a mode that is set later comes after who has opened them already.

One process writes each of them, so that a draft has one name, and a kill leaves no second one.
"""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path

_MODE = 0o600


def open_to_append(path: Path) -> FileIO:
    """Open the file unbuffered, and make it where it is not there."""
    return FileIO(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, _MODE), "ab")


def replace_content(path: Path, content: bytes) -> None:
    """Replace the file in one step: one who is killed here leaves the old one."""
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)  # of one who was killed, which would keep its mode
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE), "wb") as file:
        file.write(content)
    draft.replace(path)
