"""Operators: all users, keys, plans, slots and dead letters."""

from __future__ import annotations

from fastapi import APIRouter, Response

from darkroom.deployments.studio.parts import empty
from darkroom.deployments.studio.screens import Screen
from darkroom.deployments.studio.visit import VisitOf

router = APIRouter()
SCREEN = Screen("Operators", "/operators", router, scope="admin")


@router.get("")
async def operators(visit: VisitOf) -> Response:
    return visit.page("Operators", empty("Nothing here yet", "What the installation does is shown here."))
