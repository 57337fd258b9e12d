"""What pages are made of. Everything takes text as it is: htpy escapes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
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


def card(*content: Node, title: str | None = None) -> Node:
    return h.section(".card")[title and h.h2[title], content]


def empty(title: str, hint: str, action: Node = None) -> Node:
    """Say that there is nothing here, and what to do about it."""
    return h.div(".empty")[h.p(".empty-title")[title], h.p[hint], action]


def table(headings: Sequence[str], rows: Sequence[Sequence[Node]], *, caption: str) -> Node:
    """Make a table that scrolls within itself on a narrow screen. `caption`: what it is, for who cannot see it."""
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
    if usd == 0 or abs(usd) >= 1:
        return f"${usd:,.2f}"
    return f"${usd:.4f}".rstrip("0").ljust(5, "0")


def moment(at: str | None) -> Node:
    """Show a time of the API (ISO 8601), in UTC; the browser tells it in its own zone (`studio.js`)."""
    if not at:
        return None
    when = datetime.fromisoformat(at).astimezone(UTC)
    return h.time(datetime=when.isoformat())[when.strftime("%d %b %Y, %H:%M:%S UTC")]


def banner(problem: ApiProblem) -> Node:
    """Show what the API refused: title, detail, remedy, and each field that is wrong."""
    fields = [each for each in problem.errors if len(problem.errors) > 1]
    return h.div(".banner", role="alert")[
        h.p(".banner-title")[problem.title],
        h.p(dir="auto")[problem.detail],
        problem.remedy and h.p(dir="auto")[problem.remedy],
        h.ul[(h.li[h.code[each.field], " ", each.detail, " ", each.remedy] for each in fields)] if fields else None,
    ]


def button(label: str, *, kind: str = "", **attributes: Any) -> Node:
    """Make a button that sends its form. `kind`: quiet, or danger."""
    return h.button(f".button{kind and f'.{kind}'}", type="submit", **attributes)[label]


def link(label: Node, href: str, *, kind: str = "") -> Node:
    """Make a link that looks like a button."""
    return h.a(f".button{kind and f'.{kind}'}", href=href)[label]


def field(label: str, control: Node, *, hint: str | None = None) -> Node:
    """Label a control, which is inside of its label and so needs no id."""
    return h.label(".field")[h.span(".label")[label], control, hint and h.span(".hint")[hint]]


def choice(name: str, options: Mapping[str, str], chosen: str | None = None, **attributes: Any) -> Node:
    """Make a list to choose from: what is sent, and what is shown."""
    return h.select(name=name, **attributes)[
        (h.option(value=value, selected=value == (chosen or ""))[shown] for value, shown in options.items())
    ]


def thumbnail(preview: Mapping[str, Any] | None, *, alt: str = "", width: int = 160) -> Node:
    """Show a file small: pictures and the first moment of films; of others their kind. `width`: 160, 480 or 1024."""
    if preview is None:
        return h.span(".thumbnail.none", aria_hidden="true")
    kind = str(preview["content_type"])
    if not kind.startswith(("image/", "video/")):
        return h.span(".thumbnail.none")[kind.partition("/")[0]]
    return h.img(".thumbnail", src=f"{local(preview['url'])}&w={width}", alt=alt, loading="lazy", decoding="async")


def local(url: str) -> str:
    """Return the address on this page's own host: the gateway may be known by several names."""
    split = urlsplit(url)
    return f"{split.path}?{split.query}" if split.query else split.path


def as_json(value: object) -> Node:
    return h.pre(".json", dir="auto", tabindex="0")[json.dumps(value, indent=2, ensure_ascii=False)]
