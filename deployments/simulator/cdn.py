"""The files behind *.fal.media: what models produced and what clients uploaded, in memory and on disk within a budget.

A file that was given a lifetime is gone when it is over. Of every upload a record stays. A new process keeps the newest
files.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from .faults import Faults, FileFault
from .shelf import Shelf

OUTPUT_HOST = "v3b.fal.media"  # where most of fal's outputs are
UPLOAD_HOST = "v3.fal.media"
_BUDGET_BYTES = 512 * 1024**2
_BYTES_THAT_LAST = 128 * 1024**2  # beyond the process


@dataclass(kw_only=True)
class StoredFile:
    content: bytes
    content_type: str
    faults: Faults
    name: str  # of its bytes on the shelf
    owner: str  # the user whose request made it, or who uploaded it
    expires_at: float | None  # seconds since the epoch
    reads: int = 0
    access: str = "allow"  # or forbid, or hide
    tickets: dict[str, float] = field(default_factory=dict)  # of signed addresses: when they end, since the epoch

    def may_be_read(self, ticket: str | None) -> bool:
        return self.access == "allow" or self.tickets.get(ticket or "", 0) > time.time()

    @property
    def fault(self) -> FileFault:
        """Return what goes wrong with this read."""
        # Some faults pass after the first.
        if self.faults.file in (FileFault.TRUNCATED_ONCE, FileFault.STALLED_ONCE) and self.reads > 1:
            return FileFault.NORMAL
        return self.faults.file

    @property
    def has_expired(self) -> bool:
        return self.expires_at is not None and time.time() >= self.expires_at


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Whose a file is, how long it lives and who may read it. `lifetime_seconds` None: for ever."""

    owner: str
    lifetime_seconds: float | None = None
    access: str = "allow"


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
    def __init__(self, shelf: Shelf, *, note: Callable[[Mapping[str, Any]], None]) -> None:
        self._shelf = shelf
        self._note = note
        self._files: OrderedDict[str, StoredFile] = OrderedDict()
        self._bytes = 0
        self._sharers: Counter[str] = Counter()
        self._contents: dict[str, bytes] = {}
        self._names: dict[int, str] = {}  # of those, by their identity: a benchmark's are one, and hashed once
        self.uploads: list[Upload] = []
        self.reads_with_key = 0  # a client that does this shows its key to whoever serves the file

    def publish(
        self,
        content: bytes,
        *,
        content_type: str,
        name: str,
        terms: Terms,
        faults: Faults | None = None,
    ) -> str:
        """Publish what a model made. Return the address it can be read at."""
        # As fal's own addresses are: eight hexadecimal digits, then the name.
        path = f"/files/b/{secrets.token_hex(4)}/{name}"
        self._put(path, content, content_type=content_type, faults=faults or Faults(), terms=terms)
        return f"https://{OUTPUT_HOST}{path}"

    def take(self, url: str, content: bytes, *, content_type: str, terms: Terms) -> None:
        """Take an upload, to the address that was given out for it."""
        path = urlsplit(url).path
        self._put(path, content, content_type=content_type, faults=Faults(), terms=terms)
        self.uploads.append(
            Upload(
                url=url,
                content_type=content_type,
                size_bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                at=datetime.now(UTC),
                lifetime_seconds=terms.lifetime_seconds,
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

    def restore(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Take the newest files over that an earlier process has noted."""
        noted = _last_noted(lines)
        kept: list[tuple[str, StoredFile]] = []
        total, contents = 0, dict[str, bytes]()
        # The newest first, for as long as the budget allows.
        for path, line in reversed(noted.items()):
            content = contents.get(line["name"]) or self._shelf.read(line["name"])
            if content is None:
                continue  # neither journal nor shelf is synced: a crash of the machine may part them
            total += 0 if line["name"] in contents else len(content)
            contents[line["name"]] = content
            file = _noted_file(line, content)
            if total <= _BYTES_THAT_LAST and not file.has_expired:
                kept.append((path, file))
        # Back in their order, in which the oldest are dropped.
        for path, file in reversed(kept):
            self._files[path] = file
            self._count(file, 1)
        self._shelf.keep_only(self._sharers)  # the rest is too old, or was cut off by the kill

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield what is to be noted of the files there are."""
        return (_noted(path, file) for path, file in self._files.items())

    def restrict(self, path: str, access: str) -> None:
        if (file := self.find(path)) is not None:
            file.access = access
            self._note(_noted(path, file))

    def sign(self, path: str, *, seconds: float) -> str | None:
        """Return the ticket by which the file may be read for a time. None: there is no such file."""
        if (file := self.find(path)) is None:
            return None
        ticket, now = secrets.token_urlsafe(16), time.time()
        file.tickets = {each: ends for each, ends in file.tickets.items() if ends > now} | {ticket: now + seconds}
        self._note(_noted(path, file))
        return ticket

    def delete(self, url: str) -> bool:
        path = urlsplit(url).path
        there = path in self._files
        self._drop(path)
        return there

    def _put(self, path: str, content: bytes, *, content_type: str, faults: Faults, terms: Terms) -> None:
        self._drop(path)
        name = self._names.get(id(content)) or self._shelf.keep(content)
        file = StoredFile(
            content=self._contents.get(name, content),  # equal bytes are in memory once
            content_type=content_type,
            faults=faults,
            name=name,
            owner=terms.owner,
            expires_at=None if terms.lifetime_seconds is None else time.time() + terms.lifetime_seconds,
            access=terms.access,
        )
        self._files[path] = file
        self._note(_noted(path, file))
        self._count(file, 1)
        # The oldest go first, like those whose lifetime at fal has ended. One that is too large by itself may stay.
        while self._bytes > _BUDGET_BYTES and len(self._files) > 1:
            self._drop(next(iter(self._files)))

    def _drop(self, path: str) -> None:
        file = self._files.pop(path, None)
        if file is not None:
            # Before its bytes: they stay where another file shares them, and a restart would bring it back.
            self._note({"is": "file_gone", "path": path})
            self._count(file, -1)

    def _count(self, file: StoredFile, files: int) -> None:
        """Count so many files more, or fewer, that have these bytes."""
        # Files that share one picture, as a benchmark's do, take its memory once.
        before = self._sharers[file.name]
        self._sharers[file.name] = before + files
        if before == 0:
            self._bytes += len(file.content)
            self._contents[file.name] = file.content
            self._names[id(file.content)] = file.name
        elif before + files == 0:
            self._bytes -= len(file.content)
            del self._sharers[file.name], self._contents[file.name], self._names[id(file.content)]
            self._shelf.drop(file.name)


def _last_noted(lines: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return what was said last of each file that there is, by path, oldest first."""
    noted: dict[str, Mapping[str, Any]] = {}
    for line in lines:
        if line.get("is") == "file":
            noted[line["path"]] = line
        elif line.get("is") == "file_gone":
            noted.pop(line["path"], None)
    return noted


def _noted(path: str, file: StoredFile) -> dict[str, Any]:
    return {
        "is": "file",
        "path": path,
        "name": file.name,
        "owner": file.owner,
        "content_type": file.content_type,
        "faults": file.faults.model_dump(mode="json", exclude_defaults=True),
        "expires_at": file.expires_at,
        "access": file.access,
        "tickets": file.tickets,
    }


def _noted_file(line: Mapping[str, Any], content: bytes) -> StoredFile:
    return StoredFile(
        content=content,
        content_type=line["content_type"],
        faults=Faults(**line["faults"]),
        name=line["name"],
        owner=line.get("owner", ""),  # a journal of before they had owners has no word of them
        expires_at=line["expires_at"],
        access=line["access"],
        tickets=line.get("tickets", {}),
    )
