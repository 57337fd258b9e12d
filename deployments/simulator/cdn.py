"""The files behind *.fal.media: what models produced and what clients uploaded, in memory within a budget.

The oldest files go first when the budget is used up, like files whose lifetime on fal's CDN has ended.
"""

from __future__ import annotations

import secrets
from collections import Counter, OrderedDict
from dataclasses import dataclass

from .faults import Faults, FileFault

OUTPUT_HOST = "v3b.fal.media"
UPLOAD_HOST = "v3.fal.media"
_BUDGET_BYTES = 512 * 1024**2


@dataclass(kw_only=True)
class StoredFile:
    content: bytes
    content_type: str
    faults: Faults
    reads: int = 0

    @property
    def fault(self) -> FileFault:
        """Some faults pass after the first read."""
        if self.faults.file is FileFault.TRUNCATED_ONCE:
            return FileFault.TRUNCATED if self.reads <= 1 else FileFault.NORMAL
        return self.faults.file


class Cdn:
    def __init__(self) -> None:
        self._files: OrderedDict[str, StoredFile] = OrderedDict()
        self._bytes = 0
        self._sharers: Counter[int] = Counter()
        self.reads_with_key = 0  # a client that does this shows its key to whoever serves the file

    def publish(
        self, content: bytes, *, content_type: str, name: str, host: str = OUTPUT_HOST, faults: Faults | None = None
    ) -> str:
        path = f"/files/b/{secrets.token_hex(4)}/{name}"
        self.put(path, content, content_type=content_type, faults=faults)
        return f"https://{host}{path}"

    def put(self, path: str, content: bytes, *, content_type: str, faults: Faults | None = None) -> None:
        self._files[path] = StoredFile(content=content, content_type=content_type, faults=faults or Faults())
        self._count(content, 1)
        while self._bytes > _BUDGET_BYTES and len(self._files) > 1:
            _, oldest = self._files.popitem(last=False)
            self._count(oldest.content, -1)

    def _count(self, content: bytes, files: int) -> None:
        """Files that share one picture, as a benchmark's do, take its memory once."""
        before = self._sharers[id(content)]
        self._sharers[id(content)] = before + files
        if before == 0:
            self._bytes += len(content)
        elif before + files == 0:
            self._bytes -= len(content)
            del self._sharers[id(content)]

    def read(self, path: str) -> StoredFile | None:
        file = self._files.get(path)
        if file is not None:
            file.reads += 1
        return file
