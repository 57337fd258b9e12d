"""`GET /v1/assets/{id}`: a file, to its owner by key or to anybody by a signed link, for as long as that holds.

The bytes come through the gateway piece by piece, so the store needs no door of its own; or S3 sends them, where
`DARKROOM_ASSET_LINKS` says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import Depends, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from darkroom.clock import utc_now
from darkroom.deployments.gateway.auth import Credentials, EndUser, acting_caller
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.problems import Problem, not_found
from darkroom.deployments.gateway.ranges import asked_part, has_it
from darkroom.deployments.gateway.routing import whole_router
from darkroom.deployments.gateway.schemas.assets import AssetEntry, asset_entries
from darkroom.deployments.gateway.services import Services, ServicesOf
from darkroom.deployments.gateway.thumbnails import Width, form_for
from darkroom.errors import Permanent
from darkroom.ledger import Asset, AssetFilter
from darkroom.media.links import LINK_LIFETIME, link_holds
from darkroom.media.streams import Chunks

router = whole_router(prefix="/v1/assets", tags=["Assets"])

_BYTES = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file; with `Accept: application/json` and a key, its document.",
        "content": _BYTES,
        "model": AssetEntry,
    },
    206: {"description": "The part that `Range` asks for.", "content": _BYTES},
    304: {"description": "Unchanged."},
    307: {"description": "The store sends the file; its address holds an hour. Only where the operator has set that."},
    **problem_responses(401, 403, 404, 416),
}
# In none of them anything can be run; not SVG, HTML, XML or PDF.
SHOWN = frozenset(
    {
        *("image/jpeg", "image/png", "image/webp", "image/gif", "image/avif"),
        *("video/mp4", "video/webm"),
        *("audio/mpeg", "audio/mp4", "audio/wav", "audio/ogg", "audio/flac"),
    }
)
# A quote or the end of a line would be the end of the header's value.
UNSAFE_IN_NAMES = re.compile(r"[^A-Za-z0-9._=-]")
# Should a browser take a file for a page all the same, nothing in it runs or loads.
SAFE = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox"}
# By these the same address is answered otherwise, and whoever keeps an answer may keep several.
VARY = "Accept, Authorization, Darkroom-User"

Expires = Annotated[int | None, Query(ge=0, le=2**40, description="Of a link: Unix seconds.")]
Signature = Annotated[str | None, Query(max_length=128, description="Of a link.")]
W = Annotated[
    Width | None,
    Query(
        description="A small picture instead, at most that many pixels wide: of a picture, or of a film's beginning. "
        "WebP for who accepts it, else JPEG."
    ),
]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a request says beside which file it wants, and by what right."""

    method: str
    accept: str
    if_none_match: str
    range: str
    if_range: str


def _asked(request: Request) -> Asked:
    return Asked(
        method=request.method,
        accept=request.headers.get("accept", "*/*"),
        if_none_match=request.headers.get("if-none-match", ""),
        range=request.headers.get("range", ""),
        if_range=request.headers.get("if-range", ""),
    )


def _allowed(
    request: Request,
    id: str,
    services: ServicesOf,
    credentials: Credentials,
    end_user: EndUser = None,
    expires: Expires = None,
    signature: Signature = None,
) -> Asset:
    """Return the file, to who has its link or its owner's key."""
    if expires is not None or signature is not None:
        _check_link(id, expires=expires or 0, signature=signature or "", services=services)
        return _asset(id, services)
    user_id = acting_caller(request, services, credentials, end_user).user_id
    asset = _asset(id, services)
    if asset.user_id != user_id:  # nobody learns whether it is there
        raise not_found("asset")
    return asset


AskedOf = Annotated[Asked, Depends(_asked)]
Allowed = Annotated[Asset, Depends(_allowed)]
COMMON: dict[str, Any] = {
    "response_class": Response,
    "responses": ANSWERS,
    "openapi_extra": {"security": [{}]},  # added to the key: a link needs none
}


@router.get("/{id}", summary="Fetch a file", **COMMON)
async def get_asset(
    asset: Allowed, asked: AskedOf, services: ServicesOf, w: W = None, expires: Expires = None
) -> Response:
    """Return the file, either with a key, or by the `url` of an asset as it stands: that link holds for an hour.

    `Range` asks for a part of the file (one range of bytes), `If-None-Match` for what has changed.
    """
    # A link opens the file alone, and not what is known of it.
    is_about_it = "application/json" in asked.accept and expires is None and w is None
    if asset.hidden and not is_about_it:
        raise Problem(
            403,
            "The file's model has flagged it, and its order says that such files are hidden.",
            remedy='Order anew with `flagged` as "keep".',
            code="hidden-file",
        )
    if w is not None:
        return await _small(asset, asked, w, services)
    if is_about_it:
        return JSONResponse(await run_sync(_entry, asset, services))
    return await run_sync(_whole, asset, asked, services, expires)


# By itself FastAPI answers HEAD at no route.
@router.head("/{id}", summary="Look at a file", **COMMON)
async def head_asset(
    asset: Allowed, asked: AskedOf, services: ServicesOf, w: W = None, expires: Expires = None
) -> Response:
    """Answer as `GET` does, without the file: how large it is, and of which type."""
    return await get_asset(asset, asked, services, w, expires)


