"""The way of a page to the stream: an address that lays a fresh token into a cookie and leads on to `/v1/stream`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import RedirectResponse

from darkroom.deployments.studio.visit import VisitOf

STREAM_COOKIE, STREAM_PATH = "darkroom_stream", "/v1/stream"
SECONDS = 3600  # as long as a token holds

router = APIRouter()


@router.get("/stream")
async def stream(visit: VisitOf, after: Annotated[int | None, Query(ge=0)] = None) -> Response:
    """Lead to the stream. `after`: the number of what was heard last."""
    # A fresh one each time: an `EventSource` that opens this again, after hours or by another gateway, has one that
    # holds.
    token = (await visit.api.post("/v1/stream-tokens"))["token"]
    # A stream that broke is opened again at its first address, with the header `Last-Event-ID`, which goes before
    # this older number.
    answer = RedirectResponse(STREAM_PATH if after is None else f"{STREAM_PATH}?after={after}", 307)
    # An `EventSource` sends no header of ours, and an address would be in the logs of proxies. Of this path: no other
    # address of the API is shown it.
    answer.set_cookie(
        STREAM_COOKIE,
        token,
        max_age=SECONDS,
        path=STREAM_PATH,
        httponly=True,
        samesite="strict",
        secure=visit.request.url.scheme == "https" or visit.request.app.state.https,
    )
    return answer
