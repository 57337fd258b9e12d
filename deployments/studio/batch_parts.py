"""A batch as pages show it: its row in the list, how far it is, its walls of pictures, and the choice between them.

A wall is a page of the API's own and goes on by its cursor. Of its rows the batch tells (`docs/stream.md`), so with
news of the batch those rows are fetched that have ended since, and each takes the place of its tile.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import htpy as h
from htpy import Node

from darkroom.batches.winners import as_ranges, parse_winners
from darkroom.deployments.studio.api import ApiProblem
from darkroom.deployments.studio.gallery_parts import WITH_THUMBNAILS
from darkroom.deployments.studio.job_parts import ordered
from darkroom.deployments.studio.parts import badge, facts, link, local, moment, money, said, thumbnail
from darkroom.deployments.studio.static_files import PREFIX
from darkroom.errors import BadInput

AT = f"{PREFIX}/batches"
TILES_OF_A_PAGE = 200
TILE_WIDTH = 320
MOST_ROWS = 10_000
ENDED = ("completed", "failed", "cancelled")
NONE = frozenset[int]()
PASSES = {"draft": "Drafts", "final": "Finals"}


def name_of(job: Any) -> str:
    """Return what the batch was called, or how many rows it has."""
    called = (job["metadata"] or {}).get("name")
    return str(called) if called else f"{job['batch']['rows']:,} rows"


def phase_of(job: Any) -> str:
    """Return which page of the batch it is time for: that where winners are chosen, the one after it, or the end's."""
    if job["status"] in ENDED:
        return "ended"
    return "choice" if job["batch"]["winners"] is None else "finals"


def state_of(job: Any) -> Node:
    """Return in a badge what the batch is at, in the words of who follows it."""
    batch = job["batch"]
    if job["status"] in ENDED:
        return badge(job["status"])
    if batch["paused_at"]:
        return h.span(".badge.odd")["paused"]
    if batch["winners"] is not None:
        return h.span(".badge.busy")["finals"]
    return h.span(".badge.accent")["choose the winners"] if batch["asked_at"] else h.span(".badge.busy")["drafts"]


def batch_row(job: Any) -> Node:
    """Return one line of the list, which is fetched anew with news of its batch."""
    name = name_of(job)
    return h.li(
        ".row",
        data_news=job["id"],
        hx_get=f"{AT}/rows/{job['id']}",
        hx_trigger="news",
        hx_swap="outerHTML",
        hx_sync="this:queue last",
    )[
        thumbnail(job["preview"]),
        h.div(".row-text")[
            h.a(".row-title", href=f"{AT}/{job['id']}", dir="auto")[name],
            h.p(".row-facts")[
                h.span[f"{job['batch']['rows']:,} rows"],
                moment(job["created_at"]),
                (h.span(".tag", dir="auto")[tag] for tag in job["tags"]),
            ],
            (_bar(job["batch"][each], PASSES[each], of=name) for each in PASSES if job["batch"][each]),
            job["error"] and h.p(".row-error", dir="auto")[job["error"]["message"]],
        ],
        h.div(".row-end")[state_of(job), h.span(".money")[money(job["batch"]["spent_usd"])]],
    ]


def head(job: Any) -> Node:
    """Return how far the batch is; fetched anew with its news, which leads to the next page where it is time for it."""
    batch, error = job["batch"], job["error"]
    live = {} if job["status"] in ENDED else _live(job, f"head?phase={phase_of(job)}", swap="outerHTML")
    return h.div("#head.stack", **live)[
        job["waiting_for"] and not batch["asked_at"] and h.p(".waiting")[said(job["waiting_for"])],
        error
        and h.div(".banner")[h.p(".banner-title")[error["code"].replace("_", " ")], h.p(dir="auto")[error["message"]]],
        h.section(".card")[
            (_bar(batch[each], PASSES[each], of="this batch", whole=True) for each in PASSES if batch[each]),
            facts(_sums(job)),
        ],
    ]


def _live(job: Any, path: str, *, swap: str) -> dict[str, str]:
    return {
        "data_news": job["id"],
        "hx_get": f"{AT}/{job['id']}/{path}",
        "hx_trigger": "news",
        "hx_swap": swap,
        "hx_sync": "this:queue last",
    }


def _bar(done: Any, title: str, *, of: str, whole: bool = False) -> Node:
    ended = done["completed"] + done["failed"] + done["cancelled"]
    left = done["seconds_left"]
    more = [
        f"{done['failed']:,} failed" if done["failed"] else "",
        f"{done['cancelled']:,} cancelled" if done["cancelled"] else "",
        f"{done['in_flight']:,} at the provider" if whole and done["in_flight"] else "",
        f"{_minutes(left)} left" if whole and left else "",
    ]
    words = " · ".join([f"{done['completed']:,} of {done['total']:,}", *(each for each in more if each)])
    bar = h.progress(max=str(done["total"] or 1), value=str(ended), aria_label=f"{title} of {of}")
    return h.div(".pass")[h.span(".pass-name")[title], bar, h.span(".pass-words")[words]]


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.0f} min"


