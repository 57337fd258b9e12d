"""Spending: today and this month against the budget, and by model, tag and day, with what reuse and drafts saved."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import htpy as h
from fastapi import APIRouter, Response
from htpy import Node

from darkroom.deployments.studio.api import ApiProblem
from darkroom.deployments.studio.money_parts import bar
from darkroom.deployments.studio.parts import (
    banner,
    button,
    card,
    empty,
    facts,
    field,
    link,
    moment,
    money,
    said,
    table,
)
from darkroom.deployments.studio.routes.money.tabs import AT, pages
from darkroom.deployments.studio.static_files import PREFIX
from darkroom.deployments.studio.visit import Visit, VisitOf

router = APIRouter()

PERIODS = {"day": "Today", "month": "This month"}
MOST_LINES = 50
BY_DRAFTS = (
    "An estimate, of batches that ended in this time: what all of their rows would have cost at the price of their "
    "finals, less what drafts and finals have cost."
)
NOTHING_YET = "What your orders cost is shown here, by model, tag and day, as soon as the first has ended."


@router.get("")
async def spending(visit: VisitOf, since: str = "", until: str = "") -> Response:
    """Show a time, this month where none is asked for. `since`, `until`: days, the last one included."""
    budgets = card(await _budgets(visit), title="Against the budget")
    asked = _asked(since, until)
    try:
        by = {group: await _usage(visit, group, since, until) for group in ("model", "tag", "day")}
    except ApiProblem as problem:  # of a time that is none: it stays in the form to be mended
        return visit.page("Money", pages(""), banner(problem), budgets, asked, status=problem.status)
    total = by["model"]["total"]
    return visit.page(
        "Money",
        pages(""),
        budgets,
        asked,
        card(_total(total), title=_title(by["model"])),
        [
            card(_lines(by["model"]["items"], "Model", total), title="By model"),
            card(_lines(by["tag"]["items"], "Tag", total), title="By tag"),
            card(_lines(by["day"]["items"], "Day", total), title="By day"),
        ]
        if by["model"]["items"]
        else empty("Nothing spent in this time", NOTHING_YET, link("Order something", f"{PREFIX}/order")),
    )


async def _usage(visit: Visit, group: str, since: str, until: str) -> Any:
    # The last day is included, and the API's end is not: this is its last microsecond.
    end = f"{until}T23:59:59.999999Z" if until else ""
    return await visit.api.get("/v1/usage", **{"from": since, "to": end}, group_by=group)


async def _budgets(visit: Visit) -> Node:
    found = (await visit.api.get("/v1/budget"))["items"]
    return h.div(".periods")[(_budget(each) for each in found)]


def _budget(budget: Any) -> Node:
    # As the budget itself counts: what calls under way may come to is taken already.
    spent, whole = budget["spent_usd"] + budget["reserved_usd"], budget["budget_usd"]
    of = f"{money(spent)} of {money(whole)}" if whole is not None else f"{money(spent)}, without a limit"
    whose = {"plan": "by your plan", "user": "your own"}.get(budget["source"] or "")
    return h.div(".meter")[
        h.h3[PERIODS.get(budget["period"], budget["period"])],
        h.p(".figure")[of],
        bar(spent, whole, label=of),
        h.p(".quiet-text")[
            whole is not None and f"{money(budget['left_usd'])} left, {whose}. ",
            budget["reserved_usd"] > 0 and f"{money(budget['reserved_usd'])} of it for calls under way. ",
            "Anew: ",
            moment(budget["resets_at"]),
        ],
    ]


def _asked(since: str, until: str) -> Node:
    # What is shown where nothing is asked for: this month, of UTC as budgets are.
    today = datetime.now(UTC).date()
    return h.form(".filter.days", method="get", action=AT)[
        field("From", h.input(type="date", name="since", value=since or today.replace(day=1).isoformat())),
        field("To, included", h.input(type="date", name="until", value=until or today.isoformat())),
        button("Show", kind="quiet"),
    ]


def _title(usage: Any) -> str:
    begin, end = (date.fromisoformat(usage[side][:10]) for side in ("from", "to"))
    return f"{begin:%d %b %Y} to {end:%d %b %Y}"


def _total(total: Any) -> Node:
    # Without a mark-up the price is the cost.
    marked_up = total["price_usd"] != total["cost_usd"]
    return facts(
        {
            "Spent": money(total["spent_usd"]),
            "Paid calls": f"{total['calls']:,}",
            "Billed so far": money(total["billed_usd"]),
            "Price with mark-up": money(total["price_usd"]) if marked_up else None,
            "Saved by reuse": money(total["saved_usd"]),
            "Saved by drafts": _by_drafts(total["drafts_saved_usd"]),
            "Came twice": money(total["duplicates_usd"]) if total["duplicates_usd"] else None,
            "Perhaps paid beside": money(total["perhaps_paid_usd"]) if total["perhaps_paid_usd"] else None,
        }
    )


def _by_drafts(usd: float) -> Node:
    return h.abbr(title=BY_DRAFTS)[f"about {money(usd)}"] if usd else None


def _lines(items: Any, what: str, total: Any) -> Node:
    """Show the lines, the dearest first; days in their order."""
    ordered = items if what == "Day" else sorted(items, key=lambda each: -each["spent_usd"])
    shown, most = ordered[:MOST_LINES], max((each["spent_usd"] for each in items), default=0)
    return [
        table(
            [what, "Share", "Spent", "Calls", "Saved by reuse", "… by drafts, about"],
            [
                [
                    said(each["key"] or "without a tag", most=40),
                    # A little over the most: a full bar would be red.
                    bar(each["spent_usd"], most * 1.0001, label=_share(each, total)),
                    money(each["spent_usd"]),
                    f"{each['calls']:,}",
                    money(each["saved_usd"]) if each["saved_usd"] else "–",
                    money(each["drafts_saved_usd"]) if each["drafts_saved_usd"] else "–",
                ]
                for each in shown
            ],
            caption=f"Spending by {what.lower()}",
        ),
        len(items) > len(shown) and h.p(".quiet-text")[f"… and {len(items) - len(shown):,} more, which cost less."],
    ]


def _share(line: Any, total: Any) -> str:
    return f"{line['spent_usd'] / total['spent_usd']:.0%} of all" if total["spent_usd"] else "nothing"
