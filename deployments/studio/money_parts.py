"""What the pages of money and of operators have in common: bars, tabs, keys, and a secret that is shown once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import htpy as h
from htpy import Node

from darkroom.deployments.studio.parts import badge, card, link, moment, said, table
from darkroom.deployments.studio.visit import Visit


def tabs(at: str, entries: Mapping[str, str], here: str, *, label: str) -> Node:
    """Lead to the pages of a screen: what follows its address, and the name. `here`: which of them this is."""
    return h.nav(".tabs", aria_label=label)[
        (h.a(href=f"{at}{path}", aria_current="page" if path == here else None)[name] for path, name in entries.items())
    ]


def bar(part: float, whole: float | None, *, label: str) -> Node:
    """Draw a share as a bar, red from the whole on."""
    share = 0.0 if not whole or whole <= 0 else max(0.0, min(part / whole, 1.0))
    # By the attributes of an SVG: the page's policy lets in no inline style, by which else it would have its width.
    return h.svg(
        ".bar.full" if whole and part >= whole else ".bar",
        viewBox="0 0 100 4",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
    )[h.rect(width="100", height="4", class_="bar-ground"), h.rect(width=f"{share * 100:.2f}", height="4")]


def older(at: str, following: str | None) -> Node:
    """Lead to the next page of a list. `at`: its address, with its question."""
    if not following:
        return None
    return h.p(".more")[link("Show older", f"{at}{'&' if '?' in at else '?'}cursor={following}", kind="quiet")]


def shown_once(title: str, secret: str, *, hint: str, on: Node) -> Node:
    """Show what nobody can show again, to be copied."""
    return card(
        h.p[hint],
        # In focus as the page opens: it is there to be copied, also by keyboard.
        h.input(
            ".secret", type="text", readonly=True, autofocus=True, value=secret, aria_label=title, spellcheck="false"
        ),
        on,
        title=title,
    )


def keys_table(keys: Sequence[Any], *, caption: str, revoke: Any = None) -> Node:
    """List keys without the keys. `revoke`: makes the form that ends one."""
    headings = ["Name", "Good for", "Status", "Made", "Last used", "Until"] + (["End it"] if revoke else [])
    return table(
        headings,
        [
            [
                said(each["name"] or "first key", most=60),
                ", ".join(each["scopes"]),
                badge(each["status"]),
                moment(each["created_at"]),
                moment(each["last_used_at"]) or "never",
                moment(each["expires_at"]) or "for good",
                *([revoke(each) if each["status"] == "open" else None] if revoke else []),
            ]
            for each in keys
        ],
        caption=caption,
    )


def may_order(visit: Visit) -> bool:
    return "orders" in visit.scopes
