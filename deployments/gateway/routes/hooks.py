"""`POST /v1/hooks/{name}`: webhooks of others, as prefect.yaml declares them. Committed, answered, then acted upon."""

from __future__ import annotations

from typing import Annotated

from fastapi import BackgroundTasks, Depends, Path, Request
from fastapi.responses import JSONResponse

from darkroom.deployments.gateway.routes.webhooks import raw_body
from darkroom.deployments.gateway.routing import whole_router
from darkroom.deployments.gateway.services import ServicesOf

router = whole_router(prefix="/v1/hooks", include_in_schema=False)


@router.post("/{name}")
def receive_hook(
    name: Annotated[str, Path(max_length=100)],
    request: Request,
    body: Annotated[bytes, Depends(raw_body)],  # the signature covers it byte for byte
    services: ServicesOf,
    after: BackgroundTasks,
) -> JSONResponse:
    """Make an event of somebody's webhook. Its signature is its key."""
    answer, implied = services.hooks.receive(name, request.headers, body)
    after.add_task(services.act_on, implied)
    services.publisher.wake()
    services.admitter.poll_pending_runs()
    return JSONResponse(answer)
