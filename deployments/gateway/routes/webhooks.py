"""`POST /webhooks/…`: a provider tells how a call ended. Committed, answered, and then acted upon."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, Request
from fastapi.responses import JSONResponse

from darkroom.deployments.gateway.services import ServicesOf

router = APIRouter(prefix="/webhooks", include_in_schema=False)


async def raw_body(request: Request) -> bytes:
    return await request.body()


@router.post("/fal")
def fal_webhook(
    request: Request, body: Annotated[bytes, Depends(raw_body)], services: ServicesOf, after: BackgroundTasks
) -> JSONResponse:
    """Accept a webhook of fal. Its whole body is signed, byte for byte, so it is not parsed before it is verified."""
    token = request.query_params.get("token")
    verdict, implied = services.callbacks.receive(request.headers, body, token=token)
    after.add_task(services.act_on, implied, slot_freed=True)
    return JSONResponse({"verdict": verdict})


@router.post("/mux")
def mux_webhook(
    request: Request, body: Annotated[bytes, Depends(raw_body)], services: ServicesOf, after: BackgroundTasks
) -> JSONResponse:
    verdict, implied = services.mux_callbacks.receive(request.headers, body)
    after.add_task(services.act_on, implied, slot_freed=True)
    return JSONResponse({"verdict": verdict})
