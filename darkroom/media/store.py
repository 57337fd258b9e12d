"""Where files are kept: any Prefect `WritableFileSystem`, behind a few methods and one rule for keys.

A folder by default, S3 for `s3://bucket/prefix`, any saved block for `block:<type-slug>/<name>`. The block is made by
`darkroom provision` and loaded by name, so operators can edit it in Prefect's UI. A folder's block is read over HTTP,
and used without Prefect, whose import takes a second; the others are Prefect's own.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from pydantic import SecretStr

from darkroom.errors import BadInput, DarkroomError, Park, Permanent, StoreFull
from darkroom.media.streams import FULL, Chunks, S3Streams, Source, Streams, copy, sweep, written_atomically
from darkroom.orchestrator.api import PrefectApi, block_document
from darkroom.settings import Settings

if TYPE_CHECKING:
    from prefect.blocks.core import Block
    from prefect_aws import AwsCredentials
    from prefect_aws.client_parameters import AwsClientParameters

BLOCK_NAME = "darkroom-media"
LONGEST_KEY = 512
# Segments do not begin with a dot, so there is no `.` or `..` among them.
KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=-]*(?:/[A-Za-z0-9_][A-Za-z0-9._=-]*)*")
NEVER = (IsADirectoryError, NotADirectoryError, ValueError, TypeError)
NEVER_NAMES = frozenset({"ParamValidationError"})
# What an operator has to mend, and mends: what waits goes on then.
REFUSED_NAMES = frozenset({"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"})
REFUSED_S3 = frozenset(
    {
        "403",
        "AccessDenied",
        "AllAccessDisabled",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "NoSuchBucket",
        "PermanentRedirect",
        "SignatureDoesNotMatch",
    }
)
FULL_S3 = frozenset({"507", "InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"})
PROBE = "probe/gateway"
PROBED_WITH = bytes(range(256)) * 256  # as much as a full disk has no room for; always the same


_known_folders: dict[str, str | None] = {}  # by the slug of their block


class FileSystem(Protocol):
    """What is needed of Prefect's `WritableFileSystem`. Its methods may be plain, async, or both under one name."""

    @property
    def read_path(self) -> Callable[..., Any]: ...

    @property
    def write_path(self) -> Callable[..., Any]: ...


class LocalFolder:
    """The folder that a block `local-file-system` names, read and written as Prefect's own class does."""

    def __init__(self, basepath: str | None) -> None:
        self.basepath = str(Path(basepath or ".").expanduser().resolve())

    def read_path(self, path: str) -> bytes:
        return self._within(path).read_bytes()

    def write_path(self, path: str, content: bytes) -> None:
        """Write the whole file, or none: beside its place, and renamed."""
        with written_atomically(self._within(path)) as temporary:
            temporary.write_bytes(content)

    def open(self, path: str, start: int, stop: int) -> Source:
        file = self._within(path).open("rb")
        file.seek(start)
        return file

    def random_access(self, path: str, size: int) -> IO[bytes]:
        return self._within(path).open("rb")

    def write_file(self, path: str, file: IO[bytes]) -> None:
        with written_atomically(self._within(path)) as temporary:
            copy(file, temporary)

    def remove(self, path: str) -> None:
        self._within(path).unlink(missing_ok=True)

    def sweep(self) -> None:
        sweep(Path(self.basepath))

    def link(self, path: str, *, lifetime: timedelta, method: str, headers: Mapping[str, str]) -> None:
        return None

    def _within(self, path: str) -> Path:
        """Return the path inside the folder. Raise ValueError for what a link leads out of the folder."""
        file = (Path(self.basepath) / path).resolve()
        if not file.is_relative_to(self.basepath):
            raise ValueError("outside of the folder")
        return file


class _Whole:
    """A file system that knows whole contents alone."""

    def __init__(self, filesystem: FileSystem) -> None:
        self._filesystem = filesystem

    def open(self, path: str, start: int, stop: int) -> Source:
        file = self.random_access(path, stop)
        file.seek(start)
        return file

    def random_access(self, path: str, size: int) -> IO[bytes]:
        return BytesIO(_call(self._filesystem.read_path, path=path))

    def write_file(self, path: str, file: IO[bytes]) -> None:
        _call(self._filesystem.write_path, path=path, content=file.read())

    def remove(self, path: str) -> None:
        # It has no method for it; what is left holds nothing.
        _call(self._filesystem.write_path, path=path, content=b"")

    def sweep(self) -> None:
        """Do nothing: how it writes is its own affair."""

    def link(self, path: str, *, lifetime: timedelta, method: str, headers: Mapping[str, str]) -> None:
        return None


