"""Models: which may be ordered here, what a call is taken to cost, and which are billed otherwise than reckoned."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import htpy as h
from fastapi import APIRouter, Response
from htpy import Node

from darkroom.deployments.studio.api import ApiProblem
from darkroom.deployments.studio.money_parts import older
from darkroom.deployments.studio.order_forms import unit_price
from darkroom.deployments.studio.parts import (
    badge,
    banner,
    button,
    card,
    choice,
    empty,
    facts,
    field,
    link,
    moment,
    money,
    table,
)
from darkroom.deployments.studio.routes.operators.tabs import AT, number, pages, text
from darkroom.deployments.studio.visit import FormOf, Visit, VisitOf

router = APIRouter(prefix="/models")

MODELS = f"{AT}/models"
DRIFTS = 0.05  # from so much on the notifier is told, too
CHOICES = {"": "As it is", "yes": "Allowed", "no": "Denied", "setting": "As the installation's setting says"}
ALLOWED = {"yes": True, "no": False, "setting": None}


@router.get("")
async def models(visit: VisitOf, q: str = "", cursor: str = "") -> Response:
    found = await visit.api.get("/v1/models", q=q.strip(), cursor=cursor, limit=50)
    drift = [] if q or cursor else (await visit.api.get("/v1/admin/drift"))["items"]
    search = h.input(type="search", name="q", value=q, maxlength="100", dir="auto")
    return visit.page(
        "Operators",
        pages("/models"),
        h.form(".filter.one", method="get", action=MODELS, role="search")[
            field("Name or description", search), button("Find", kind="quiet")
        ],
        drift and card(_drift(drift), title="Billed against reckoned, the last 30 days"),
        card(_table(found["items"]))
        if found["items"]
        else empty("No model is like that", "Try another word.", link("Show all", MODELS, kind="quiet")),
        older(f"{MODELS}?{urlencode({'q': q})}" if q else MODELS, found["next"]),
    )


# A path, as endpoints have slashes in them.
@router.get("/{endpoint:path}")
async def model(endpoint: str, visit: VisitOf) -> Response:
    return await _model(visit, endpoint)


@router.post("/{endpoint:path}")
async def change(endpoint: str, visit: VisitOf, form: FormOf) -> Response:
    allowed, price = text(form, "allowed"), text(form, "call_usd")
    order: dict[str, Any] = {"endpoint": endpoint, "call_usd": price or None}
    if allowed in ALLOWED:  # left out, it stays as it is
        order["allowed"] = ALLOWED[allowed]
    try:
        await visit.api.post("/v1/admin/models", order)
    except ApiProblem as problem:
        return await _model(visit, endpoint, problem, typed=price)
    return visit.go(f"{MODELS}/{quote(endpoint)}", said="It holds within ten seconds.")


def _table(found: Any) -> Node:
    return table(
        ["Model", "Category", "A unit", "A call, as set", "Here"],
        [
            [
                h.a(href=f"{MODELS}/{quote(each['endpoint'])}")[each["endpoint"]],
                each["category"],
                unit_price(each),
                money(each["call_usd"]),
                badge("allowed" if each["allowed"] else "denied"),
            ]
            for each in found
        ],
        caption="Models",
    )


def _drift(found: Any) -> Node:
    return table(
        ["Model", "Calls", "Reckoned", "Billed", "Drift"],
        [
            [
                h.a(href=f"{MODELS}/{quote(each['endpoint'])}")[each["endpoint"]],
                f"{each['calls']:,}",
                money(each["cost_usd"]),
                money(each["billed_usd"]),
                _share(each["share"]),
            ]
            for each in found
        ],
        caption="Models by how far their bills are from their costs",
    )


def _share(share: float | None) -> Node:
    if share is None:
        return "–"
    return [f"{share:+.1%} ", abs(share) > DRIFTS and h.span(".badge.bad")["drifts"]]


async def _model(
    visit: Visit, endpoint: str, problem: ApiProblem | None = None, *, typed: str | None = None
) -> Response:
    found = await visit.api.get(f"/v1/models/{quote(endpoint)}")
    price = found["call_usd"] if typed is None else typed
    return visit.page(
        "Operators",
        pages("/models"),
        banner(problem) if problem else None,
        h.p[h.a(href=MODELS)["← All models"]],
        card(
            facts(
                {
                    "Now": badge("allowed" if found["allowed"] else "denied"),
                    "A unit": unit_price(found),
                    "Usually takes": f"{found['usual_seconds']:.0f} s" if found["usual_seconds"] else None,
                    "Card of": moment(found["fetched_at"]),
                }
            ),
            visit.form(
                f"{MODELS}/{quote(endpoint)}",
                field("May it be ordered?", choice("allowed", CHOICES)),
                number("A call costs, USD", "call_usd", price, hint="Empty: by its card."),
                submit="Change",
                kind="quiet",
                class_="inline",
            ),
            title=endpoint,
        ),
        status=problem.status if problem else 200,
    )
