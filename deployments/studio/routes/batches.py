"""Batches: drafts as a wall, winners, finals."""

from __future__ import annotations

from fastapi import APIRouter, Response

from darkroom.deployments.studio.parts import empty
from darkroom.deployments.studio.screens import Screen
from darkroom.deployments.studio.visit import VisitOf

router = APIRouter()
SCREEN = Screen("Batches", "/batches", router)


@router.get("")
async def batches(visit: VisitOf) -> Response:
    return visit.page("Batches", empty("No batches yet", "A campaign of many pictures is chosen from here."))
