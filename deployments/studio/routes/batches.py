"""Batches: a manifest is ordered, its drafts come onto a wall, winners are chosen there, and the finals follow.

Everything is a form first. `static/wall.js` adds clicks, keys and ranges to the choice; without it drafts are ticked
page by page, and what was ticked on the other pages stays as numbers in the text.
"""

from __future__ import annotations

from asyncio import gather
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

import htpy as h
from fastapi import APIRouter, Query, Response
from htpy import Node
from starlette.datastructures import FormData

from darkroom.deployments.studio import batch_parts as parts
from darkroom.deployments.studio import manifest_form
from darkroom.deployments.studio.api import ApiProblem
from darkroom.deployments.studio.batch_parts import AT, ENDED, TILES_OF_A_PAGE
from darkroom.deployments.studio.hidden import as_ordered
from darkroom.deployments.studio.parts import banner, card, empty, further, link
from darkroom.deployments.studio.screens import Screen
from darkroom.deployments.studio.static_files import PREFIX, address
from darkroom.deployments.studio.visit import FormOf, Visit, VisitOf

router = APIRouter()
SCREEN = Screen("Batches", "/batches", router)

KIND = "render-batch"
BATCHES_OF_A_PAGE = 12  # each is asked for by itself, once more
OVERLAP = timedelta(seconds=5)  # rows end in transactions that commit in any order
Stage = Annotated[str, Query(pattern="^(draft|final)$")]


@router.get("")
async def batches(visit: VisitOf, cursor: str = "") -> Response:
    """Show the newest batches, and the way to the older ones."""
    rows = await _rows(visit, cursor)
    new = h.p[link("New batch", f"{AT}/new")] if "orders" in visit.scopes else None
    hint = "Hundreds of pictures as cheap drafts first; you choose, and only the winners are rendered in full."
    if rows is None:
        return visit.page("Batches", empty("No batches yet", hint, new))
    return visit.page("Batches", new, h.ul(".rows")[rows])


@router.get("/rows")
async def more(visit: VisitOf, cursor: str = "") -> Response:
    return visit.part(await _rows(visit, cursor))


@router.get("/rows/{id}")
async def row(id: str, visit: VisitOf) -> Response:
    """Show one row, as it is now."""
    return visit.part(parts.batch_row(await _batch(visit, id)))


@router.get("/new")
async def new(visit: VisitOf) -> Response:
    return await _new(visit, manifest_form.EMPTY)


@router.get("/{id}/again")
async def again(id: str, visit: VisitOf) -> Response:
    """Show the form of a batch, filled in as it was ordered."""
    job, found = await gather(_batch(visit, id), visit.api.get(f"/v1/batches/{id}/manifest"))
    filled = manifest_form.again(job, found["rows"])
    return await _new(visit, filled, said=as_ordered(filled.lacking))


@router.post("/new")
async def order(visit: VisitOf, form: FormOf) -> Response:
    """Order the batch, or show the form again with what is wrong."""
    entered = manifest_form.EMPTY
    try:
        entered = await manifest_form.filled(form)
        key = {"Idempotency-Key": entered.given["key"]} if entered.given.get("key") else {}
        made = await visit.api.post("/v1/batches", entered.body(), headers=key)
    except ApiProblem as problem:
        # Where the file could not be read, nothing of the form has been.
        return await _new(visit, entered if entered.given else _as_text(form), manifest_form.refusal(problem), 422)
    said = " ".join(["It is on record: drafts come first.", *entered.notes, *made["warnings"]])
    return visit.go(f"{AT}/{made['job_id']}", said=said)


@router.post("/new/quote")
async def quote(visit: VisitOf, form: FormOf) -> Response:
    """Show what the batch would cost, or what is wrong with it, line by line."""
    entered = manifest_form.EMPTY
    try:
        entered = await manifest_form.filled(form)
        body = entered.body()
        shown = manifest_form.price(await _quoted(visit, body), entered.notes) if entered.has_rows else None
    except ApiProblem as problem:
        shown = manifest_form.refusal(problem)
    if visit.by_htmx:
        return visit.part(shown)
    return await _new(visit, entered if entered.given else _as_text(form), shown)


