"""Your own keys: what each is good for, and when it was used last. An operator makes and ends them."""

from __future__ import annotations

from fastapi import APIRouter, Response

from darkroom.deployments.studio.money_parts import keys_table, older
from darkroom.deployments.studio.parts import card, empty
from darkroom.deployments.studio.routes.money.tabs import AT, pages
from darkroom.deployments.studio.visit import VisitOf

router = APIRouter(prefix="/keys")


@router.get("")
async def keys(visit: VisitOf, cursor: str = "") -> Response:
    found = await visit.api.get("/v1/keys", limit=50, cursor=cursor)
    return visit.page(
        "Money",
        pages("/keys"),
        card(keys_table(found["items"], caption="Your API keys"), title="Your API keys")
        if found["items"]
        else empty("No keys", "An operator makes one with: darkroom key add"),
        older(f"{AT}/keys", found["next"]),
    )
