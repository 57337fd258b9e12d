"""Watch: jobs as they happen, and one job as the provider, the queue and its run saw it.

The list is a page of the API's own and goes on by its cursor. A row is fetched anew when the stream tells something of
its job; a new job is put on top where nothing is filtered.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import htpy as h
from fastapi import APIRouter, Response
from htpy import Node

from darkroom.deployments.studio.job_parts import job_row, job_view, ordered
from darkroom.deployments.studio.parts import MOST_SHOWN, button, choice, empty, field, further, link
from darkroom.deployments.studio.screens import Screen
from darkroom.deployments.studio.static_files import PREFIX
from darkroom.deployments.studio.visit import Visit, VisitOf

router = APIRouter()
SCREEN = Screen("Watch", "/jobs", router)

AT = f"{PREFIX}{SCREEN.path}"
JOBS_OF_A_PAGE = 30
STATUSES = {
    "": "All",
    "pending": "Pending",
    "running": "Running",
    "completed": "Completed",
    "failed": "Failed",
    "cancelled": "Cancelled",
}


@router.get("")
async def watch(visit: VisitOf, status: str = "", q: str = "", cursor: str = "") -> Response:
    """Show the newest jobs, and the way to the older ones."""
    found = await _jobs(visit, status=status, q=q, cursor=cursor)
    # Whether a new job is one of those that are asked for, the page cannot tell, and on top of older ones it has no
    # place. No news makes such a list longer.
    newcomers = None if status or q or cursor else f"{AT}/rows/"
    rows = h.ul("#jobs.rows", data_newcomers=newcomers, data_most=newcomers and str(MOST_SHOWN))[
        _rows(found, status=status, q=q)
    ]
    # The list also where it is empty: newcomers are put into it.
    return visit.page(
        "Watch", _filter(status, q), rows if found["items"] else [rows, _nothing(filtered=bool(status or q or cursor))]
    )


@router.get("/rows")
async def more(visit: VisitOf, status: str = "", q: str = "", cursor: str = "") -> Response:
    return visit.part(_rows(await _jobs(visit, status=status, q=q, cursor=cursor), status=status, q=q))


@router.get("/rows/{id}")
async def row(id: str, visit: VisitOf) -> Response:
    """Show one row, as it is now."""
    return visit.part(job_row(await visit.api.get(f"/v1/jobs/{id}"), AT))


@router.get("/{id}")
async def job(id: str, visit: VisitOf) -> Response:
    found = await visit.api.get(f"/v1/jobs/{id}")
    live = h.div("#job", data_news=id, hx_get=f"{AT}/{id}/view", hx_trigger="news", hx_sync="this:queue last")
    back = h.p[h.a(href=AT)["← All jobs"]]
    return visit.page(ordered(found, most=80), back, live[job_view(found, await _actions(visit, found))])


@router.get("/{id}/view")
async def view(id: str, visit: VisitOf) -> Response:
    """Show what is on the job's page, as it is now."""
    # With its actions: what has ended is cancelled no more, and may be replayed.
    found = await visit.api.get(f"/v1/jobs/{id}")
    return visit.part(job_view(found, await _actions(visit, found)))


@router.post("/{id}/cancel")
async def cancel(id: str, visit: VisitOf) -> Response:
    await visit.api.post(f"/v1/jobs/{id}/cancel")
    return visit.go(f"{AT}/{id}", said="It is being cancelled.")


@router.post("/{id}/replay")
async def replay(id: str, visit: VisitOf) -> Response:
    await visit.api.post(f"/v1/jobs/{id}/replay")
    return visit.go(f"{AT}/{id}", said="It is back at work; what has succeeded is not paid again.")


@router.post("/{id}/repeat")
async def repeat(id: str, visit: VisitOf) -> Response:
    made = await visit.api.post(f"/v1/jobs/{id}/repeat")
    return visit.go(f"{AT}/{made['job_id']}", said="Ordered again: this is the new job.")


async def _jobs(visit: Visit, *, status: str, q: str, cursor: str = "") -> Any:
    return await visit.api.get("/v1/jobs", limit=JOBS_OF_A_PAGE, status=status, q=q.strip(), cursor=cursor)


def _rows(found: Any, *, status: str, q: str) -> Node:
    following = found["next"]
    query = urlencode({name: value for name, value in (("status", status), ("q", q), ("cursor", following)) if value})
    older = following and further("Show older jobs", f"{AT}?{query}", f"{AT}/rows?{query}")
    return [(job_row(each, AT) for each in found["items"]), older]


def _filter(status: str, q: str) -> Node:
    # The bounds of the API, which refuses a single letter.
    text = h.input(type="search", name="q", value=q, minlength="2", maxlength="200", dir="auto")
    return h.form(".filter", method="get", action=AT, role="search")[
        field("Status", choice("status", STATUSES, status)),
        field("Text in the order", text),
        button("Filter", kind="quiet"),
    ]


def _nothing(*, filtered: bool) -> Node:
    if filtered:
        return empty("No job is like that", "Try another status, or fewer words.", link("Show all", AT, kind="quiet"))
    return empty(
        "No jobs yet", "What you order is shown here, as it happens.", link("Order something", f"{PREFIX}/order")
    )


async def _actions(visit: Visit, found: Any) -> Node:
    """Return the forms of what can be done with the job as it is, for who may do it; for operators also its run."""
    runs = (await visit.api.get("/v1/admin/runs", job=found["id"]))["items"] if "admin" in visit.scopes else []
    in_prefect = [link("Its run in Prefect", each["url"], kind="quiet") for each in runs if each["url"]]
    if "orders" not in visit.scopes:
        return in_prefect and h.div(".actions")[in_prefect]
    at, status, is_batch = f"{AT}/{found['id']}", found["status"], found["batch"] is not None
    can = {
        "cancel": ("Cancel", "danger", status in ("pending", "running")),
        "replay": ("Replay", "", status in ("failed", "cancelled")),
        # The API repeats no batch: that is ordered again by its form.
        "repeat": ("Order again", "quiet", not is_batch),
    }
    return h.div(".actions")[
        is_batch and link("Its drafts and finals", f"{PREFIX}/batches/{found['id']}"),
        link("Again, with a change", f"{PREFIX}/order/again/{found['id']}", kind="quiet"),
        (visit.form(f"{at}/{name}", submit=label, kind=kind) for name, (label, kind, shown) in can.items() if shown),
        in_prefect,
    ]