@router.get("/{id}")
async def batch(id: str, visit: VisitOf, cursor: str = "") -> Response:
    return await _page(visit, id, cursor=cursor)


@router.get("/{id}/head")
async def head(id: str, visit: VisitOf, phase: str = "") -> Response:
    """Show how far it is. Where it is time for another page than the one that asks, that is loaded."""
    found = await _batch(visit, id)
    if parts.phase_of(found) != phase:
        return Response(status_code=204, headers={"HX-Refresh": "true"})
    confirm = phase == "choice" and parts.confirm(found, fresh=True)
    return visit.part(parts.head(found), parts.state(found, fresh=True), confirm)


@router.get("/{id}/wall")
async def wall(id: str, visit: VisitOf, stage: Stage, cursor: str = "", choice: str = "") -> Response:
    """Show the next tiles of a wall."""
    found = await _children(visit, id, stage, cursor)
    # What is chosen `wall.js` knows by the text, and ticks it.
    if choice:
        return visit.part(parts.tiles(id, found, stage, chosen=parts.NONE))
    marks = _marks(visit, await _batch(visit, id))
    return visit.part(parts.tiles(id, found, stage, chosen=None, **marks))


@router.get("/{id}/fresh")
async def fresh(id: str, visit: VisitOf, stage: Stage, since: str) -> Response:
    """Show the tiles of the rows that have ended since then, in the place of what the page has of them."""
    # The time first: what ends while the rows are read is fetched with the next news.
    now, job = _a_little_ago(), await _batch(visit, id)
    ended, cursor = list[Any](), ""
    # To the last page: the next news asks for what has ended from now on.
    while cursor is not None:
        found = await _children(visit, id, stage, cursor, finished_since=since)
        ended, cursor = [*ended, *found["items"]], found["next"]
    choosing = parts.phase_of(job) == "choice" and "orders" in visit.scopes
    marks = {} if choosing else _marks(visit, job)
    swapped = (parts.tile(each, chosen=parts.NONE if choosing else None, fresh=True, **marks) for each in ended)
    return visit.part(parts.wall_news(job, stage, since=now), swapped)


@router.post("/{id}/choice")
async def choice(id: str, visit: VisitOf, form: FormOf) -> Response:
    """Show the choice with its price, on the page of the wall that was asked for: how it goes without scripts."""
    return await _page(visit, id, cursor=str(form.get("cursor") or ""), numbers=_numbers(form))


@router.post("/{id}/selection/quote")
async def quote_choice(id: str, visit: VisitOf, form: FormOf) -> Response:
    return visit.part(await _priced(visit, id, _numbers(form)))


@router.post("/{id}/selection")
async def select(id: str, visit: VisitOf, form: FormOf) -> Response:
    """Make the choice, or show it again with why it was not taken."""
    numbers = _numbers(form)
    try:
        await visit.api.post(f"/v1/batches/{id}/selection", {"numbers": numbers})
    except ApiProblem as problem:
        return await _page(visit, id, numbers=numbers, problem=problem)
    return visit.go(f"{AT}/{id}", said="Chosen: the finals are being rendered.")


@router.post("/{id}/pause")
async def pause(id: str, visit: VisitOf) -> Response:
    await visit.api.post(f"/v1/batches/{id}/pause")
    return visit.go(f"{AT}/{id}", said="It is paused: what is at the provider comes to its end, and no more is begun.")


@router.post("/{id}/resume")
async def resume(id: str, visit: VisitOf) -> Response:
    await visit.api.post(f"/v1/batches/{id}/resume")
    return visit.go(f"{AT}/{id}", said="It goes on.")


@router.post("/{id}/cancel")
async def cancel(id: str, visit: VisitOf) -> Response:
    await visit.api.post(f"/v1/jobs/{id}/cancel")
    return visit.go(f"{AT}/{id}", said="It is being cancelled.")


