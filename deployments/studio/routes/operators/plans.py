"""Plans, changed in place: each is its own form, and what the API refuses stays as it was typed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import htpy as h
from fastapi import APIRouter, Response
from htpy import Node
from starlette.datastructures import FormData

from darkroom.deployments.studio.api import ApiProblem
from darkroom.deployments.studio.parts import banner, card, field, plain
from darkroom.deployments.studio.routes.operators.tabs import AT, number, pages, text
from darkroom.deployments.studio.visit import FormOf, Visit, VisitOf

router = APIRouter(prefix="/plans")

PLANS = f"{AT}/plans"
FIELDS = {
    "in_flight": "Calls at once, each user",
    "weight": "Share when slots are short",
    "daily_budget_usd": "USD a day",
    "monthly_budget_usd": "USD a month",
    "markup": "Mark-up on costs, a factor",
    "most_queued": "Calls that may wait",
    "calls_per_minute": "API calls a minute, each key",
}
NEEDED = ("in_flight", "weight", "markup", "most_queued")
NEW: dict[str, Any] = {"in_flight": 10, "weight": 1, "markup": 1, "most_queued": 20_000}


@router.get("")
async def plans(visit: VisitOf) -> Response:
    return await _page(visit)


@router.post("")
async def change(visit: VisitOf, form: FormOf) -> Response:
    """Set the plan as a whole: an empty field is no limit."""
    name = text(form, "name")
    order: dict[str, Any] = {each: text(form, each) or None for each in FIELDS}
    try:
        await visit.api.post("/v1/admin/plans", {"name": name} | order)
    except ApiProblem as problem:
        return await _page(visit, problem, typed=form)
    return visit.go(PLANS, said=f"The plan {name} is changed, from the next grant on.")


async def _page(visit: Visit, problem: ApiProblem | None = None, *, typed: FormData | None = None) -> Response:
    found = (await visit.api.get("/v1/admin/plans"))["items"]
    name = text(typed, "name") if typed else None
    known = {each["name"] for each in found}
    # Whatever was typed goes before what is on record: the API has refused it, so it is there to be mended.
    as_typed = {each: text(typed, each) for each in ("name", *FIELDS)} if typed else {}
    return visit.page(
        "Operators",
        pages("/plans"),
        banner(problem) if problem else None,
        h.p(".quiet-text")[
            "An empty field is no limit. A change holds from the next grant on, for all users of the plan."
        ],
        [
            card(_form(visit, each | (as_typed if each["name"] == name else {})), title=f"Plan {each['name']}")
            for each in found
        ],
        card(_form(visit, NEW | (as_typed if name not in known else {}), new=True), title="A new plan"),
        status=problem.status if problem else 200,
    )


def _form(visit: Visit, plan: Mapping[str, Any], *, new: bool = False) -> Node:
    asked = h.input(name="name", value=plan.get("name", ""), required=True, maxlength="100", dir="auto")
    return visit.form(
        PLANS,
        field("Name", asked) if new else h.input(type="hidden", name="name", value=plan["name"]),
        h.div(".plan-fields")[
            (number(label, each, _plain(plan.get(each)), required=each in NEEDED) for each, label in FIELDS.items())
        ],
        submit="Make the plan" if new else "Change",
        kind="" if new else "quiet",
        class_="stacked",
    )


def _plain(value: object) -> object:
    return plain(value) if isinstance(value, float) else value
