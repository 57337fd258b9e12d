"""Gallery: pictures, films, sound and 3D that were made."""

from __future__ import annotations

from fastapi import APIRouter, Response

from darkroom.deployments.studio.parts import empty
from darkroom.deployments.studio.screens import Screen
from darkroom.deployments.studio.visit import VisitOf

router = APIRouter()
SCREEN = Screen("Gallery", "/gallery", router)


@router.get("")
async def gallery(visit: VisitOf) -> Response:
    return visit.page("Gallery", empty("No files yet", "What your jobs make is shown here."))
