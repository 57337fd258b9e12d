"""Users: found by name, added, put on a plan, and their keys made, shown once and ended."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import htpy as h
from fastapi import APIRouter, Response
from htpy import Node
from starlette.datastructures import FormData

from darkroom.deployments.studio.api import ApiProblem
from darkroom.deployments.studio.money_parts import keys_table, older, shown_once
from darkroom.deployments.studio.parts import banner, button, card, choice, empty, facts, field, link, moment, said
from darkroom.deployments.studio.routes.operators.tabs import AT, number, pages, scopes_field, text
from darkroom.deployments.studio.visit import FormOf, Visit, VisitOf

router = APIRouter(prefix="/users")

USERS = f"{AT}/users"
USUAL = ["orders", "read"]
BUDGETS = {"daily_budget_usd": "USD a day", "monthly_budget_usd": "USD a month"}
NEW_KEY = "Copy it now: it is kept nowhere, and nobody can show it again."


@router.get("")
async def users(visit: VisitOf, q: str = "", cursor: str = "") -> Response:
    return await _list(visit, q=q, cursor=cursor)


@router.post("")
async def add(visit: VisitOf, form: FormOf) -> Response:
    """Add a user, and show their first key."""
    order = {
        "name": text(form, "name"),
        "plan": text(form, "plan"),
        "service": bool(form.get("service")),
        "scopes": form.getlist("scopes"),
    }
    try:
        made = await visit.api.post("/v1/admin/users", order)
    except ApiProblem as problem:
        return await _list(visit, problem=problem, typed=form)
    return _with_key(visit, made["key"], user=made["name"], id=made["id"])


@router.get("/{id}")
async def user(id: str, visit: VisitOf) -> Response:
    return await _user(visit, id)


@router.post("/{id}/plan")
async def plan(id: str, visit: VisitOf, form: FormOf) -> Response:
    chosen = text(form, "plan")
    await visit.api.post(f"/v1/admin/users/{quote(id, safe='')}/plan", {"plan": chosen})
    return visit.go(f"{USERS}/{id}", said=f"On the plan {chosen}, from the next grant on.")


@router.post("/{id}/budgets")
async def budgets(id: str, visit: VisitOf, form: FormOf) -> Response:
    """Give a user budgets of their own; an empty one is the plan's again."""
    given = {name: text(form, name) or None for name in BUDGETS}
    try:
        await visit.api.post(f"/v1/admin/users/{quote(id, safe='')}/budgets", given)
    except ApiProblem as problem:
        return await _user(visit, id, problem=problem, budgets={name: text(form, name) for name in BUDGETS})
    return visit.go(f"{USERS}/{id}", said="The budgets hold from the next grant on.")


@router.post("/{id}/keys")
async def make_key(id: str, visit: VisitOf, form: FormOf) -> Response:
    """Make one more key, and show it."""
    day = text(form, "expires_at")
    order = {
        "user": id,
        "name": text(form, "name"),
        "scopes": form.getlist("scopes"),
        "expires_at": f"{day}T00:00:00Z" if day else None,
    }
    try:
        made = await visit.api.post("/v1/admin/keys", order)
    except ApiProblem as problem:
        return await _user(visit, id, problem=problem, typed=form)
    return _with_key(visit, made["key"], user=made["name"], id=id)


@router.post("/{id}/keys/{key}/revoke")
async def revoke_key(id: str, key: str, visit: VisitOf) -> Response:
    await visit.api.post(f"/v1/admin/keys/{quote(key, safe='')}/revoke")
    return visit.go(f"{USERS}/{id}", said="The key has ended, and its sessions with it.")


@router.post("/{id}/revoke")
async def revoke(id: str, visit: VisitOf) -> Response:
    await visit.api.post(f"/v1/admin/users/{quote(id, safe='')}/revoke")
    return visit.go(f"{USERS}/{id}", said="All keys of this user have ended. What was ordered goes on.")


def _with_key(visit: Visit, key: str, *, user: str, id: str) -> Response:
    # In this very answer: it is kept nowhere from where another page could show it.
    on = h.p[link("I have copied it", f"{USERS}/{id}")]
    return visit.page("Operators", pages("/users"), shown_once(f"The key: {user}", key, hint=NEW_KEY, on=on))


async def _list(
    visit: Visit, *, q: str = "", cursor: str = "", problem: ApiProblem | None = None, typed: FormData | None = None
) -> Response:
    found = await visit.api.get("/v1/admin/users", q=q.strip(), cursor=cursor, limit=50)
    plans = await _plans(visit)
    search = h.input(type="search", name="q", value=q, maxlength="200", dir="auto")
    return visit.page(
        "Operators",
        pages("/users"),
        banner(problem) if problem else None,
        h.form(".filter.one", method="get", action=USERS, role="search")[
            field("Part of the name", search), button("Find", kind="quiet")
        ],
        h.ul(".rows")[(_row(each) for each in found["items"])]
        if found["items"]
        else empty("Nobody is called that", "Try fewer letters.", link("Show all", USERS, kind="quiet")),
        older(f"{USERS}?{urlencode({'q': q})}" if q else USERS, found["next"]),
        card(_new_user(visit, plans, typed or FormData()), title="Add a user"),
        status=problem.status if problem else 200,
    )


