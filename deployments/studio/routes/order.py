"""Order: pick a model and fill in its form."""

from __future__ import annotations

from fastapi import APIRouter, Response

from darkroom.deployments.studio.parts import empty
from darkroom.deployments.studio.screens import Screen
from darkroom.deployments.studio.visit import VisitOf

router = APIRouter()
SCREEN = Screen("Order", "/order", router)


@router.get("")
async def order(visit: VisitOf) -> Response:
    return visit.page("Order", empty("Nothing to order yet", "Models of this installation will be listed here."))
