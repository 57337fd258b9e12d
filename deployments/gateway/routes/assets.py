"""`GET /v1/assets/{id}`: a file, to its owner by key or to anybody by a signed link, for as long as that holds.

The bytes come through the gateway, so the store needs no door of its own. They are what was verified when they were
stored: a picture of the type on record, which browsers are told not to guess at.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse

from darkroom.clock import utc_now
from darkroom.deployments.gateway.auth import Credentials, EndUser, acting_caller
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.problems import Problem, not_found
from darkroom.deployments.gateway.schemas.jobs import AssetDocument, asset_document
from darkroom.deployments.gateway.services import Services, ServicesOf
from darkroom.errors import Permanent
from darkroom.ledger import Asset
from darkroom.media.links import link_holds

router = APIRouter(prefix="/v1/assets", tags=["Assets"])

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file; with `Accept: application/json` and a key, its document.",
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
        "model": AssetDocument,
    },
    304: {"description": "Unchanged."},
    **problem_responses(401, 403, 404),
}
SHOWN = ("image/", "video/", "audio/")
Expires = Annotated[int | None, Query(ge=0, le=2**40, description="Of a link: Unix seconds.")]
Signature = Annotated[str | None, Query(max_length=128, description="Of a link.")]


@router.get(
    "/{id}",
    summary="Fetch a file",
    response_class=Response,
    responses=ANSWERS,
    openapi_extra={"security": [{}]},  # added to the key: a link needs none
)
def get_asset(
    request: Request,
    id: str,
    services: ServicesOf,
    credentials: Credentials,
    end_user: EndUser = None,
    expires: Expires = None,
    signature: Signature = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
    if_none_match: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """Either with a key, or by the `url` of an asset as it stands: that link holds for an hour."""
    if expires is not None or signature is not None:
        _check_link(id, expires=expires or 0, signature=signature or "", services=services)
        return _file(_asset(id, services), services, if_none_match=if_none_match)
    user_id = acting_caller(request, services, credentials, end_user).user_id
    asset = _asset(id, services)
    if asset.user_id != user_id:
        raise not_found("asset")
    if "application/json" in accept:
        return JSONResponse(asset_document(asset, services.settings).model_dump(mode="json"))
    return _file(asset, services, if_none_match=if_none_match)


def _check_link(asset_id: str, *, expires: int, signature: str, services: Services) -> None:
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


def _disposition(asset: Asset) -> str:
    """Return whether a browser may show the file: only what was read to its end when it was stored."""
    return "inline" if asset.content_type.startswith(SHOWN) and _was_read(asset) else "attachment"


def _was_read(asset: Asset) -> bool:
    return asset.width is not None or asset.seconds is not None


def _file(asset: Asset, services: Services, *, if_none_match: str) -> Response:
    headers = {
        "ETag": f'"{asset.sha256}"',
        "Cache-Control": "private, max-age=3600",
        "Vary": "Accept, Authorization, Darkroom-User",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Content-Disposition": f'{_disposition(asset)}; filename="{asset.key.rpartition("/")[2]}"',
    }
    if asset.sha256 in if_none_match:
        return Response(status_code=304, headers=headers)
    try:
        content = services.blocks.store().read(asset.key)
    except Permanent as error:
        if error.code != "media_missing":
            raise
        raise Problem(
            404, "The file is no longer in the media store.", remedy="Order it again.", code="file-missing"
        ) from error
    return Response(content, media_type=asset.content_type, headers=headers)
