"""Dead letters of everybody, by cause: what another try would cost is told without one, and replayed under a budget."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import htpy as h
from fastapi import APIRouter, Response
from htpy import Node

from darkroom.deployments.studio.api import ApiProblem
from darkroom.deployments.studio.parts import badge, banner, card, empty, facts, link, moment, money, said, table
from darkroom.deployments.studio.routes.operators.tabs import AT, number, pages, text
from darkroom.deployments.studio.visit import FormOf, Visit, VisitOf

router = APIRouter(prefix="/dead-letters")

LETTERS = f"{AT}/dead-letters"
CAUSE = ("code", "class", "kind")
REPLAY = "/v1/admin/dead-letters/replay"
MOST_REFUSED = 20  # that are told one by one


@router.get("")
async def causes(visit: VisitOf) -> Response:
    found = (await visit.api.get("/v1/admin/dead-letters"))["items"]
    return visit.page(
        "Operators",
        pages("/dead-letters"),
        card(_causes(found), title="What jobs failed of")
        if found
        else empty(
            "Nothing has failed", "Jobs that fail for good are listed here by cause, to be tried again together."
        ),
    )


@router.get("/cause")
async def cause(visit: VisitOf) -> Response:
    """Show what a replay would cost: a dry run, in which nothing is paid or put back."""
    return await _cause(visit, _which(visit.request.query_params))


@router.post("/replay")
async def replay(visit: VisitOf, form: FormOf) -> Response:
    which, budget = _which(form), text(form, "budget_usd")
    once = {"Idempotency-Key": text(form, "once") or uuid4().hex}  # sent twice, it is one replay
    if not budget:  # that would be asking for the price
        document = {"title": "No budget", "detail": "A replay has one.", "field": "budget_usd", "remedy": "Fill it in."}
        return await _cause(visit, which, ApiProblem(422, document))
    try:
        done = await visit.api.post(REPLAY, {"filter": which, "budget_usd": budget}, headers=once)
    except ApiProblem as problem:
        return await _cause(visit, which, problem, typed=budget)
    back, refused = len(done["put_back"]), len(done["refused"])
    said = f"{back:,} put back, {refused:,} not." + (f" {done['remaining']:,} more match." if done["remaining"] else "")
    return visit.go(f"{LETTERS}/cause?{urlencode(which)}" if refused or done["remaining"] else LETTERS, said=said)


def _which(given: Any) -> dict[str, str]:
    return {name: str(given[name]) for name in CAUSE if given.get(name)}


def _causes(found: Any) -> Node:
    return table(
        ["Cause", "Class", "Kind", "Jobs", "Users", "Last", "In the words of the last"],
        [
            [
                h.a(href=f"{LETTERS}/cause?{urlencode(_which(each))}")[said(each["code"] or "none told", most=60)],
                badge(each["class"] or "–"),
                each["kind"],
                f"{each['jobs']:,}",
                f"{each['users']:,}",
                moment(each["last_at"]),
                h.div(".words")[said(each["message"] or "–", most=200)],
            ]
            for each in found
        ],
        caption="Failed jobs of everybody, by cause",
    )


async def _cause(
    visit: Visit, which: dict[str, str], problem: ApiProblem | None = None, *, typed: str | None = None
) -> Response:
    # Without a budget it is a question: nothing is put back.
    price = await visit.api.post(REPLAY, {"filter": which})
    # In the six places that the API takes of a dollar.
    suggested = f"{price['replay_usd']:.6f}".rstrip("0").rstrip(".")
    return visit.page(
        "Operators",
        pages("/dead-letters"),
        banner(problem) if problem else None,
        h.p[h.a(href=LETTERS)["← All causes"]],
        card(
            h.p(".quiet-text")["Tried without cost: nothing was paid or put back."],
            facts(
                {
                    "Failed": f"{price['matching']:,}",
                    "Would go back": f"{price['replayable']:,}",
                    "At about": money(price["replay_usd"]),
                }
            ),
            _refused(price["refused"]),
            price["replayable"] and _replay(visit, which, suggested if typed is None else typed),
            title=" · ".join(which.values()) or "All causes",
        )
        if price["matching"]
        else empty("Nothing failed of this any more", "It was put back, or discarded.", link("All causes", LETTERS)),
        status=problem.status if problem else 200,
    )


def _replay(visit: Visit, which: dict[str, str], budget: str) -> Node:
    return visit.form(
        f"{LETTERS}/replay",
        (h.input(type="hidden", name=name, value=value) for name, value in which.items()),
        h.input(type="hidden", name="once", value=uuid4().hex),
        number(
            "Budget, USD", "budget_usd", budget, required=True, hint="For all of them, with steps they come to later."
        ),
        submit="Replay",
        class_="inline",
    )


def _refused(refused: Any) -> Node:
    if not refused:
        return None
    rest = len(refused) - MOST_REFUSED
    return h.details[
        h.summary[f"{len(refused):,} would not go back"],
        h.ul(".plain-list")[(h.li[h.code[each["job_id"]], " ", said(each["why"])] for each in refused[:MOST_REFUSED])],
        rest > 0 and h.p(".quiet-text")[f"… and {rest:,} more."],
    ]