def _sums(job: Any) -> dict[str, Node]:
    batch, result = job["batch"], job["result"] or {}
    drafts, finals = batch["draft"], batch["final"]
    return {
        "Spent": money(batch["spent_usd"]),
        "Drafts": drafts and money(drafts["spent_usd"]),
        "Finals": finals and money(finals["spent_usd"]),
        "All at final quality": money(batch["forecast_usd"].get("final_all")),
        "Saved": money(result["saved_usd"]) if "saved_usd" in result else None,
        "Winners": batch["numbers"] and _short(batch["numbers"]),
        "Choose by": moment(batch["answer_by"]) if batch["winners"] is None else None,
    }


def _short(numbers: str) -> str:
    return numbers if len(numbers) <= 60 else f"{numbers[:60].rpartition(',')[0]}…"


def trail(job: Any) -> Node:
    """Return the links to what remains: the audit trail of every call, and the sheets of the drafts."""
    result = job["result"] or {}
    urls = {asset["id"]: local(asset["url"]) for asset in job["assets"]}
    audit = result.get("audit") or {}
    found = [("Audit trail (CSV)", audit.get("csv")), ("Audit trail (JSON lines)", audit.get("json_lines"))]
    found += [(f"Contact sheet {n}", id) for n, id in enumerate(result.get("contact_sheet") or (), start=1)]
    links = [link(label, urls[id], kind="quiet") for label, id in found if id in urls]
    return links and h.section(".card")[h.h2["To keep"], h.div(".actions")[links]]


# -- walls -----------------------------------------------------------------------------------------------------------


def winners_of(job: Any) -> frozenset[int]:
    """Return the numbers that were chosen; none before that."""
    return frozenset(n + 1 for n in job["batch"]["winners"] or ())


def tiles(
    job_id: str,
    found: Any,
    stage: str,
    *,
    chosen: frozenset[int] | None,
    winners: frozenset[int] = NONE,
    again: bool = False,
) -> Node:
    """Return a page of a wall. `chosen`: the ticked ones, where there is a choice yet. The rest is as of `tile`."""
    more = h.button(
        ".button.quiet",
        type="submit",
        name="cursor",
        value=found["next"],
        formaction=f"{AT}/{job_id}/choice" if chosen is not None else None,
        hx_get=f"{AT}/{job_id}/wall?{urlencode({'stage': stage, 'choice': '1' if chosen is not None else ''})}",
        hx_trigger="revealed, click",
        hx_target="closest li",
        hx_swap="outerHTML",
        hx_params="cursor",
    )["Show more"]
    return [
        (tile(each, chosen=chosen, winners=winners, again=again) for each in found["items"]),
        found["next"] and h.li(".more")[more if chosen is not None else h.form(method="get", action="")[more]],
    ]


def tile(
    row: Any,
    *,
    chosen: frozenset[int] | None,
    winners: frozenset[int] = NONE,
    again: bool = False,
    fresh: bool = False,
) -> Node:
    """Return one row of the manifest in one pass. `fresh`: it takes the place of what the page shows of it.

    `winners`: of which the drafts stay marked, once the choice is made. `again`: it can be ordered again by itself.
    """
    number, status = row["number"], row["status"]
    won = row["stage"] == "draft" and number in winners
    return h.li(
        f"#{row['stage']}-{number}.tile.{status}{'.winner' if won else ''}",
        data_status=status,
        hx_swap_oob="true" if fresh else None,
    )[
        _face(row, chosen, won=won) if status == "completed" else _no_picture(row),
        again and _again(row),
    ]


def _again(row: Any) -> Node:
    at = f"{PREFIX}/order/again/{row['id']}"
    return h.a(".tile-again", href=at, aria_label=f"Again, with a change: {row['number']}")["Again"]


def _face(row: Any, chosen: frozenset[int] | None, *, won: bool) -> Node:
    number, words = row["number"], ordered(row, most=120)
    label = f"Look at {number}, which was chosen" if won else f"Look at {number}"
    at = h.a(".tile-number", href=f"{PREFIX}/jobs/{row['id']}", aria_label=label)[str(number)]
    if chosen is None:
        mark = won and h.span(".chosen-mark", aria_hidden="true")["✓"]
        return [h.a(href=f"{PREFIX}/jobs/{row['id']}", tabindex="-1")[_picture(row, f"{number}: {words}")], at, mark]
    box = h.input(type="checkbox", name="row", value=str(number), checked=number in chosen)
    return [h.label[box, _picture(row, f"{number}: {words}"), h.span(".chosen-mark", aria_hidden="true")["✓"]], at]


