"""Money: what was spent, against the budget."""

from __future__ import annotations

from fastapi import APIRouter, Response

from darkroom.deployments.studio.parts import empty
from darkroom.deployments.studio.screens import Screen
from darkroom.deployments.studio.visit import VisitOf

router = APIRouter()
SCREEN = Screen("Money", "/money", router)


@router.get("")
async def money(visit: VisitOf) -> Response:
    return visit.page("Money", empty("Nothing spent yet", "Spending by model and tag is shown here."))
