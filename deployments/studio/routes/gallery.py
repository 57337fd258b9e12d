"""Gallery: pictures, films, sound and 3D that were made, and those that were brought.

A page of the API's own, which goes on by its cursor: by itself as one scrolls, by a link where there are no scripts.
With news of files those are fetched that were stored since, and put on top.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

import htpy as h
from fastapi import APIRouter, Query, Response
from htpy import Node

from darkroom.deployments.studio.gallery_parts import (
    AT,
    asset_facts,
    described,
    download,
    edit,
    large,
    larger,
    parameters,
    tile,
    title_of,
)
from darkroom.deployments.studio.parts import MOST_SHOWN, button, card, choice, empty, field, further, link, said
from darkroom.deployments.studio.screens import Screen
from darkroom.deployments.studio.static_files import PREFIX
from darkroom.deployments.studio.visit import Visit, VisitOf

router = APIRouter()
SCREEN = Screen("Gallery", "/gallery", router)

FILES_OF_A_PAGE = 48
MOST_FRESH = 200  # that are put on top at once, a page of the API; where more have come, the page is loaded anew
OVERLAP = timedelta(seconds=5)  # files are stored in transactions that commit in any order
KINDS = {"": "All", "image": "Pictures", "video": "Films", "audio": "Sound", "other": "3D and other files"}


@router.get("")
async def gallery(
    visit: VisitOf, kind: str = "", tag: str = "", model: str = "", job: str = "", q: str = "", cursor: str = ""
) -> Response:
    """Show the newest files, and the way to the older ones."""
    # The time first: what is stored while the files are read is fetched with the next news.
    asked, since = _asked(kind=kind, tag=tag, model=model, job=job, q=q), _a_little_ago()
    found = await _files(visit, asked, cursor)
    news = None if cursor else _news(asked, found["items"], since=since, empty=not found["items"])
    if not found["items"]:
        return visit.page("Gallery", _filter(asked), news, _nothing(filtered=bool(asked)))
    wall = h.form(method="get", action=f"{AT}/compare")[
        h.div(".compare-bar")[
            h.span(".quiet-text")["Tick two to see them side by side."], button("Compare", kind="quiet")
        ],
        h.ul("#files.files", data_most=str(MOST_SHOWN))[_tiles(found, asked)],
    ]
    return visit.page("Gallery", _filter(asked), news, wall)


@router.get("/rows")
async def more(
    visit: VisitOf, kind: str = "", tag: str = "", model: str = "", job: str = "", q: str = "", cursor: str = ""
) -> Response:
    asked = _asked(kind=kind, tag=tag, model=model, job=job, q=q)
    return visit.part(_tiles(await _files(visit, asked, cursor), asked))


@router.get("/fresh")
async def fresh(
    visit: VisitOf,
    since: str,
    seen: Annotated[list[str] | None, Query()] = None,
    empty: str = "",
    kind: str = "",
    tag: str = "",
    model: str = "",
    job: str = "",
    q: str = "",
) -> Response:
    """Show the files that were stored since then, on top of those that the page has. `seen`: it has these already."""
    # The time first, as in `gallery`.
    asked, now = _asked(kind=kind, tag=tag, model=model, job=job, q=q), _a_little_ago()
    found = await visit.api.get("/v1/assets", limit=MOST_FRESH, since=since, **asked)
    new = [each for each in found["items"] if each["id"] not in (seen or ())]
    if new and (empty or found["next"]):  # a page that has no place for them
        return Response(status_code=204, headers={"HX-Refresh": "true"})
    tiles = h.ul(hx_swap_oob="afterbegin:#files")[(tile(each) for each in new)]
    return visit.part(_news(asked, found["items"], since=now, empty=bool(empty)), new and tiles)


@router.get("/compare")
async def compare(visit: VisitOf, id: Annotated[list[str] | None, Query()] = None) -> Response:
    """Show two files side by side, with all they were ordered by; what differs is marked."""
    back = h.p[h.a(href=AT)["← The gallery"]]
    if id is None or len(id) != 2:
        hint = f"You have ticked {len(id or [])}. Go back, and tick two."
        return visit.page("Compare", back, empty("Two are compared", hint, link("The gallery", AT, kind="quiet")))
    assets = [await _file(visit, each) for each in id]
    orders = [parameters(await _order(visit, each)) | _told(each) for each in assets]
    columns = (_column(asset, own, other) for asset, own, other in zip(assets, orders, reversed(orders), strict=True))
    return visit.page("Compare", back, h.div(".side-by-side")[columns])


@router.get("/{id}")
async def one(visit: VisitOf, id: str) -> Response:
    """Show one file, what it was ordered by, and what can be done with it."""
    asset = await _file(visit, id)
    order = parameters(await _order(visit, asset))
    return visit.page(
        title_of(asset),
        h.p[h.a(href=AT)["← The gallery"]],
        h.div(".one-file")[
            h.div(".view")[large(asset)],
            h.div(".beside")[
                h.div(".actions")[_actions(visit, asset)],
                card(asset_facts(asset)),
                order and card(_list(order, {}), title="What ordered it"),
                asset["url"] and card(_link(asset), title="Link"),
                _deletion(visit, asset),
            ],
        ],
    )


@router.post("/{id}/delete")
async def delete(visit: VisitOf, id: str) -> Response:
    await visit.api.delete(f"/v1/assets/{id}")
    return visit.go(AT, said="The file is deleted.")


def _news(asked: Mapping[str, str], shown: Sequence[Any], *, since: datetime, empty: bool) -> Node:
    """Return what hears of files, and fetches those stored since. `shown`: what the page has of them."""
    # Of the overlap the page has some already.
    seen = [each["id"] for each in shown if datetime.fromisoformat(each["created_at"]) >= since]
    given = {**asked, "since": since.isoformat(), "seen": seen, "empty": "1" if empty else ""}
    at = f"{AT}/fresh?{urlencode(given, doseq=True)}"
    live = {"hx_trigger": "news", "hx_swap": "outerHTML", "hx_sync": "this:queue last"}
    return h.div("#files-news", data_news="files", hx_get=at, **live)


def _a_little_ago() -> datetime:
    return datetime.now(UTC) - OVERLAP


def _asked(**given: str) -> dict[str, str]:
    return {name: value.strip() for name, value in given.items() if value.strip()}


async def _files(visit: Visit, asked: Mapping[str, str], cursor: str) -> Any:
    return await visit.api.get("/v1/assets", limit=FILES_OF_A_PAGE, cursor=cursor, **asked)


async def _file(visit: Visit, id: str) -> Any:
    return await visit.api.get(f"/v1/assets/{id}")


async def _order(visit: Visit, asset: Any) -> Any:
    return (await visit.api.get(f"/v1/jobs/{asset['job_id']}"))["order"] if asset["job_id"] else {}


def _tiles(found: Any, asked: Mapping[str, str]) -> Node:
    query = urlencode({**asked, "cursor": found["next"] or ""})
    older = found["next"] and further("Show older files", f"{AT}?{query}", f"{AT}/rows?{query}")
    return [(tile(each) for each in found["items"]), older]


def _filter(asked: Mapping[str, str]) -> Node:
    def text(name: str, **bounds: str) -> Node:
        return h.input(type="search", name=name, value=asked.get(name, ""), dir="auto", **bounds)

    return h.form(".filter.many", method="get", action=AT, role="search")[
        field("Kind", choice("kind", KINDS, asked.get("kind"))),
        field("Text in the prompt", text("q", minlength="2", maxlength="200")),
        field("Tag", text("tag", maxlength="100")),
        field("Model", text("model", maxlength="200")),
        "job" in asked and h.input(type="hidden", name="job", value=asked["job"]),
        button("Filter", kind="quiet"),
    ]


def _nothing(*, filtered: bool) -> Node:
    if filtered:
        return empty("No file is like that", "Try another kind, or fewer words.", link("Show all", AT, kind="quiet"))
    return empty("No files yet", "What your jobs make is shown here.", link("Order something", f"{PREFIX}/order"))


def _actions(visit: Visit, asset: Any) -> Node:
    """Return what can be done with the file, for who may do it."""
    kind, orders = asset["content_type"], "orders" in visit.scopes
    if asset["url"] is None:
        kind = "hidden"  # no order takes such a file
    return [
        download(asset),
        orders and kind.startswith("image/") and larger(asset),
        orders and kind.startswith(("image/", "video/")) and edit(asset),
        orders
        and asset["job_id"]
        and link("Again, with a change", f"{PREFIX}/order/again/{asset['job_id']}", kind="quiet"),
    ]


def _link(asset: Any) -> Node:
    return [
        h.div(".copied")[
            h.input(type="text", id="link", value=asset["url"], readonly=True, aria_label="Link to the file"),
            # Shown by the script that copies; without it the field is there to be copied from.
            h.button(".button.quiet", type="button", hidden=True, data_copies="link")["Copy link"],
        ],
        h.p(".hint")["It needs no key, and holds for an hour."],
    ]


def _deletion(visit: Visit, asset: Any) -> Node:
    if "orders" not in visit.scopes:
        return None
    # To open it is the question that goes before: nothing brings a file back.
    return h.details(".card.folded")[
        h.summary["Delete"],
        h.p["The file is removed for good. What was paid for it is not paid back."],
        visit.form(f"{AT}/{asset['id']}/delete", submit="Delete this file", kind="danger"),
    ]


def _column(asset: Any, own: Mapping[str, Any], other: Mapping[str, Any]) -> Node:
    return h.section(".card")[
        h.h2(dir="auto")[h.a(href=f"{AT}/{asset['id']}")[title_of(asset)]], large(asset), _list(own, other, marked=True)
    ]


def _told(asset: Any) -> dict[str, Any]:
    """Return what is compared of the files themselves."""
    # The rest are elements, which equal no other.
    return {name: value for name, value in described(asset).items() if isinstance(value, str)}


def _list(own: Mapping[str, Any], other: Mapping[str, Any], *, marked: bool = False) -> Node:
    """Show names and values; those that the other has otherwise are marked, and said to be."""
    rows = (
        h.div(class_={"differs": marked and other.get(name) != value})[
            h.dt[name.replace("_", " "), marked and other.get(name) != value and h.span(".unseen")[" (differs)"]],
            h.dd[said(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))],
        ]
        for name, value in own.items()
    )
    return h.dl(".parameters")[rows]