@router.post("/{id}/replay")
async def replay(id: str, visit: VisitOf) -> Response:
    await visit.api.post(f"/v1/jobs/{id}/replay")
    return visit.go(f"{AT}/{id}", said="The rows that failed are tried again; what has come is not paid again.")


async def _batch(visit: Visit, id: str) -> Any:
    """Return the batch. Raise ApiProblem for another kind of job, as for one that is not there."""
    found = await visit.api.get(f"/v1/jobs/{id}")
    if found["kind"] != KIND or found["batch"] is None:
        missing = {"title": "Not found", "detail": "You have no batch of this id.", "remedy": "Choose one of the list."}
        raise ApiProblem(404, missing)
    return found


async def _rows(visit: Visit, cursor: str) -> Node:
    """Return a page of the list; None where there is nothing."""
    found = await visit.api.get("/v1/jobs", limit=BATCHES_OF_A_PAGE, kind=KIND, cursor=cursor)
    # Lists do not tell how far a pass is: each batch is asked for.
    jobs = await gather(*(visit.api.get(f"/v1/jobs/{each['id']}") for each in found["items"]))
    if not jobs:
        return None
    query = urlencode({"cursor": found["next"] or ""})
    older = found["next"] and further("Show older batches", f"{AT}?{query}", f"{AT}/rows?{query}")
    return [[parts.batch_row(each) for each in jobs if each["batch"]], older]


async def _new(
    visit: Visit, entered: manifest_form.Filled, shown: Node = None, status: int = 200, said: str | None = None
) -> Response:
    # A page of them, for the fields to offer: any other can be typed.
    models = await visit.api.get("/v1/models", category="text-to-image", limit=200)
    asked = {"hx_post": f"{AT}/new/quote", "hx_encoding": "multipart/form-data", "hx_target": "#cost"}
    button = h.button(".button.quiet", type="submit", formaction=f"{AT}/new/quote", **asked)["Show the price"]
    live = {
        "hx_include": "closest form",
        # A form that came filled in has its price at once; an empty one has none.
        "hx_trigger": f"{'load, ' if said else ''}change from:closest form delay:400ms",
        "hx_sync": "this:replace",  # else the price of the rows before may come last
    }
    cost = h.div("#cost", aria_live="polite", **asked, **live)[shown]
    fields = [manifest_form.form_fields(entered, models), cost, button]
    form = visit.form(f"{AT}/new", fields, submit="Order the drafts", enctype="multipart/form-data", class_="stack")
    back = h.p[h.a(href=AT)["← All batches"]]
    return visit.page("New batch", back, said and h.p(".waiting")[said], card(form), status=status)


def _as_text(form: FormData) -> manifest_form.Filled:
    """Return what was filled in beside a file that is no text."""
    return manifest_form.Filled(given={name: value for name, value in form.items() if isinstance(value, str)})


async def _quoted(visit: Visit, body: dict[str, Any]) -> Any:
    return await visit.api.post("/v1/quotes", {"kind": KIND, "order": body})


async def _children(visit: Visit, id: str, stage: str, cursor: str = "", **more: str) -> Any:
    """Return a page of a pass."""
    path = f"/v1/jobs/{id}/children"
    return await visit.api.get(path, stage=stage, cursor=cursor, limit=TILES_OF_A_PAGE, **more)


async def _page(
    visit: Visit, id: str, *, cursor: str = "", numbers: str = "", problem: ApiProblem | None = None
) -> Response:
    """Show a batch: its drafts to choose from, then its finals above them. `numbers`: of a choice under way."""
    job = await _batch(visit, id)
    walls = _choice if parts.phase_of(job) == "choice" else _walls
    script = h.script(src=address("wall.js"), defer=True) if walls is _choice else None
    return visit.page(
        parts.name_of(job),
        h.p[h.a(href=AT)["← All batches"]],
        h.div(".lead")[parts.state(job), h.code[id], _actions(visit, job)],
        banner(problem) if problem else None,
        parts.head(job),
        parts.trail(job),
        await walls(visit, job, cursor, numbers),
        script,
        status=problem.status if problem else 200,
    )