def _picture(row: Any, alt: str) -> Node:
    preview = row["preview"]
    if preview is None or preview["content_type"] not in WITH_THUMBNAILS:
        return h.span(".tile-text", dir="auto")[alt]
    url = f"{local(preview['url'])}&w={TILE_WIDTH}"
    return h.img(src=url, alt=alt, title=alt, loading="lazy", decoding="async")


def _no_picture(row: Any) -> Node:
    failed = row["error"] and row["error"]["code"].replace("_", " ")
    return [
        h.span(".tile-text", dir="auto")[failed or row["status"]],
        h.a(".tile-number", href=f"{PREFIX}/jobs/{row['id']}", aria_label=f"Look at {row['number']}")[
            str(row["number"])
        ],
    ]


def wall_news(job: Any, stage: str, *, since: str) -> Node:
    """Return what hears the batch's news for a wall, and fetches the rows that have ended since."""
    path = f"fresh?{urlencode({'stage': stage, 'since': since})}"
    return h.div(f"#{stage}-news", **_live(job, path, swap="outerHTML"))


# -- the choice ------------------------------------------------------------------------------------------------------


def numbers_in(text: str) -> frozenset[int] | None:
    """Return the numbers that a person wrote; None where that are no numbers alone, which the API is to say."""
    if text.strip().lower() == "all":
        return None
    try:
        return frozenset(n + 1 for n in parse_winners(text, rows=MOST_ROWS)) if text.strip() else frozenset()
    except BadInput:
        return None


def apart(text: str, found: Any) -> tuple[str, frozenset[int]]:
    """Return what stays in the text of a choice, and what is ticked on this page of it."""
    numbers = numbers_in(text)
    if numbers is None:
        here = frozenset(each["number"] for each in found["items"]) if text.strip().lower() == "all" else frozenset()
        return text, here
    ticked = numbers & {each["number"] for each in found["items"] if each["status"] == "completed"}
    return as_ranges((n - 1 for n in numbers - ticked), most=MOST_ROWS), ticked


def quote_view(quote: Any) -> Node:
    """Return what a choice costs, and what it saves."""
    if not quote["winners"]:
        return h.span["Nothing is chosen yet."]
    drafted = quote["winners"] - quote["finals"]
    saved = quote["saved_usd"]
    return [
        h.span[h.strong[f"{quote['winners']:,}"], " chosen"],
        h.span["finals at most ", h.strong(".money")[money(quote["estimate_usd"])]],
        drafted > 0 and h.span[f"{drafted:,} are final as they are"],
        h.span[
            "saves " if saved >= 0 else "costs ",
            h.strong(".money")[money(abs(saved))],
            " against all at once" if saved >= 0 else " more than all at once",
        ],
    ]


def refused(problem: ApiProblem) -> Node:
    """Return beside the choice why it has no price."""
    return h.span(".row-error", dir="auto")[problem.detail]


def confirm(job: Any, *, fresh: bool = False) -> Node:
    """Return the button that makes the choice, once it is time."""
    ready = bool(job["batch"]["asked_at"])
    return h.span("#confirm", hx_swap_oob="true" if fresh else None)[
        h.button(".button", type="submit", disabled=not ready)["Render the finals"],
        not ready and h.span(".hint")["as soon as all drafts have come"],
    ]


def choice_bar(job: Any, *, numbers: str, priced: Node) -> Node:
    """Return what stays in sight above the wall: the choice in numbers, its price, and the button that makes it."""
    at = f"{AT}/{job['id']}"
    return h.div(".choice-bar")[
        h.label(".field")[
            h.span(".label")["Winners"],
            h.input("#numbers", name="numbers", value=numbers, maxlength="100000", autocomplete="off", dir="ltr"),
        ],
        h.div(
            "#quote.choice-price",
            aria_live="polite",
            hx_post=f"{at}/selection/quote",
            hx_include="#numbers",
            hx_trigger="chosen from:#numbers delay:300ms",
            hx_sync="this:replace",
        )[priced],
        h.div(".actions")[
            h.button("#price.button.quiet", type="submit", formaction=f"{at}/choice")["Show the price"], confirm(job)
        ],
        h.p(".hint")[
            "Click the drafts you want, or write their numbers: 3, 7, 12-20, all, or none. By keyboard: arrows move, "
            "space chooses, shift with arrows or a click chooses a range, A is all, N is none, Enter looks closer."
        ],
    ]
