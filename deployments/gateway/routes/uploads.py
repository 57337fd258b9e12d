"""`POST /v1/uploads`: a file that a user brings, as the body itself.

It comes in on disk, not in memory, is verified as any other file (pictures decoded, archives read to the end of each
entry, films and sound as those that models make), and then lies in the media store as an asset that belongs to no job.
What takes files takes its id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import IO, Annotated, Any, BinaryIO, cast
from zipfile import is_zipfile

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import Query, Request
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from darkroom.deployments.gateway.auth import UserId
from darkroom.deployments.gateway.limits import ANY_FILE, ARCHIVES, RANGES, UPLOAD_CAPS, media_type, too_large
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.problems import Problem
from darkroom.deployments.gateway.routing import whole_router
from darkroom.deployments.gateway.schemas.jobs import UploadDocument, asset_document
from darkroom.deployments.gateway.services import Services, ServicesOf
from darkroom.errors import BadInput, Refused, StoreFull, Unverified
from darkroom.ledger import Asset, StoredFile, new_id
from darkroom.media.archives import HEAD_BYTES, LARGEST_IMAGE, MIB, check_archive
from darkroom.media.formats import Kind, Media, MediaOnDisk, verify, verify_file
from darkroom.media.formats.opaque import UNKNOWN, known_kind, type_of
from darkroom.media.formats.pictures import is_picture
from darkroom.media.streams import FULL


class Metadata(StrEnum):
    DROP = "drop"
    KEEP = "keep"


MetadataOf = Annotated[
    Metadata,
    Query(
        description="Whether to keep what a picture carries beside its pixels: where it was taken, comments, a "
        "workflow. What has to be converted loses it all the same; a zip is kept as it is."
    ),
]

router = whole_router(prefix="/v1/uploads", tags=["Assets"])

SPOOLED = MIB  # bytes of a file that are held in memory while it comes
# The media store takes a file in one piece, so this many are in memory at once; the others wait on disk.
PICTURES_AT_ONCE, OTHERS_AT_ONCE = CapacityLimiter(4), CapacityLimiter(1)

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The file itself. Pictures of at most 20 MiB; all else, 500 MiB: zip archives of pictures and "
        "captions, films, sound, 3D, documents and what else a model takes.",
        "content": {name: {"schema": {"type": "string", "format": "binary"}} for name in (*UPLOAD_CAPS, *RANGES)},
    }
}


@router.post(
    "",
    status_code=201,
    summary="Bring a file",
    response_description="Stored. Its `id` is what orders take.",
    responses=problem_responses(401, 403, 413, 415, 422, 507),
    openapi_extra=BODY,
)
async def upload(
    request: Request, user_id: UserId, services: ServicesOf, metadata: MetadataOf = Metadata.DROP
) -> UploadDocument:
    """Store a picture, a zip of pictures to train with, a film, a sound, or any other file that a model takes.

    Nothing is taken for what it is not: the file is read to its end, and one that we do not read is kept as it is.
    JPEG, PNG and WebP are kept as they are, but for their metadata; HEIC, AVIF, GIF (its first picture), TIFF and BMP
    as a JPEG or PNG of the same picture. A picture that its metadata turn is turned, grey of 16 bits is scaled to 8.
    What was changed or passed over is in `notes`.

    Each upload is a new file, also of the same bytes.
    """
    with _told_where_full(), SpooledTemporaryFile(SPOOLED) as file:
        # Starlette's, which writes in another thread once the file is on disk.
        await _receive(request, UploadFile(cast(BinaryIO, file)))
        file.flush()  # else the end of a file that had no room is missing from what is read
        kind = await anyio.to_thread.run_sync(_kind, file, media_type(request.headers))
        keep = partial(_keep, file, kind, metadata=metadata is Metadata.KEEP, user_id=user_id, services=services)
        # Each costs the memory of a whole file; those that wait hold theirs on disk alone.
        limiter = PICTURES_AT_ONCE if kind is Kind.IMAGE else OTHERS_AT_ONCE
        asset, notes = await anyio.to_thread.run_sync(keep, limiter=limiter)
    return UploadDocument(**asset_document(asset, services.settings).model_dump(), notes=notes)


@contextmanager
def _told_where_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise StoreFull("there is no room for files that come in: make some in this gateway's TMPDIR") from error


async def _receive(request: Request, file: UploadFile) -> None:
    try:
        async for chunk in request.stream():
            await file.write(chunk)
    except ClientDisconnect:
        raise Problem(400, "The connection ended before the file.", field="body", remedy="Send it again.") from None


def _kind(file: IO[bytes], declared: str) -> Kind:
    """Return what the file is to be verified as; by its bytes where its sender does not know, or we do not ask."""
    if declared in ARCHIVES:
        return Kind.ARCHIVE
    if declared.startswith("image/"):
        return Kind.IMAGE
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(HEAD_BYTES)
    if not is_picture(head):
        return Kind.ARCHIVE if declared == ANY_FILE and _is_archive(file, head) else Kind.FILE
    if size > LARGEST_IMAGE:  # it was let in as any file, which may be larger
        raise too_large(LARGEST_IMAGE)
    return Kind.IMAGE


def _is_archive(file: IO[bytes], head: bytes) -> bool:
    """Return whether it is a zip, also one behind a program that unpacks it; and not what only ends like one."""
    known = known_kind(head)
    return known is Kind.ARCHIVE or (known is None and type_of(head) == UNKNOWN and is_zipfile(file))


def _keep(file: IO[bytes], kind: Kind, *, metadata: bool, user_id: str, services: Services) -> tuple[Asset, list[str]]:
    media, notes = _verified(file, kind, metadata=metadata)
    asset_id = new_id("ast_")
    stored = StoredFile(
        key=f"uploads/{user_id}/{asset_id}.{media.extension}",
        sha256=media.sha256,
        content_type=media.content_type,
        bytes=media.size,
        width=media.width,
        height=media.height,
        seconds=media.seconds,
    )
    # The file first: a row without one would be an asset that cannot be fetched, a file without a row is only waste.
    if isinstance(media, Media):
        services.blocks.store().write(stored.key, media.content)
    else:
        media.file.seek(0)
        services.blocks.store().write_file(stored.key, media.file)
    return services.ledger.assets.add_upload(user_id, asset_id=asset_id, file=stored), notes


def _verified(file: IO[bytes], kind: Kind, *, metadata: bool) -> tuple[Media | MediaOnDisk, list[str]]:
    """Verify the file and return what is kept, and what is to be told of it. Raise BadInput for what is refused."""
    # Before it is in memory as a whole.
    notes = check_archive(file, field="body") if kind is Kind.ARCHIVE else []
    try:
        if kind is Kind.FILE:
            return verify_file(file, kind, sha256=_sha256(file)), notes
        file.seek(0)
        media = verify(file.read(), kind, metadata=metadata)
        return media, [*notes, *(f"It {note}." for note in media.notes)]
    except (Refused, Unverified) as error:
        raise BadInput(f"{error.message}; send the file as it is", field="body", code=error.code) from error


def _sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while piece := file.read(MIB):
        digest.update(piece)
    return digest.hexdigest()
