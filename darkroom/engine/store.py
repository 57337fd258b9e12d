"""How a file finds its way into the media store and onto the record: a provider's, or one of our own making.

Done once for each place (job, step, number); doing it again writes the same file under the same key.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from darkroom.engine.resources import Resources
from darkroom.errors import BadInput, Permanent, Refused
from darkroom.ledger import Asset, Job, Request, StoredFile
from darkroom.media.fetching import fetch_file, fetched_file
from darkroom.media.formats import Kind, Media, MediaOnDisk, RemoteFile, verify
from darkroom.models import Path, with_flags
from darkroom.providers.base import ASSET
from darkroom.providers.models import model_of, places_of_files

FOLDERS = {
    Kind.IMAGE: "images",
    Kind.VIDEO: "videos",
    Kind.AUDIO: "audio",
    Kind.WEIGHTS: "loras",
    Kind.CONFIG: "loras",
    Kind.ARCHIVE: "archives",
    Kind.TABLE: "tables",
    Kind.FILE: "files",
}
LARGE = (Kind.VIDEO, Kind.WEIGHTS, Kind.ARCHIVE, Kind.FILE)
MOST_BYTES = {**dict.fromkeys(LARGE, 4 << 30), Kind.CONFIG: 1 << 20}
# Of files that may be of any kind: where they lie is told by what they are.
FOLDERS_BY_TYPE = {"image": "images", "video": "videos", "audio": "audio"}
USUAL_MOST_BYTES = 64 << 20
NOT_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")  # what is in a name of a file by its bytes alone
LONGEST_NAME = 100
MOST_READ_BYTES = 512 << 20  # of a stored file that a job reads as a whole, or sends to a provider


@dataclass(frozen=True, kw_only=True)
class StoredFiles:
    """The files that a call's input names; a user's own, whoever wrote the input.

    `places`: where the input names them, as its model's schema says; None where only the provider knows.
    """

    resources: Resources
    user_id: str
    places: Collection[Path] | None = None

    @classmethod
    def of_call(cls, resources: Resources, row: Request) -> StoredFiles:
        places = places_of_files(model_of(row), row.input or {})
        return cls(resources=resources, user_id=row.user_id, places=places)

    def read(self, reference: str) -> Media:
        asset = readable(own_asset(self.resources, reference.removeprefix(ASSET), user_id=self.user_id))
        return Media(
            content=self.resources.store.read(asset.key),
            content_type=asset.content_type,
            extension=asset.key.rpartition(".")[2],
            sha256=asset.sha256,
            width=asset.width,
            height=asset.height,
            seconds=asset.seconds,
        )

    def copy_at(self, account_id: str, reference: str, *, until: datetime) -> str | None:
        asset = own_asset(self.resources, reference.removeprefix(ASSET), user_id=self.user_id)
        return self.resources.ledger.loras.copy_at(account_id, asset.id, until=until)

    def keep_copy(self, account_id: str, reference: str, *, url: str, expires_at: datetime) -> None:
        asset_id = reference.removeprefix(ASSET)
        self.resources.ledger.loras.keep_copy(account_id, asset_id, url=url, expires_at=expires_at)


def files_of_call(row: Request, output: Mapping[str, Any]) -> list[RemoteFile]:
    """Return the files of a call's output, with what its model says of each."""
    return with_flags(model_of(row).files(output), output)


def own_asset(resources: Resources, asset_id: str, *, user_id: str) -> Asset:
    """Return a file of the user. Raise BadInput for one that is not there, that is hidden, or another user's."""
    asset = resources.ledger.assets.get(asset_id)
    if asset is None or asset.user_id != user_id or asset.hidden:  # nobody learns which
        raise BadInput(f"There is no file {asset_id}. Bring it with POST /v1/uploads.", code="no_such_asset")
    return asset


def require_shown(parameters: Mapping[str, Any], files: list[Asset], *, step: str, ref: str) -> list[Asset]:
    """Return the files. Raise Permanent where some are flagged, and the order's field `flagged` says to fail then."""
    if parameters.get("flagged") == "fail" and any(file.flagged for file in files):
        words = "The model has flagged what it made, and the order says to fail then. They are on record, and hidden."
        raise Permanent(words, code="flagged").of(step=step, ref=ref)
    return files


