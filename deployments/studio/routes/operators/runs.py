"""Runs: those of Prefect's that are open or were until lately, each with the way to its page in Prefect's UI."""

from __future__ import annotations

from typing import Any

import htpy as h
from fastapi import APIRouter, Response
from htpy import Node

from darkroom.deployments.studio.parts import badge, card, empty, moment, said, table
from darkroom.deployments.studio.routes.operators.tabs import AT, pages
from darkroom.deployments.studio.visit import VisitOf

router = APIRouter(prefix="/runs")


@router.get("")
async def runs(visit: VisitOf) -> Response:
    found = (await visit.api.get("/v1/admin/runs"))["items"]
    return visit.page(
        "Operators",
        pages("/runs"),
        card(_table(found), title="Open, and closed within the last hour")
        if found
        else empty("No run is open", "Orders that get their slots are carried out by runs, which are shown here."),
    )


def _table(found: Any) -> Node:
    return table(
        ["Run", "User", "Open jobs", "State", "Begun", "In Prefect"],
        [
            [
                f"{each['kind']}/{each['deployment']}",
                h.a(href=f"{AT}/users/{each['user_id']}")[said(each["user"], most=40)],
                f"{each['open_jobs']:,}",
                badge(_state(each)),
                moment(each["created_at"]),
                _in_prefect(each["flow_run_id"], each["url"]),
            ]
            for each in found
        ],
        caption="Runs, newest first",
    )


def _in_prefect(id: str | None, url: str | None) -> Node:
    if id is None:
        return "not made yet"
    # A whole id made the table wider than the screen.
    short = h.span(title=id)[f"{id[:8]}…"]
    return h.a(href=url)[short] if url else short


def _state(run: Any) -> str:
    if run["closed_at"]:
        return "done"
    return "suspended" if run["suspended_at"] else "running"
