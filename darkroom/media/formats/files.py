"""What is told of a file: before it is here (`RemoteFile`), and once it was read to its end (`Media`)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import IO


class Kind(StrEnum):
    """What a file is for. Where it lies in the store begins with it: `images/…`."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    WEIGHTS = "weights"  # of a trained model: safetensors
    CONFIG = "config"  # JSON that goes with them
    ARCHIVE = "archive"  # zip
    TABLE = "table"  # CSV or JSON lines, of our own making
    FILE = "file"  # of any kind: what its bytes say where we know them, else kept as it is


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file as a provider's output describes it: only the address is sure to be there. May be a `data:` URL.

    `hosts`: those that the provider has its files at, and no other is asked; none where files come within the answer.
    `flagged`: whether its model says that it is not safe for work; None where it says nothing.
    """

    url: str
    hosts: re.Pattern[bytes] | None = None
    kind: Kind = Kind.IMAGE
    content_type: str | None = None
    width: int | None = None
    height: int | None = None
    flagged: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Described:
    """What a whole file is. Type and measures are those of the decoded bytes, `sha256` is in hex.

    `notes`: what was passed over or changed where it is not kept as it came, each going on from its name.
    """

    content_type: str
    extension: str
    sha256: str
    width: int | None = None  # pixels
    height: int | None = None
    seconds: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Media(Described):
    """A whole file in memory."""

    content: bytes

    @property
    def size(self) -> int:
        return len(self.content)


@dataclass(frozen=True, kw_only=True)
class MediaOnDisk(Described):
    """A whole file that is too large to be in memory; open, for as long as who has made it says."""

    file: IO[bytes]
    size: int


def whole(
    content: bytes,
    content_type: str,
    extension: str,
    *,
    width: int | None = None,
    height: int | None = None,
    seconds: float | None = None,
    notes: Iterable[str] = (),
) -> Media:
    """Describe a file whose content the caller has read to its end."""
    return Media(
        content=content,
        content_type=content_type,
        extension=extension,
        sha256=hashlib.sha256(content).hexdigest(),
        width=width,
        height=height,
        seconds=seconds,
        notes=tuple(notes),
    )
