"""The queue: every account with its slots, what its breaker and its throttle know, and who waits behind whom.

Below them who has waited within the last hour, and who was served meanwhile.
"""

from __future__ import annotations

from typing import Any

import htpy as h
from fastapi import APIRouter, Response
from htpy import Node

from darkroom.deployments.studio.api import ApiProblem
from darkroom.deployments.studio.money_parts import bar
from darkroom.deployments.studio.parts import badge, banner, card, empty, facts, link, moment, plain, said, table
from darkroom.deployments.studio.routes.operators.tabs import AT, number, pages, text
from darkroom.deployments.studio.visit import FormOf, Visit, VisitOf

router = APIRouter()

LANES = {
    "continue": "Later steps of jobs under way",
    "interactive": "Somebody waits in front of it",
    "batch": "Batches",
    "training": "Trainings",
}
LONGEST_NAME = 40  # of a user, in a table of many columns


@router.get("")
async def queue(visit: VisitOf) -> Response:
    return await _page(visit)


@router.post("/accounts/{name}")
async def set_slots(name: str, visit: VisitOf, form: FormOf) -> Response:
    slots = text(form, "slots")
    try:
        # Null leaves the slots as they are.
        await visit.api.post("/v1/admin/accounts", {"name": name, "slots": slots or None})
    except ApiProblem as problem:
        return await _page(visit, problem, typed={name: slots})
    return visit.go(AT, said=f"{name} has {slots} slots from the next grant on." if slots else "All is as it was.")


async def _page(visit: Visit, problem: ApiProblem | None = None, *, typed: dict[str, str] | None = None) -> Response:
    found = await visit.api.get("/v1/admin/queue")
    lately = (await visit.api.get("/v1/admin/queue/lately"))["items"]
    accounts = sorted(found["accounts"], key=lambda each: str(each["name"]))
    # A line each at the end: the last hour would stand a screen further down.
    idle = [each for each in accounts if not (each["in_use"] or each["lanes"] or each["down_since"])]
    return visit.page(
        "Operators",
        pages(""),
        banner(problem) if problem else None,
        h.div(".lead")[h.span["As of ", moment(found["at"])], h.span(".actions")[link("Look again", AT, kind="quiet")]],
        [_account(visit, each, (typed or {}).get(each["name"])) for each in accounts if each not in idle],
        None
        if accounts
        else empty("There are no accounts", "A provider has one once its block is there: darkroom up makes fal's."),
        card(_lately(lately), title="The last hour"),
        idle and card(_idle(visit, idle, typed or {}), title="Idle accounts"),
        status=problem.status if problem else 200,
    )


def _account(visit: Visit, account: Any, typed: str | None) -> Node:
    used, slots = account["in_use"], account["slots_now"]
    full = f"{used} of {slots} slots in use"
    halved = f"halved {account['halvings']}×, last " if account["halvings"] else None
    return card(
        _down(account),
        h.div(".meter")[h.p[full], bar(used, slots, label=full)],
        facts(
            {
                "Set": f"{account['slots']} slots",
                "Throttle": halved and [halved, moment(account["slowed_at"])],
                "Waiting": str(sum(each["waiting"] for each in account["lanes"])),
            }
        ),
        [_lane(each) for each in account["lanes"]],
        _held(account),
        visit.form(
            f"{AT}/accounts/{account['name']}",
            number("Slots", "slots", account["slots"] if typed is None else typed, required=True),
            submit="Change",
            kind="quiet",
            class_="inline",
        ),
        title=account["name"],
    )


def _idle(visit: Visit, accounts: Any, typed: dict[str, str]) -> Node:
    """Return the accounts in which nothing is under way, a line each."""
    rows: list[list[Node]] = []
    for each in accounts:
        name, slots = each["name"], typed.get(each["name"], str(each["slots"]))
        # For who hears the page: the heading of a column is no label of the fields in it.
        entered = h.input(name="slots", value=slots, inputmode="decimal", required=True, aria_label=f"Slots of {name}")
        form = visit.form(f"{AT}/accounts/{name}", entered, submit="Change", kind="quiet.small")
        throttled = f"{each['slots_now']} for now" if each["slots_now"] != each["slots"] else None
        rows.append([name, form, throttled])
    return table(["Account", "Slots", "Throttle"], rows, caption="Accounts in which nothing is under way")


def _down(account: Any) -> Node:
    if not account["down_since"]:
        return None
    return h.div(".banner")[
        h.p(".banner-title")["The provider is out"],
        h.p["Since ", moment(account["down_since"]), ". ", said(account["down_reason"] or "")],
        h.p["It is tried again: ", moment(account["probe_at"]), f" ({account['failed_probes']} tries so far)."],
    ]


def _lane(lane: Any) -> Node:
    # Of many thousand users the API names those whose turns come first.
    rest = lane["users"] - len(lane["first"])
    return [
        h.h3[
            f"{lane['lane'].capitalize()}: {lane['waiting']:,} calls of {lane['users']:,} users ",
            h.span(".quiet-text")[LANES.get(lane["lane"])],
        ],
        table(
            ["Turn", "User", "Plan", "Weight", "Waiting", "Oldest", "Slots held"],
            [
                [
                    str(place),
                    h.a(href=f"{AT}/users/{each['user_id']}")[said(each["user"], most=LONGEST_NAME)],
                    said(each["plan"], most=40),
                    plain(each["weight"]),
                    f"{each['waiting']:,}",
                    moment(each["since"]),
                    [f"{each['held']} of {each['most']} ", each["held"] >= each["most"] and badge("all in use")],
                ]
                for place, each in enumerate(lane["first"], 1)
            ],
            caption=f"Who waits in the lane {lane['lane']}, in the order of their turns",
        ),
        rest > 0 and h.p(".quiet-text")[f"… and {rest:,} users behind them."],
    ]


def _lately(waited: Any) -> Node:
    if not waited:
        return h.p(".quiet-text")["Nobody has waited for a slot."]
    return table(
        ["User", "Account", "Lane", "Granted", "Still waiting", "Waited, mean", "Longest", "Served meanwhile"],
        [
            [
                h.a(href=f"{AT}/users/{each['user_id']}")[said(each["user"], most=LONGEST_NAME)],
                each["account"],
                each["lane"],
                f"{each['granted']:,}",
                f"{each['waiting']:,}",
                _long(each["mean_seconds"]),
                _long(each["longest_seconds"]),
                [
                    (h.div[said(other["name"], most=40), f": {_slots(other['slots'])}"] for other in each["served"]),
                    not each["served"] and "nobody else",
                ],
            ]
            for each in waited
        ],
        caption="Who has waited within the last hour, the longest first, and who got slots meanwhile",
    )


def _slots(count: int) -> str:
    return "1 slot" if count == 1 else f"{count:,} slots"


def _long(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.0f} min"


def _held(account: Any) -> Node:
    if not account["in_use"]:
        return None
    caps = account["endpoint_caps"]
    rows: list[list[Node]] = [
        [each["key"], str(each["slots"]), str(caps.get(each["key"], "–"))] for each in account["endpoints"]
    ]
    rows += [[said(each["name"], most=LONGEST_NAME), str(each["slots"]), "–"] for each in account["users"]]
    return table(["Model or user", "Slots", "Cap"], rows, caption=f"What the slots of {account['name']} are used for")