def _row(user: Any) -> Node:
    keys = len(user["keys"])
    return h.li(".row.plain")[
        h.div(".row-text")[
            h.a(".row-title", href=f"{USERS}/{user['id']}", dir="auto")[user["name"]],
            h.p(".row-facts")[
                h.span[f"plan {user['plan']}"],
                h.span[f"{keys} open key{'' if keys == 1 else 's'}"],
                user["service_user_id"] and h.span["end user of a service"],
                moment(user["created_at"]),
            ],
        ]
    ]


def _new_user(visit: Visit, plans: dict[str, str], typed: FormData) -> Node:
    name = h.input(
        name="name", required=True, maxlength="200", value=text(typed, "name"), dir="auto", autocomplete="off"
    )
    return visit.form(
        USERS,
        field("Name", name),
        field("Plan", choice("plan", plans, text(typed, "plan") or "pro")),
        # In a form that has come back no tick is what somebody chose.
        scopes_field([str(each) for each in typed.getlist("scopes")] if typed else USUAL),
        h.label[
            h.input(type="checkbox", name="service", value="yes", checked=bool(typed.get("service"))),
            " A service: it acts for end users of its own",
        ],
        submit="Add",
        class_="stacked",
    )


async def _user(
    visit: Visit,
    id: str,
    *,
    problem: ApiProblem | None = None,
    typed: FormData | None = None,
    budgets: dict[str, str] | None = None,
) -> Response:
    """Show a user. `typed`, `budgets`: what was in the forms that the API refused."""
    found = await visit.api.get(f"/v1/admin/users/{quote(id, safe='')}")
    keys = await visit.api.get("/v1/admin/keys", user=found["id"], limit=100)
    at = f"{USERS}/{found['id']}"
    plan = choice("plan", await _plans(visit), found["plan"])
    return visit.page(
        "Operators",
        pages("/users"),
        banner(problem) if problem else None,
        h.p[h.a(href=USERS)["← All users"]],
        card(
            facts({"Since": moment(found["created_at"]), "Id": h.code[found["id"]], "Of the service": _service(found)}),
            visit.form(f"{at}/plan", field("Plan", plan), submit="Change", kind="quiet", class_="inline"),
            _budgets(visit, at, found | (budgets or {})),
            title=found["name"],
        ),
        card(
            keys_table(keys["items"], caption="Keys of this user", revoke=lambda key: _revoke(visit, at, key))
            if keys["items"]
            else empty("No key", "Without one nobody signs in or orders. Make one below."),
            found["keys"] and visit.form(f"{at}/revoke", submit="End all keys", kind="danger"),
            title="Keys",
        ),
        card(_new_key(visit, at, typed or FormData()), title="Make a key"),
        status=problem.status if problem else 200,
    )


def _budgets(visit: Visit, at: str, given: Any) -> Node:
    return visit.form(
        f"{at}/budgets",
        (number(label, name, given[name], hint="Empty: the plan's.") for name, label in BUDGETS.items()),
        submit="Change budgets",
        kind="quiet",
        class_="inline",
    )


def _service(user: Any) -> Node:
    service = user["service_user_id"]
    return service and h.a(href=f"{USERS}/{service}")[service]


def _revoke(visit: Visit, at: str, key: Any) -> Node:
    name = key["name"] or "the first key"
    # For who hears the table: the button is called the same in every row.
    return visit.form(f"{at}/keys/{key['id']}/revoke", h.span(".unseen")[said(name)], submit="End", kind="danger.small")


def _new_key(visit: Visit, at: str, typed: FormData) -> Node:
    name = h.input(
        name="name", required=True, maxlength="100", value=text(typed, "name"), dir="auto", autocomplete="off"
    )
    until = h.input(type="date", name="expires_at", value=text(typed, "expires_at"))
    return visit.form(
        f"{at}/keys",
        field("What it is for", name, hint="For instance: nightly report"),
        scopes_field([str(each) for each in typed.getlist("scopes")] if typed else USUAL),
        field("Until", until, hint="Empty: for good. It ends at midnight, UTC."),
        submit="Make the key",
        class_="stacked",
    )


async def _plans(visit: Visit) -> dict[str, str]:
    return {each["name"]: each["name"] for each in (await visit.api.get("/v1/admin/plans"))["items"]}