class MediaStore:
    """Synchronous and thread-safe, in a flow, a task or a plain thread alike."""

    def __init__(self, filesystem: FileSystem) -> None:
        self._filesystem = filesystem
        self._streams = _streams_of(filesystem)

    def write(self, key: str, content: bytes) -> None:
        """Store the content or replace it. Raise Park while the store is out or full, Permanent where it never will."""
        with _translated():
            _call(self._filesystem.write_path, path=_checked(key), content=content)

    def read(self, key: str) -> bytes:
        """Return the content under the key. Raise Permanent(code="media_missing") if nothing was stored under it."""
        with _translated():
            return cast(bytes, _call(self._filesystem.read_path, path=_checked(key)))

    def write_file(self, key: str, file: IO[bytes]) -> None:
        """Store all that is left of an open file, or replace it. Raise as `write` does."""
        with _translated():
            self._streams.write_file(_checked(key), file)

    def remove(self, key: str) -> None:
        """Remove what is stored under the key, if anything is. Raise as `write` does."""
        with _translated():
            self._streams.remove(_checked(key))

    def sweep(self) -> None:
        """Delete what processes that were killed in the midst of writing have left. Raise as `write` does."""
        with _translated():
            self._streams.sweep()

    def stream(self, key: str, *, start: int = 0, stop: int) -> Chunks:
        """Open a file, to be read piece by piece from `start` up to `stop`. Raise as `read` does, at once."""
        with _translated():
            return Chunks(self._streams.open(_checked(key), start, stop), stop - start)

    def random_access(self, key: str, *, size: int) -> IO[bytes]:
        """Open a file of that size, to be read here and there. Raise as `read` does, at once."""
        with _translated():
            return self._streams.random_access(_checked(key), size)

    def link(self, key: str, *, lifetime: timedelta, method: str, headers: Mapping[str, str]) -> str | None:
        """Return an address of the file at the store itself, with headers of its answer; None where it has none."""
        with _translated():
            return self._streams.link(_checked(key), lifetime=lifetime, method=method, headers=headers)

    def probe(self) -> None:
        """Write an object and read it. Raise as `write` and `read` do, and Park where it comes back as another."""
        self.write(PROBE, PROBED_WITH)
        if self.read(PROBE) != PROBED_WITH:
            raise Park("the media store does not give back what was written to it", code="store_unavailable")

    def is_at(self, store: str) -> bool:
        """Return whether this is the place a store setting names. A `block:` setting is what its block says."""
        return store.startswith("block:") or _place(self._filesystem) == _named_place(store)


def open_media_store(settings: Settings) -> MediaStore:
    """Open the store the settings name, from its block. This asks Prefect's API, so keep what it returns."""
    slug = store_block_slug(settings.media_store)
    return MediaStore(_load_folder(slug) if is_folder(slug) else _load(slug))


def store_block_slug(store: str) -> str:
    """Return the name under which the block of a store setting is saved: `<type slug>/<name>`."""
    if store.startswith("block:"):
        return store.removeprefix("block:")
    return f"{'s3-bucket' if store.startswith('s3://') else 'local-file-system'}/{BLOCK_NAME}"


def is_folder(slug: str) -> bool:
    return slug.startswith("local-file-system/")


def folder_of(store: str) -> str:
    """Return the folder that a store setting names, in full."""
    return str(Path(store).expanduser().resolve())


def make_store_block(store: str) -> Block:
    """Make the block of a folder or an `s3://` setting, without saving it.

    Raise BadInput for a `block:` setting, which names one that exists already.
    """
    if store.startswith("block:"):
        raise BadInput(f"{store} is saved by an operator, in Prefect's UI", field="DARKROOM_STORE")
    if store.startswith("s3://"):
        return _s3_block(store, os.environ)
    from prefect.filesystems import LocalFileSystem

    return LocalFileSystem(basepath=folder_of(store))


def _streams_of(filesystem: FileSystem) -> Streams:
    if isinstance(filesystem, LocalFolder):
        return filesystem
    # By its shape: Prefect's class for S3 is not imported where there is no S3.
    is_s3 = hasattr(filesystem, "bucket_name") and hasattr(getattr(filesystem, "credentials", None), "get_client")
    return S3Streams(filesystem) if is_s3 else _Whole(filesystem)


def _place(filesystem: FileSystem) -> tuple[object, ...]:
    return tuple(getattr(filesystem, name, None) for name in ("basepath", "bucket_name", "bucket_folder"))


def _named_place(store: str) -> tuple[object, ...]:
    if not store.startswith("s3://"):
        return folder_of(store), None, None
    bucket, folder = _bucket(store)
    return None, bucket, folder


def _bucket(store: str) -> tuple[str, str]:
    """Return the bucket of an `s3://` setting, and the folder in it. Raise BadInput where it names no bucket."""
    bucket, _, folder = store.removeprefix("s3://").partition("/")
    if not bucket:
        raise BadInput("name a bucket: s3://bucket/prefix", field="DARKROOM_STORE")
    return bucket, folder.strip("/")


def _s3_block(store: str, environment: Mapping[str, str]) -> Block:
    bucket, folder = _bucket(store)
    from prefect_aws.s3 import S3Bucket

    return cast("Block", S3Bucket(bucket_name=bucket, bucket_folder=folder, credentials=_aws_credentials(environment)))


