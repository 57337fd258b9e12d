"""`POST /webhooks/{account}`: a provider tells how a call ended. Committed, answered, and then acted upon."""

from __future__ import annotations

from typing import Annotated

from fastapi import BackgroundTasks, Depends, Path, Request
from fastapi.responses import JSONResponse

from darkroom.deployments.gateway.routing import whole_router
from darkroom.deployments.gateway.services import ServicesOf

router = whole_router(prefix="/webhooks", include_in_schema=False)


# Awaited here, so that the endpoint itself can wait for the ledger in a thread.
async def raw_body(request: Request) -> bytes:
    return await request.body()


@router.post("/{account_id}")
def receive_webhook(
    account_id: Annotated[str, Path(max_length=100)],
    request: Request,
    body: Annotated[bytes, Depends(raw_body)],
    services: ServicesOf,
    after: BackgroundTasks,
) -> JSONResponse:
    """Accept a provider's webhook. Its whole body is signed, byte for byte, so it is not parsed before."""
    verdict, implied = services.webhooks.receive(account_id, request.headers, body, request.query_params)
    # By the ends of calls alone it is measured at which pace slots come free.
    after.add_task(services.act_on, implied, slot_freed=True)
    return JSONResponse({"verdict": verdict})