def readable(asset: Asset) -> Asset:
    """Return the file. Raise BadInput for one that is too large to be read into memory."""
    if asset.bytes > MOST_READ_BYTES:
        raise BadInput(
            f"The file {asset.id} has {asset.bytes >> 20} MiB, and jobs read at most {MOST_READ_BYTES >> 20}. "
            "Take a smaller one.",
            code="asset_too_large",
        )
    return asset


def store(
    resources: Resources, job: Job, file: RemoteFile, *, ref: str, step: str, n: int, collected_at: datetime
) -> Asset:
    """Fetch the file, verify it, write it to the media store and put it on record."""
    with _fetched(resources, file) as media:
        # The file first: a row without one cannot be fetched, a file without a row is only waste.
        stored = _write(resources, job, media, file.kind, step=step, n=n)
    asset = resources.ledger.assets.add(
        job, ref=ref, step=step, n=n, file=stored, collected_at=collected_at, flagged=file.flagged
    )
    if is_inline(file):
        _forget_inline(resources, ref, file.url, asset)
    return asset


def make(resources: Resources, job: Job, build: Callable[[], bytes], *, step: str, n: int, kind: Kind) -> Asset:
    """Make our own file: verify it, store it and put it on record like a provider's."""
    media = verify(build(), kind)
    return resources.ledger.assets.add(
        job, ref=None, step=step, n=n, file=_write(resources, job, media, kind, step=step, n=n)
    )


def is_inline(file: RemoteFile) -> bool:
    """Return whether the file came within the answer."""
    return file.url.startswith("data:")


def inline(file: RemoteFile) -> Media:
    return verify(base64.b64decode(file.url.partition(",")[2]), file.kind)


@contextmanager
def _fetched(resources: Resources, file: RemoteFile) -> Iterator[Media | MediaOnDisk]:
    if is_inline(file):
        yield inline(file)
        return
    if file.hosts is None:  # else an answer could have us fetch from anywhere
        raise Refused("its provider has its files within the answer, and this one is elsewhere", code="foreign_host")
    most = MOST_BYTES.get(file.kind, USUAL_MOST_BYTES)
    if file.kind not in LARGE:  # the others go by way of the disk
        yield fetch_file(file.url, file.kind, hosts=file.hosts, max_bytes=most, client=resources.files)
        return
    with fetched_file(file.url, file.kind, hosts=file.hosts, max_bytes=most, client=resources.files) as media:
        yield media


def name_of_files(step: str) -> str:
    """Return what the files of a step are called: the same, where the store's keys have room for it, and no other's."""
    named = NOT_PLAIN.sub(lambda found: "".join(f"={byte:02X}" for byte in found[0].encode()), step)
    if not named[:1].isalnum() and named[:1] != "_":
        named = f"_={named}"
    if len(named) <= LONGEST_NAME:
        return named
    return f"{named[: LONGEST_NAME // 2]}={hashlib.sha256(step.encode()).hexdigest()[:32]}"


def _write(resources: Resources, job: Job, media: Media | MediaOnDisk, kind: Kind, *, step: str, n: int) -> StoredFile:
    folder = FOLDERS[kind]
    if kind is Kind.FILE:
        folder = FOLDERS_BY_TYPE.get(media.content_type.partition("/")[0], folder)
    place = f"{folder}/{job.user_id}/{job.id}/{name_of_files(step)}-{n}.{media.extension}"
    if isinstance(media, Media):
        resources.store.write(place, media.content)
    else:
        media.file.seek(0)  # it was read to its end to be verified
        resources.store.write_file(place, media.file)
    return StoredFile(
        key=place,
        sha256=media.sha256,
        content_type=media.content_type,
        bytes=media.size,
        width=media.width,
        height=media.height,
        seconds=media.seconds,
    )


def _forget_inline(resources: Resources, ref: str, url: str, asset: Asset) -> None:
    """Replace a file that came within the answer by a reference to its asset: it is kept once, in the store."""
    output = resources.ledger.requests.get(ref).output
    if (path := _path_of(url, output)) is not None:
        resources.ledger.requests.forget_inline(ref, path, kept=f"{ASSET}{asset.id}")


def _path_of(wanted: str, document: Any) -> list[str] | None:
    if document == wanted:
        return []
    within: Any = ()
    if isinstance(document, dict | list):
        within = document.items() if isinstance(document, dict) else enumerate(document)
    for name, value in within:
        if (path := _path_of(wanted, value)) is not None:
            return [str(name), *path]
    return None