def _aws_credentials(environment: Mapping[str, str]) -> AwsCredentials:
    """Make the credentials of what `AWS_*` says, to be saved with the block. Temporary keys are left out."""
    from prefect_aws import AwsCredentials

    # Those would be stale within hours: without any, boto3 asks each process' own environment, profile or role.
    lasting = not environment.get("AWS_SESSION_TOKEN")
    secret = environment.get("AWS_SECRET_ACCESS_KEY") if lasting else None
    return AwsCredentials(
        aws_access_key_id=environment.get("AWS_ACCESS_KEY_ID") if lasting else None,
        aws_secret_access_key=SecretStr(secret) if secret else None,
        profile_name=environment.get("AWS_PROFILE"),
        region_name=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION"),
        aws_client_parameters=_aws_client_parameters(environment),
    )


def _aws_client_parameters(environment: Mapping[str, str]) -> AwsClientParameters:
    from prefect_aws.client_parameters import AwsClientParameters

    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    config: dict[str, Any] = {"connect_timeout": 5, "read_timeout": 30, "retries": {"mode": "standard"}}
    if endpoint:
        # Stores other than AWS's rarely have a DNS name for every bucket.
        config["s3"] = {"addressing_style": "path"}
    return AwsClientParameters(endpoint_url=endpoint, config=config)


def know_folder(slug: str, basepath: str | None) -> None:
    """Have this process use a folder whose block somebody else has just read."""
    _known_folders[slug] = basepath


def _load_folder(slug: str) -> LocalFolder:
    if slug in _known_folders:
        return LocalFolder(_known_folders[slug])
    with closing(PrefectApi.from_environment()) as api:
        data = block_document(api, slug)
    if data is None:
        raise _no_block(slug)
    return LocalFolder(data.get("basepath"))


def _load(slug: str) -> FileSystem:
    """Load the store from its block."""
    from prefect.blocks.core import Block
    from prefect.filesystems import WritableFileSystem

    kind, _, name = slug.partition("/")
    try:
        if kind == "s3-bucket":
            # The usual type loads itself: `Block.load` imports every Prefect integration there is, for half a second.
            from prefect_aws.s3 import S3Bucket

            found = _call(S3Bucket.load, name=name)
        else:
            found = _call(Block.load, name=slug)
    except ValueError as error:
        raise _no_block(slug) from error
    if not isinstance(found, WritableFileSystem):
        raise Permanent(f"the block {slug} cannot hold files: name a file system's", code="store_misconfigured")
    return found


def _no_block(slug: str) -> Permanent:
    return Permanent(f"there is no block {slug}: run `darkroom provision`", code="store_misconfigured")


def _checked(key: str) -> str:
    if len(key) > LONGEST_KEY or not KEY.fullmatch(key):
        raise Permanent("that is not a key of the media store", code="bad_key")
    return key


def _call(method: Callable[..., Any], **arguments: Any) -> Any:
    """Call a file system's method from wherever we are."""
    # Prefect's own are two functions under one name, which would answer with a coroutine wherever a loop runs.
    if hasattr(method, "aio"):
        return method(**arguments, _sync=True)
    # A file system written by hand may be plain or async.
    answer = method(**arguments)
    if not inspect.iscoroutine(answer):
        return answer
    from prefect.utilities.asyncutils import run_coro_as_sync

    return run_coro_as_sync(answer)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DarkroomError:
        raise
    except Exception as error:
        # Everything, as each kind of file system has its own errors; one nobody knows yet is worth another try.
        raise _failure(error) from error


def _failure(error: Exception) -> DarkroomError:
    """Translate an error of the store."""
    # Its kind alone is told: messages of clients may hold addresses and keys of the store.
    kind = type(error).__name__
    if _is_missing(error):
        return Permanent("nothing is stored under this key", code="media_missing")
    said = _s3_code(error) or kind
    if getattr(error, "errno", None) in FULL or said in FULL_S3:
        return StoreFull("the media store is full: make room in it, and what waits goes on by itself")
    if isinstance(error, NEVER) or kind in NEVER_NAMES:
        return Permanent(f"the media store refuses ({said}): check its block", code="store_refused")
    if isinstance(error, PermissionError) or said in REFUSED_S3 | REFUSED_NAMES:
        remedy = "check its block, and what the bucket or folder lets its key do"
        return Park(f"the media store refuses ({said}): {remedy}", code="store_refused")
    return Park(f"the media store is out ({said})", code="store_unavailable")


def _is_missing(error: Exception) -> bool:
    # LocalFileSystem says it with a bare ValueError.
    local = isinstance(error, ValueError) and str(error).endswith("does not exist.")
    return local or isinstance(error, FileNotFoundError) or _s3_code(error) in ("404", "NoSuchKey")


def _s3_code(error: Exception) -> str | None:
    """Return the code of a botocore ClientError, or None for another error."""
    # It is told by its shape: boto3 is not imported where there is no S3.
    response = getattr(error, "response", None)
    details = response.get("Error") if isinstance(response, dict) else None
    return str(details.get("Code")) if isinstance(details, dict) else None