async def _choice(visit: Visit, job: Any, cursor: str, numbers: str) -> Node:
    """Return the wall of the drafts, to choose from for who may order."""
    # The time first, as in `fresh`.
    since, found = _a_little_ago(), await _children(visit, job["id"], "draft", cursor)
    news = parts.wall_news(job, "draft", since=since)
    if "orders" not in visit.scopes:
        return [news, h.ul(".wall")[parts.tiles(job["id"], found, "draft", chosen=None)]]
    kept, ticked = parts.apart(numbers, found, rows=job["batch"]["rows"])
    priced = await _priced(visit, job["id"], numbers)
    return [
        news,
        h.form(
            "#choice.stack", method="post", action=f"{AT}/{job['id']}/selection", data_rows=str(job["batch"]["rows"])
        )[
            h.input(type="hidden", name="csrf", value=visit.csrf),
            parts.choice_bar(job, numbers=kept, priced=priced),
            h.ul(".wall", aria_label="Drafts")[parts.tiles(job["id"], found, "draft", chosen=ticked)],
        ],
    ]


async def _walls(visit: Visit, job: Any, cursor: str, _: str) -> Node:
    """Return the walls of what was chosen already: finals first."""
    shown = []
    # A cursor begins with the pass that it is of: the other wall stays at its beginning.
    for stage in ("final", "draft"):
        # The time first, as in `fresh`.
        since, at = _a_little_ago(), cursor if cursor.startswith(stage) else ""
        found = await _children(visit, job["id"], stage, at)
        if found["items"]:
            news = None if job["status"] in ENDED else parts.wall_news(job, stage, since=since)
            tiles = parts.tiles(job["id"], found, stage, chosen=None, **_marks(visit, job))
            shown.append([h.h2[parts.PASSES[stage]], news, h.ul(".wall")[tiles]])
    return shown


def _marks(visit: Visit, job: Any) -> dict[str, Any]:
    """Return what tiles have on them once the choice is made."""
    return {"winners": parts.winners_of(job), "again": "orders" in visit.scopes}


async def _priced(visit: Visit, id: str, numbers: str) -> Node:
    if not numbers.strip():
        return h.span["Nothing is chosen yet."]
    try:
        return parts.quote_view(await visit.api.post(f"/v1/batches/{id}/selection/quote", {"numbers": numbers}))
    except ApiProblem as problem:
        return parts.refused(problem)


def _numbers(form: FormData) -> str:
    """Return the choice: what is written, and what is ticked."""
    # With scripts the text has all of it, and boxes have no name.
    given = [form.get("numbers"), *form.getlist("row")]
    return ", ".join(each.strip() for each in given if isinstance(each, str) and each.strip())


def _a_little_ago() -> str:
    return (datetime.now(UTC) - OVERLAP).isoformat()


def _actions(visit: Visit, job: Any) -> Node:
    """Return the forms of what can be done with the batch as it is, for who may do it."""
    at, ended, paused = f"{AT}/{job['id']}", job["status"] in ENDED, job["batch"]["paused_at"]
    passes = [each for each in (job["batch"]["draft"], job["batch"]["final"]) if each]
    # A batch is completed, too, where some of its rows have failed.
    failed = ended and (job["status"] != "completed" or any(each["failed"] for each in passes))
    can = {
        "pause": ("Pause", "quiet", not ended and not paused),
        "resume": ("Resume", "", not ended and paused),
        "cancel": ("Cancel", "danger", not ended),
        "replay": ("Try what failed again", "", failed),
    }
    shown = [(name, label, kind) for name, (label, kind, possible) in can.items() if possible]
    forms = [visit.form(f"{at}/{name}", submit=label, kind=kind) for name, label, kind in shown]
    return h.div(".actions")[
        (forms, link("Again, with a change", f"{at}/again", kind="quiet")) if "orders" in visit.scopes else None,
        link("On record", f"{PREFIX}/jobs/{job['id']}", kind="quiet"),
    ]
