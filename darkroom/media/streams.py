"""Files of a media store piece by piece, however large they are: ranges are read, files are written from files.

A folder and S3 do it by themselves. Prefect's interface knows whole contents alone, so a file system of another kind
is read and written whole.
"""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Protocol, cast
from uuid import uuid4

FULL = (errno.ENOSPC, errno.EDQUOT)  # what a disk without room says
CHUNK_BYTES = 256 << 10
AHEAD_BYTES = 1 << 20  # of what is read here and there, as the head and the end of a film: each is a request of S3
BEING_WRITTEN = re.compile(r"\.[0-9a-f]{32}")
SWEPT = ".swept"  # its time is when a folder was last looked through
DAY_SECONDS = 24 * 3600.0
PART_BYTES = 8 << 20  # of an upload to S3, whose files have 10,000 parts at most
PARTS_AT_ONCE = 3  # each is in memory


class Source(Protocol):
    """A file that is open, at the place that was asked for."""

    def read(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


class Streams(Protocol):
    """What a kind of file system knows beside whole contents."""

    def open(self, path: str, start: int, stop: int) -> Source:
        """Open the file for its bytes from `start` up to `stop`. Raise what the file system raises for none."""

    def random_access(self, path: str, size: int) -> IO[bytes]:
        """Open the file of that size for who reads it here and there."""

    def write_file(self, path: str, file: IO[bytes]) -> None:
        """Write all that is left of the file, whole or not at all."""

    def remove(self, path: str) -> None:
        """Remove the file, if there is one."""

    def sweep(self) -> None:
        """Delete what killed processes have left half written, where that is not the file system's own to do."""

    def link(self, path: str, *, lifetime: timedelta, method: str, headers: Mapping[str, str]) -> str | None:
        """Return an address at which the store itself answers with these headers; None where there is none."""


class Chunks:
    """The bytes of a file that is open already. To be closed by who has it, read to its end or not."""

    def __init__(self, source: Source, length: int) -> None:
        self._source = source
        self._left = length

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = self._source.read(min(CHUNK_BYTES, self._left)) if self._left else b""
        if not chunk:
            raise StopIteration
        self._left -= len(chunk)
        return chunk

    def close(self) -> None:
        self._source.close()


@contextmanager
def written_atomically(file: Path) -> Iterator[Path]:
    """Give a place beside the file, which becomes the file when all went well. No key begins a name with a dot.

    It is on the disk when this returns, under its name: the row that tells of it outlasts a power cut, too.
    """
    new = [folder for folder in (file.parent, *file.parent.parents) if not folder.exists()]
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{uuid4().hex}")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(file)
        for folder in (file.parent, *(each.parent for each in new)):
            _sync(folder)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sweep(folder: Path) -> None:
    """Delete what processes that were killed in the midst of writing have left, a day later; look for it once a day."""
    swept, yesterday = folder / SWEPT, time.time() - DAY_SECONDS
    if not folder.exists() or (swept.exists() and swept.stat().st_mtime > yesterday):
        return
    for within, _, names in os.walk(folder):
        for name in filter(BEING_WRITTEN.fullmatch, names):
            with suppress(FileNotFoundError):  # it has its own name by now
                if (file := Path(within, name)).stat().st_mtime < yesterday:
                    file.unlink()
    swept.touch()


def _sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems know it for files alone
            raise
    finally:
        os.close(opened)


class S3Streams:
    """Of Prefect's block `s3-bucket`, by the client that it has."""

    def __init__(self, bucket: Any) -> None:
        self._bucket = bucket

    def open(self, path: str, start: int, stop: int) -> Source:
        answer = self._client.get_object(**self._place(path), Range=f"bytes={start}-{stop - 1}")
        return cast(Source, answer["Body"])

    def random_access(self, path: str, size: int) -> IO[bytes]:
        # A file that is missing is told now, and not at the first read.
        self._client.head_object(**self._place(path))
        return cast(IO[bytes], io.BufferedReader(_Ranged(self, path, size), AHEAD_BYTES))

    def write_file(self, path: str, file: IO[bytes]) -> None:
        from boto3.s3.transfer import TransferConfig

        parts = TransferConfig(
            multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=PARTS_AT_ONCE
        )
        parts.max_in_memory_upload_chunks = PARTS_AT_ONCE  # else ten wait in memory for their turn
        self._client.upload_fileobj(file, **self._place(path), Config=parts)

    def remove(self, path: str) -> None:
        self._client.delete_object(**self._place(path))

    def sweep(self) -> None:
        """Do nothing: parts of an upload that was never completed are the bucket's lifecycle rule's to delete."""

    def link(self, path: str, *, lifetime: timedelta, method: str, headers: Mapping[str, str]) -> str:
        said = {f"Response{name.replace('-', '')}": value for name, value in headers.items()}
        operation = "head_object" if method == "HEAD" else "get_object"
        address: str = self._signer.generate_presigned_url(
            operation, Params=self._place(path) | said, ExpiresIn=max(1, int(lifetime.total_seconds()))
        )
        return address

    @property
    def _client(self) -> Any:
        return self._bucket.credentials.get_client("s3")

    @cached_property
    def _signer(self) -> Any:
        """Make a client that signs as all regions want it."""
        from botocore.config import Config

        credentials = self._bucket.credentials
        given = credentials.aws_client_parameters.get_params_override()
        # boto3 itself still takes the older way for some.
        given["config"] = (given.get("config") or Config()).merge(Config(signature_version="s3v4"))
        return credentials.get_boto3_session().client("s3", **given)

    def _place(self, path: str) -> dict[str, str]:
        return {"Bucket": self._bucket.bucket_name, "Key": self._bucket._resolve_path(path)}


class _Ranged(io.RawIOBase):
    """A file that is asked for range by range."""

    def __init__(self, streams: Streams, path: str, size: int) -> None:
        self._streams = streams
        self._path = path
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        stop = min(self._size, self._at + len(buffer))
        if stop <= self._at:
            return 0
        source = self._streams.open(self._path, self._at, stop)
        try:
            content = source.read(stop - self._at)
        finally:
            source.close()
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


def copy(file: IO[bytes], to: Path) -> None:
    with to.open("wb") as out:
        shutil.copyfileobj(file, out, CHUNK_BYTES)
