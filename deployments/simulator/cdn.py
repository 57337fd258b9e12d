"""The files behind *.fal.media: what models produced and what clients uploaded, in memory within a budget.

A file that was given a lifetime is gone when it is over. When the budget is used up the oldest go first, like files
whose lifetime on fal's CDN has ended. Of every upload a record stays.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from .faults import Faults, FileFault

OUTPUT_HOST = "v3b.fal.media"
UPLOAD_HOST = "v3.fal.media"
_BUDGET_BYTES = 512 * 1024**2


@dataclass(kw_only=True)
class StoredFile:
    content: bytes
    content_type: str
    faults: Faults
    expires_at: float | None  # on the monotonic clock
    reads: int = 0
    access: str = "allow"  # or forbid, or hide
    tickets: dict[str, float] = field(default_factory=dict)  # of signed addresses: when they end

    def sign(self, ticket: str, *, seconds: float) -> None:
        self.tickets[ticket] = time.monotonic() + seconds

    def may_be_read(self, ticket: str | None) -> bool:
        return self.access == "allow" or self.tickets.get(ticket or "", 0) > time.monotonic()

    @property
    def fault(self) -> FileFault:
        """Some faults pass after the first read."""
        if self.faults.file in (FileFault.TRUNCATED_ONCE, FileFault.STALLED_ONCE) and self.reads > 1:
            return FileFault.NORMAL
        return self.faults.file

    @property
    def has_expired(self) -> bool:
        return self.expires_at is not None and time.monotonic() >= self.expires_at


@dataclass(frozen=True, kw_only=True)
class Upload:
    """What a client brought, by whatever way; without the bytes."""

    url: str
    content_type: str
    size_bytes: int
    sha256: str
    at: datetime
    lifetime_seconds: float | None

    @property
    def expires_at(self) -> datetime | None:
        return None if self.lifetime_seconds is None else self.at + timedelta(seconds=self.lifetime_seconds)


class Cdn:
    def __init__(self) -> None:
        self._files: OrderedDict[str, StoredFile] = OrderedDict()
        self._bytes = 0
        self._sharers: Counter[int] = Counter()
        self.uploads: list[Upload] = []
        self.reads_with_key = 0  # a client that does this shows its key to whoever serves the file

    def publish(
        self,
        content: bytes,
        *,
        content_type: str,
        name: str,
        faults: Faults | None = None,
        lifetime_seconds: float | None = None,
    ) -> str:
        """Publish what a model made. Return the address it can be read at."""
        path = f"/files/b/{secrets.token_hex(4)}/{name}"
        self._put(path, content, content_type=content_type, faults=faults or Faults(), lifetime=lifetime_seconds)
        return f"https://{OUTPUT_HOST}{path}"

    def take(self, url: str, content: bytes, *, content_type: str, lifetime_seconds: float | None) -> None:
        """Take an upload, to the address that was given out for it."""
        path = urlsplit(url).path
        self._put(path, content, content_type=content_type, faults=Faults(), lifetime=lifetime_seconds)
        self.uploads.append(
            Upload(
                url=url,
                content_type=content_type,
                size_bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                at=datetime.now(UTC),
                lifetime_seconds=lifetime_seconds,
            )
        )

    def find(self, path: str) -> StoredFile | None:
        """Return the file without counting it as read."""
        file = self._files.get(path)
        return None if file is None or file.has_expired else file

    def read(self, path: str) -> StoredFile | None:
        file = self._files.get(path)
        if file is None:
            return None
        if file.has_expired:
            self._drop(path)
            return None
        file.reads += 1
        return file

    def restrict(self, url: str, access: str) -> None:
        if (file := self.find(urlsplit(url).path)) is not None:
            file.access = access

    def delete(self, url: str) -> bool:
        path = urlsplit(url).path
        there = path in self._files
        self._drop(path)
        return there

    def _put(self, path: str, content: bytes, *, content_type: str, faults: Faults, lifetime: float | None) -> None:
        expires_at = None if lifetime is None else time.monotonic() + lifetime
        self._drop(path)
        self._files[path] = StoredFile(content=content, content_type=content_type, faults=faults, expires_at=expires_at)
        self._count(content, 1)
        while self._bytes > _BUDGET_BYTES and len(self._files) > 1:
            self._drop(next(iter(self._files)))

    def _drop(self, path: str) -> None:
        file = self._files.pop(path, None)
        if file is not None:
            self._count(file.content, -1)

    def _count(self, content: bytes, files: int) -> None:
        """Files that share one picture, as a benchmark's do, take its memory once."""
        before = self._sharers[id(content)]
        self._sharers[id(content)] = before + files
        if before == 0:
            self._bytes += len(content)
        elif before + files == 0:
            self._bytes -= len(content)
            del self._sharers[id(content)]
