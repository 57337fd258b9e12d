"""What pages are made of. Everything takes text as it is: htpy escapes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import htpy as h
from htpy import Node

from darkroom.deployments.studio.api import ApiProblem

# By status of jobs, calls and callbacks: how it looks. Colour is never all that tells them apart: the word is there.
TONES = {
    "good": ("completed", "succeeded", "delivered", "ready", "open", "done"),
    "bad": ("failed", "expired", "dead", "revoked"),
    "busy": ("running", "granted", "submitting", "in_flight", "training"),
    "odd": ("cancelled", "unknown", "passed", "ended"),
}

# Of these alone the gateway makes small pictures (`gateway/thumbnails.py`).
WITH_SMALL_PICTURES = frozenset({"image/jpeg", "image/png", "image/webp", "video/mp4"})
MOST_SHOWN = 400  # of a list that news makes longer: then its page is loaded anew (`studio.js`)


def card(*content: Node, title: str | None = None) -> Node:
    return h.section(".card")[title and h.h2[title], content]


def empty(title: str, hint: str, action: Node = None) -> Node:
    """Say that there is nothing here, and what to do about it."""
    return h.div(".empty")[h.p(".empty-title")[title], h.p[hint], action]


def table(headings: Sequence[str], rows: Sequence[Sequence[Node]], *, caption: str) -> Node:
    """Make a table that scrolls within itself on a narrow screen. `caption`: what it is, for who cannot see it."""
    # What scrolls within itself takes the focus, or nobody without a mouse could scroll it; then it needs a name, too.
    return h.div(".scroll", tabindex="0", role="region", aria_label=caption)[
        h.table[
            h.caption(".unseen")[caption],
            h.thead[h.tr[(h.th(scope="col")[each] for each in headings)]],
            h.tbody[(h.tr[(h.td[cell] for cell in row)] for row in rows)],
        ]
    ]


def facts(given: Mapping[str, Node]) -> Node:
    """Make a list of names and values, without those that have no value."""
    shown = {name: value for name, value in given.items() if value not in (None, "")}
    return h.dl(".facts")[(h.div[h.dt[name], h.dd[value]] for name, value in shown.items())]


def badge(status: str) -> Node:
    # A status that came later than this list is shown all the same.
    tone = next((tone for tone, known in TONES.items() if status in known), "calm")
    return h.span(f".badge.{tone}")[status.replace("_", " ")]


def said(text: object, *, most: int | None = None) -> Node:
    """Show text that a user wrote, in the direction that it is written in."""
    words = str(text)
    return h.span(dir="auto")[words if most is None or len(words) <= most else f"{words[:most].rstrip()}…"]


def money(usd: float | None) -> str:
    """Write dollars: two places from a dollar on, and below it as many as it takes."""
    if usd is None:
        return "–"
    if usd < 0:
        return f"-{money(-usd)}"
    if usd == 0 or usd >= 1:
        return f"${abs(usd):,.2f}"
    # A call costs fractions of a cent. Never fewer than a cent's two places: `$0.5` becomes `$0.50`.
    return f"${usd:.4f}".rstrip("0").ljust(5, "0")


def plain(number: float) -> str:
    """Write a number with all of its digits and without an exponent, as a field has it."""
    # By its text a float has the digits that were sent. `:g` keeps six of them: a budget would be saved as another one.
    exact = Decimal(repr(number)) if isinstance(number, float) else Decimal(number)
    return f"{exact.normalize():f}" if exact else "0"


def moment(at: str | None) -> Node:
    """Show a time of the API (ISO 8601), in UTC; the browser tells it in its own zone (`studio.js`)."""
    if not at:
        return None
    when = datetime.fromisoformat(at).astimezone(UTC)
    # Without scripts it stays as it is here, so it says that it is UTC.
    return h.time(datetime=when.isoformat())[when.strftime("%d %b %Y, %H:%M:%S UTC")]


def banner(problem: ApiProblem) -> Node:
    """Show what the API refused: title, detail, remedy, and each field that is wrong."""
    # A single error is the detail itself.
    fields = [each for each in problem.errors if len(problem.errors) > 1]
    return h.div(".banner", role="alert")[
        h.p(".banner-title")[problem.title],
        h.p(dir="auto")[problem.detail],
        # A sentence may have its remedy in it.
        problem.remedy and problem.remedy not in problem.detail and h.p(dir="auto")[problem.remedy],
        h.ul[(h.li[h.code[each.field], " ", each.detail, " ", each.remedy] for each in fields)] if fields else None,
    ]


def button(label: str, *, kind: str = "", **attributes: Any) -> Node:
    """Make a button that sends its form. `kind`: quiet, or danger."""
    return h.button(f".button{kind and f'.{kind}'}", type="submit", **attributes)[label]


def link(label: Node, href: str, *, kind: str = "") -> Node:
    """Make a link that looks like a button."""
    return h.a(f".button{kind and f'.{kind}'}", href=href)[label]


def further(label: str, page: str, part: str) -> Node:
    """Lead to the rest of a list: to its next page, whose rows htmx puts in the link's place as it comes into sight.

    `part`: the address of those rows alone.
    """
    # On the link itself: of what is around it htmx would let the click lead on, too.
    return h.li(".more")[
        h.a(
            ".button.quiet",
            href=page,
            hx_get=part,
            hx_trigger="revealed, click",
            hx_target="closest li",
            hx_swap="outerHTML",
        )[label]
    ]


def field(label: str, control: Node, *, hint: str | None = None) -> Node:
    """Label a control. `hint`: what is said below it."""
    # Inside of its label it needs no id: a page may have several forms of the same fields, as that of the plans.
    return h.label(".field")[h.span(".label")[label], control, hint and h.span(".hint")[hint]]


def choice(name: str, options: Mapping[str, str], chosen: str | None = None, **attributes: Any) -> Node:
    """Make a list to choose from: what is sent, and what is shown."""
    return h.select(name=name, **attributes)[
        (h.option(value=value, selected=value == (chosen or ""))[shown] for value, shown in options.items())
    ]


def thumbnail(preview: Mapping[str, Any] | None) -> Node:
    """Show a file small: pictures and films' first moments; of others their kind."""
    if preview is None:
        return h.span(".thumbnail.none", aria_hidden="true")
    small = small_picture(preview, width=160)
    if small is None:
        return h.span(".thumbnail.none")[str(preview["content_type"]).partition("/")[0]]
    return h.img(".thumbnail", src=small, alt="", loading="lazy", decoding="async")


def small_picture(file: Mapping[str, Any], *, width: int) -> str | None:
    """Return the address of a file's small picture; None where there is none. `width`: 160, 320, 480 or 960."""
    # What has no width was not read to its end as it was stored.
    if file["url"] is None or file["content_type"] not in WITH_SMALL_PICTURES or not file["width"]:
        return None
    # A link is signed for its file and its end alone: it opens any width.
    return f"{local(file['url'])}&w={width}"


def local(url: str) -> str:
    """Return the address on this page's own host."""
    # The gateway may be known by several names, and the page's policy lets in what is of its own host alone.
    split = urlsplit(url)
    return f"{split.path}?{split.query}" if split.query else split.path


def as_json(value: object) -> Node:
    # In the order of Tab, as `table` is: it scrolls within itself.
    return h.pre(".json", dir="auto", tabindex="0")[json.dumps(value, indent=2, ensure_ascii=False)]