def _entry(asset: Asset, services: Services) -> dict[str, Any]:
    found = services.ledger.assets.page(asset.user_id, limit=1, only=AssetFilter(asset_id=asset.id))
    if not found:  # deleted just now
        raise not_found("asset")
    return asset_entries(found, services.settings)[0].model_dump(mode="json")


def _whole(asset: Asset, asked: Asked, services: Services, expires: int | None) -> Response:
    return _redirect(asset, asked, services, expires=expires) or _file(asset, asked, services)


def _check_link(asset_id: str, *, expires: int, signature: str, services: Services) -> None:
    # First: when it ends counts only in a link that we have made.
    if not link_holds(asset_id, expires=expires, signature=signature, settings=services.settings):
        raise Problem(403, "The link was not made here.", field="signature", remedy="Use the link as it was given.")
    if expires < utc_now().timestamp():
        raise Problem(
            403, "The link has expired.", field="expires", remedy="Ask for the job again: it has a fresh one."
        )


def _asset(asset_id: str, services: Services) -> Asset:
    asset = services.ledger.assets.get(asset_id)
    if asset is None:
        raise not_found("asset")
    return asset


def disposition(asset: Asset) -> str:
    """Say whether a browser may show the file: only what was read to its end when it was stored, and cannot run."""
    # Of what nobody has read to its end nobody knows what it is, whatever its type says.
    was_read = asset.width is not None or asset.seconds is not None
    name = UNSAFE_IN_NAMES.sub("_", asset.key.rpartition("/")[2])
    return f'{"inline" if was_read and asset.content_type in SHOWN else "attachment"}; filename="{name}"'


def _redirect(asset: Asset, asked: Asked, services: Services, *, expires: int | None) -> Response | None:
    """Lead to the store itself, for as long as the link holds, an hour at most; None where the gateway sends files."""
    if services.settings.asset_links == "gateway":
        return None
    left = timedelta(seconds=expires - utc_now().timestamp()) if expires is not None else LINK_LIFETIME
    address = services.blocks.store().link(
        asset.key,
        lifetime=min(left, LINK_LIFETIME),
        method=asked.method,  # which S3 signs, and which a 307 keeps
        # What S3 answers with: what could run is a download there, too.
        headers={"Content-Type": asset.content_type, "Content-Disposition": disposition(asset)},
    )
    # Not to be kept: the address runs out with the link that led to it.
    return RedirectResponse(address, 307, {"Cache-Control": "no-store", "Vary": VARY}) if address else None


async def _small(asset: Asset, asked: Asked, width: Width, services: Services) -> Response:
    form = form_for(asked.accept)
    tag = f'"{asset.sha256}-{width}-{form}"'
    stem = UNSAFE_IN_NAMES.sub("_", asset.key.rpartition("/")[2].partition(".")[0])
    headers = {
        **SAFE,
        "ETag": tag,
        "Cache-Control": "private, max-age=31536000, immutable",  # the tag has the file's hash in it
        "Vary": VARY,
        "Content-Disposition": f'inline; filename="{stem}-{width}.{form}"',
    }
    if has_it(asked.if_none_match, tag):
        return Response(status_code=304, headers=headers)
    with _told_if_gone():
        content = await services.thumbnails.get(asset, width=width, form=form, store=services.blocks.store())
    return Response(content, media_type=form.content_type, headers=headers)


def _file(asset: Asset, asked: Asked, services: Services) -> Response:
    tag = f'"{asset.sha256}"'
    headers = {
        **SAFE,
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=3600",
        "Vary": VARY,
        "Content-Disposition": disposition(asset),
    }
    if has_it(asked.if_none_match, tag):
        return Response(status_code=304, headers=headers)
    # RFC 9110, 14.2: `Range` is for GET alone.
    part = asked_part(asked.range, asked.if_range, tag=tag, size=asset.bytes) if asked.method == "GET" else None
    start, stop = part or (0, asset.bytes)
    headers |= {"Content-Type": asset.content_type, "Content-Length": str(stop - start)}
    if part:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{asset.bytes}"
    # Opened for HEAD, too: a file that is gone is 404 there as well.
    with _told_if_gone():
        chunks = services.blocks.store().stream(asset.key, start=start, stop=stop)
    if asked.method == "HEAD":
        chunks.close()
        return Response(headers=headers)
    return _Sent(chunks, 206 if part else 200, headers)


class _Sent(StreamingResponse):
    """A file on its way, which is closed however the sending ends."""

    def __init__(self, chunks: Chunks, status_code: int, headers: Mapping[str, str]) -> None:
        super().__init__(chunks, status_code, headers)
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._chunks.close()


@contextmanager
def _told_if_gone() -> Iterator[None]:
    try:
        yield
    except Permanent as error:
        if error.code != "media_missing":
            raise
        raise Problem(
            404, "The file is no longer in the media store.", remedy="Order it again.", code="file-missing"
        ) from error
