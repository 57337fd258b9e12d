"""A batch as pages show it: its row in the list, how far it is, its walls of pictures, and the choice between them.

A wall is a page of the API's own and goes on by its cursor.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import htpy as h
from htpy import Node

from darkroom.batches.winners import as_ranges, parse_winners
from darkroom.deployments.studio.api import ApiProblem
from darkroom.deployments.studio.job_parts import ordered
from darkroom.deployments.studio.parts import badge, facts, link, local, moment, money, said, small_picture, thumbnail
from darkroom.deployments.studio.static_files import PREFIX
from darkroom.errors import BadInput

AT = f"{PREFIX}/batches"
TILES_OF_A_PAGE = 200  # the most that the API gives at once
TILE_WIDTH = 320
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


def state(job: Any, *, fresh: bool = False) -> Node:
    """Return the badge as the batch's page has it. `fresh`: it takes the place of the one that is there."""
    return h.span("#state", hx_swap_oob="true" if fresh else None)[state_of(job)]


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
    # It says by its phase which page it is on, so that the next one can be led to. An end is the last news.
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
        # Of all news that comes while one answer is on its way, a single further one tells.
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
    # HTML takes no `max` of 0: it would be 1.
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
    # Rows count from 0; tiles, and the sheets that people look at, from 1.
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
    # Without scripts it sends the form on to the next page, so what is ticked on this one stays in the choice.
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
        data_status=status,  # by which `wall.js` leaves a tile alone that shows it already
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
        # The number is the stop of Tab; its label says what the mark shows to the eye.
        return [h.a(href=f"{PREFIX}/jobs/{row['id']}", tabindex="-1")[_picture(row, f"{number}: {words}")], at, mark]
    box = h.input(type="checkbox", name="row", value=str(number), checked=number in chosen)
    return [h.label[box, _picture(row, f"{number}: {words}"), h.span(".chosen-mark", aria_hidden="true")["✓"]], at]


def _picture(row: Any, alt: str) -> Node:
    small = row["preview"] and small_picture(row["preview"], width=TILE_WIDTH)
    if not small:
        # Of a GIF, a sound or a text there is no small picture: in the place of a broken one stands what was ordered.
        return h.span(".tile-text", dir="auto")[alt]
    return h.img(src=small, alt=alt, title=alt, loading="lazy", decoding="async")


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
    # Of its rows the batch tells (`docs/stream.md`): its news says that some have ended, and not which.
    path = f"fresh?{urlencode({'stage': stage, 'since': since})}"
    return h.div(f"#{stage}-news", **_live(job, path, swap="outerHTML"))


# -- the choice ------------------------------------------------------------------------------------------------------


def numbers_in(text: str, *, rows: int) -> frozenset[int] | None:
    """Return the numbers that a person wrote; None where that are no numbers alone: "all", or what the API refuses."""
    if "all" in text.lower():
        return None
    try:
        return frozenset(n + 1 for n in parse_winners(text, rows=rows)) if text.strip() else frozenset()
    except BadInput:
        return None


def apart(text: str, found: Any, *, rows: int) -> tuple[str, frozenset[int]]:
    """Return what stays in the text of a choice, and what is ticked on this page of it."""
    numbers = numbers_in(text, rows=rows)
    if numbers is None:
        # It is about the other pages, too. What is ticked is sent beside it, and "all" takes no numbers beside it.
        return text, NONE
    # A row without a picture has no box, so its number stays in the text.
    ticked = numbers & {each["number"] for each in found["items"] if each["status"] == "completed"}
    # All ranges: as it is written for people it would end in an ellipsis, and this is sent.
    return as_ranges((n - 1 for n in numbers - ticked), most=rows), ticked


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
            # As long as the API takes it: ten thousand numbers fit.
            h.input("#numbers", name="numbers", value=numbers, maxlength="100000", autocomplete="off", dir="ltr"),
        ],
        h.div(
            "#quote.choice-price",
            aria_live="polite",
            hx_post=f"{at}/selection/quote",
            hx_include="#numbers",
            # A text that a script has changed tells of it by no event of its own, so `wall.js` sends this one.
            hx_trigger="chosen from:#numbers delay:300ms",
            hx_sync="this:replace",  # else the price of an earlier choice may come last
        )[priced],
        h.div(".actions")[
            h.button("#price.button.quiet", type="submit", formaction=f"{at}/choice")["Show the price"], confirm(job)
        ],
        h.p(".hint")[
            "Click the drafts you want, or write their numbers: 3, 7, 12-20, all, all but 8, or none. By keyboard: "
            "arrows move, space chooses, shift with arrows or a click chooses a range, A is all, N is none, Enter "
            "looks closer."
        ],
    ]
