"""LoRAs: faces, things and styles that were trained."""

from __future__ import annotations

from fastapi import APIRouter, Response

from darkroom.deployments.studio.parts import empty
from darkroom.deployments.studio.screens import Screen
from darkroom.deployments.studio.visit import VisitOf

router = APIRouter()
SCREEN = Screen("LoRAs", "/loras", router)


@router.get("")
async def loras(visit: VisitOf) -> Response:
    return visit.page("LoRAs", empty("No LoRAs yet", "Train one with 4 to 50 pictures."))
