"""A job as pages show it: its row in a list, and all that is on record of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import htpy as h
from htpy import Node

from darkroom.deployments.studio.parts import (
    as_json,
    badge,
    card,
    facts,
    link,
    local,
    moment,
    money,
    said,
    small_picture,
    table,
    thumbnail,
)
from darkroom.deployments.studio.static_files import PREFIX

LONGEST_LINE = 160
TEXTS = ("prompt", "text", "topic", "instruction", "name", "title")  # what tells best what was ordered


def ordered(job: Any, *, most: int = LONGEST_LINE) -> str:
    """Return what was ordered in some words: its prompt, another text of it, or the kind of job."""
    inside = job["order"].get("input")
    given = {**(inside if isinstance(inside, dict) else {}), **job["order"]}
    found = next((given[name] for name in TEXTS if isinstance(given.get(name), str) and given[name].strip()), None)
    words = " ".join((found or job["kind"]).split())
    return words if len(words) <= most else f"{words[:most].rstrip()}…"


def job_row(job: Any, at: str) -> Node:
    """Return one line of a list, which is fetched anew with news of its job. `at`: the address of the list."""
    return h.li(
        ".row",
        data_news=job["id"],
        hx_get=f"{at}/rows/{job['id']}",
        hx_trigger="news",
        hx_swap="outerHTML",
        hx_sync="this:queue last",  # of all news that comes meanwhile, one further answer tells
    )[
        thumbnail(job["preview"]),
        h.div(".row-text")[
            h.a(".row-title", href=f"{at}/{job['id']}", dir="auto")[ordered(job)],
            h.p(".row-facts")[
                h.span[job["kind"]], moment(job["created_at"]), (h.span(".tag", dir="auto")[tag] for tag in job["tags"])
            ],
            job["error"] and h.p(".row-error", dir="auto")[job["error"]["message"]],
        ],
        h.div(".row-end")[badge(job["status"]), h.span(".money")[money(job["cost_usd"])]],
    ]


def job_view(job: Any, actions: Node) -> Node:
    """Return all that is on record of a job. `actions`: what can be done with it."""
    error = job["error"]
    return [
        h.div(".lead")[badge(job["status"]), h.span[job["kind"]], h.code[job["id"]], actions],
        job["waiting_for"] and h.p(".waiting")[h.strong["Why it waits: "], said(job["waiting_for"])],
        job["progress"] and _progress(job["progress"]),
        error
        and h.div(".banner")[h.p(".banner-title")[error["code"].replace("_", " ")], h.p(dir="auto")[error["message"]]],
        job["assets"] and card(h.div(".grid")[(_file(asset) for asset in job["assets"])], title="Files"),
        card(_money(job), title="Cost"),
        card(h.ol(".timeline")[_timeline(job)], title="Timeline"),
        job["requests"] and card(_calls(job["requests"]), title="Paid calls"),
        card(as_json(job["order"]), title="What was ordered"),
        job["result"] and card(as_json(job["result"]), title="Result"),
    ]


def _progress(progress: Any) -> Node:
    return h.div(".progress")[
        h.progress(max="100", value=str(progress["percent"]), aria_label="Progress"), said(progress["text"])
    ]


def _money(job: Any) -> Node:
    # Bills come by themselves, some time after the calls.
    billed = [each["billed_usd"] for each in job["requests"] if each["billed_usd"] is not None]
    return facts(
        {
            "Estimate": money(job["estimate_usd"]),
            "Cost": money(job["cost_usd"]),
            "Billed": money(sum(billed)) if billed else "not yet",
        }
    )


def _file(asset: Any) -> Node:
    if asset["url"] is None:
        return h.figure[h.p(".quiet-text")["Flagged by its model, and hidden, as the order says."]]
    url, kind = local(asset["url"]), asset["content_type"]
    name = asset["key"].rpartition("/")[2]
    small = small_picture(asset, width=480)
    shown: Node
    if kind.startswith("video/"):
        shown = h.video(src=url, controls=True, preload="none", poster=small, aria_label=name)
    elif kind.startswith("audio/"):
        shown = h.audio(src=url, controls=True, preload="none", aria_label=name)
    elif kind.startswith("image/"):
        # On its own page it can be edited, made larger and downloaded.
        shown = h.a(href=f"{PREFIX}/gallery/{asset['id']}")[
            h.img(src=small or url, alt=name, loading="lazy", decoding="async")
        ]
    else:
        shown = link(f"Download {name}", url, kind="quiet")
    size = f"{asset['width']} × {asset['height']}" if asset["width"] else None
    long = f"{asset['seconds']:.1f} s" if asset["seconds"] else None
    return h.figure[shown, h.figcaption[" · ".join(each for each in (kind, size, long) if each)]]


def _calls(requests: Any) -> Node:
    return table(
        ["Step", "Attempt", "Model", "Status", "Cost", "Billed", "Provider's id", "Heard by"],
        [
            [
                each["step"],
                str(each["attempt"]),
                each["endpoint"],
                badge(each["status"]),
                money(each["cost_usd"]),
                money(each["billed_usd"]),
                h.code[each["request_id"] or "–"],
                "reused" if each["reused_from"] else each["delivered_via"] or "–",
            ]
            for each in requests
        ],
        caption="The calls of this job at its provider",
    )


def _timeline(job: Any) -> Node:
    """Return what happened, in its order."""
    # The API's times are all of one zone, so their text sorts as they do.
    return (
        h.li[moment(at), " ", h.span(dir="auto")[what]] for at, what in sorted(_moments(job), key=lambda each: each[0])
    )


def _moments(job: Any) -> Iterator[tuple[str, str]]:
    yield job["created_at"], "ordered"
    for each in job["requests"]:
        call = f"{each['step']} (attempt {each['attempt']}, {each['endpoint']})"
        yield each["created_at"], f"{call}: waits for a slot"
        if each["submitted_at"]:
            yield each["submitted_at"], f"{call}: sent to the provider"
        if each["finished_at"]:
            again = ", after the provider had tried it again by itself" if each["retried"] else ""
            yield each["finished_at"], f"{call}: {each['status'].replace('_', ' ')}{again}"
    for each in job["waits"]:
        what = each["event"] or each["child_job_id"] or "a time"
        yield each["created_at"], f"{each['step']}: waits for {what}"
        if each["settled_at"]:
            yield each["settled_at"], f"{each['step']}: {each['state'].replace('_', ' ')}"
    for each in job["steps"]:
        yield each["begun_at"], f"{each['name']}: begun"
        if each["done_at"]:
            yield each["done_at"], f"{each['name']}: done"
    if job["finished_at"]:
        yield job["finished_at"], job["status"]
