"""Callbacks: where your application is told, the outcome of each delivery, and sending them again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import htpy as h
from fastapi import APIRouter, Response
from htpy import Node

from darkroom.deployments.studio.api import ApiProblem
from darkroom.deployments.studio.money_parts import may_order, older, shown_once
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
    said,
    table,
)
from darkroom.deployments.studio.routes.money.tabs import AT, pages
from darkroom.deployments.studio.static_files import PREFIX
from darkroom.deployments.studio.visit import FormOf, Visit, VisitOf

router = APIRouter(prefix="/callbacks")

CALLBACKS = f"{AT}/callbacks"
ENDPOINT = "/v1/callback-endpoint"
STATUSES = {"": "All", "pending": "Pending", "delivered": "Delivered", "dead": "Dead"}
NOT_FOUND = 404
SECRET = "Your application verifies signatures by it. Copy it now: nobody can show it again."


@router.get("")
async def callbacks(visit: VisitOf, status: str = "", cursor: str = "") -> Response:
    return await _page(visit, status=status, cursor=cursor)


@router.post("/endpoint")
async def put_endpoint(visit: VisitOf, form: FormOf) -> Response:
    """Set the address. The first time the secret is shown."""
    url, events = str(form.get("url", "")).strip(), str(form.get("events", "")).replace(",", " ").split()
    # Left out, events are those that the API takes by itself: the ends of jobs.
    order = {"url": url, "thin": bool(form.get("thin"))} | ({"events": events} if events else {})
    try:
        made = await visit.api.put(ENDPOINT, order)
    except ApiProblem as problem:
        return await _page(visit, problem=problem, typed={"off_at": None} | order | {"events": events})
    if made["secret"]:
        return _with_secret(visit, made["secret"])
    return visit.go(CALLBACKS, said="You are told there.")


@router.post("/rotate")
async def rotate(visit: VisitOf) -> Response:
    return _with_secret(visit, (await visit.api.post(f"{ENDPOINT}/rotate"))["secret"])


@router.post("/test")
async def test(visit: VisitOf) -> Response:
    await visit.api.post(f"{ENDPOINT}/test")
    return visit.go(CALLBACKS, said="A callback.test is on its way: look below what became of it.")


@router.post("/drop")
async def drop(visit: VisitOf) -> Response:
    await visit.api.delete(ENDPOINT)
    return visit.go(CALLBACKS, said="You are told no more.")


@router.post("/resend")
async def resend_dead(visit: VisitOf, form: FormOf) -> Response:
    """Send all that were given up since a day again."""
    day = str(form.get("since", ""))
    done = await visit.api.post("/v1/callbacks/resend", {"since": f"{day}T00:00:00Z"})
    return visit.go(CALLBACKS, said=f"{done['resent']:,} are sent again.")


@router.post("/{id}/resend")
async def resend(id: str, visit: VisitOf, form: FormOf) -> Response:
    await visit.api.post(f"/v1/callbacks/{quote(id, safe='')}/resend")
    # Back to the list as it was filtered. It is a form's word, and goes into an address.
    status = str(form.get("status", ""))
    return visit.go(f"{CALLBACKS}?status={status}" if status in STATUSES else CALLBACKS, said="It is sent again.")


def _with_secret(visit: Visit, secret: str) -> Response:
    # In this very answer: it is kept nowhere from where another page could show it.
    on = h.p[link("I have copied it", CALLBACKS)]
    return visit.page("Money", pages("/callbacks"), shown_once("The secret", secret, hint=SECRET, on=on))


async def _page(
    visit: Visit, *, status: str = "", cursor: str = "", problem: ApiProblem | None = None, typed: Any = None
) -> Response:
    found = await visit.api.get("/v1/callbacks", status=status, cursor=cursor, limit=30)
    endpoint = await _endpoint(visit)
    return visit.page(
        "Money",
        pages("/callbacks"),
        banner(problem) if problem else None,
        card(_where(visit, endpoint, typed), title="Where your application is told"),
        h.form(".filter.one", method="get", action=CALLBACKS)[
            field("Deliveries", choice("status", STATUSES, status)), button("Filter", kind="quiet")
        ],
        card(_table(visit, found["items"], status)) if found["items"] else _nothing(status),
        older(f"{CALLBACKS}?{urlencode({'status': status})}" if status else CALLBACKS, found["next"]),
        may_order(visit) and found["items"] and card(_all_dead(visit), title="Send all dead ones again"),
        status=problem.status if problem else 200,
    )


async def _endpoint(visit: Visit) -> Any:
    try:
        return await visit.api.get(ENDPOINT)
    except ApiProblem as problem:
        if problem.status == NOT_FOUND:  # none is set
            return None
        raise


def _where(visit: Visit, endpoint: Any, typed: Any) -> Node:
    return [
        endpoint is None
        and h.p["Nowhere yet. Give the address at which your application takes what happens to your jobs."],
        endpoint and _state(endpoint),
        may_order(visit) and _form(visit, typed or endpoint or {"url": "", "events": [], "thin": False}),
        may_order(visit)
        and endpoint
        and h.div(".actions")[
            visit.form(f"{CALLBACKS}/test", submit="Send a test", kind="quiet"),
            visit.form(f"{CALLBACKS}/rotate", submit="Make a new secret", kind="quiet"),
            visit.form(f"{CALLBACKS}/drop", submit="Be told no more", kind="danger"),
        ],
    ]


def _state(endpoint: Any) -> Node:
    off = endpoint["off_at"]
    return facts(
        {
            "State": badge("off" if off else "failing" if endpoint["failing_since"] else "ready"),
            "Failing since": moment(endpoint["failing_since"]),
            "Off since": moment(off),
            "Why": said(endpoint["off_reason"]) if endpoint["off_reason"] else None,
        }
    )


def _form(visit: Visit, given: Any) -> Node:
    url = h.input(type="url", name="url", value=given["url"], required=True, maxlength="2000", placeholder="https://")
    events = h.input(name="events", value=" ".join(given["events"]), autocomplete="off")
    return visit.form(
        f"{CALLBACKS}/endpoint",
        field("Address", url),
        field(
            "Events",
            events,
            hint="Empty: the ends of jobs. Or some of: job, job.created, asset.stored, budget.reached…",
        ),
        h.label[h.input(type="checkbox", name="thin", value="yes", checked=bool(given["thin"])), " Ids only"],
        submit="Save",
        class_="stacked",
    )


def _table(visit: Visit, found: Any, status: str) -> Node:
    return table(
        ["Event", "Job", "Status", "Tries", "Your application said", "Made", "Next try", "Again"],
        [
            [
                each["event"],
                each["job_id"] and h.a(href=f"{PREFIX}/jobs/{each['job_id']}")[h.code[each["job_id"]]],
                badge(each["status"]),
                str(each["attempts"]),
                _answer(each),
                moment(each["created_at"]),
                moment(each["next_at"]) or "–",
                # What is pending is sent again by itself.
                may_order(visit) and each["status"] != "pending" and _again(visit, each, status),
            ]
            for each in found
        ],
        caption="Deliveries, newest first",
    )


def _answer(callback: Any) -> Node:
    said_last = callback["last_error"] or callback["last_answer"] or ""
    return [str(callback["last_status"] or "–"), " ", said(said_last, most=80)]


def _again(visit: Visit, callback: Any, status: str) -> Node:
    return visit.form(
        f"{CALLBACKS}/{callback['id']}/resend",
        h.input(type="hidden", name="status", value=status),
        submit="Resend",
        kind="quiet.small",
    )


def _nothing(status: str) -> Node:
    if status:
        return empty("None is like that", "Choose another status.", link("Show all", CALLBACKS, kind="quiet"))
    return empty("Nothing was sent yet", "What your application is told is listed here, with what it answered.")


def _all_dead(visit: Visit) -> Node:
    first = datetime.now(UTC).date().replace(day=1).isoformat()
    since = h.input(type="date", name="since", value=first, required=True)
    return visit.form(
        f"{CALLBACKS}/resend", field("Given up since", since), submit="Resend", kind="quiet", class_="inline"
    )
