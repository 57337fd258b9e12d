"""The frame of every page: its head, the navigation, the places for news and errors."""

from __future__ import annotations

import json
from collections.abc import Sequence

import htpy as h
from htpy import Node

from darkroom.deployments.studio.screens import Screen
from darkroom.deployments.studio.static_files import PREFIX, address

# Nothing evaluated, no style put in, no page kept in the browser's storage, and refusals shown above the page.
HTMX = {
    "allowEval": False,
    "includeIndicatorStyles": False,
    "historyCacheSize": 0,
    "responseHandling": [
        {"code": "204", "swap": False},
        {"code": "[23]..", "swap": True},
        {"code": "[45]..", "swap": True, "error": True, "target": "#notices", "swapOverride": "innerHTML"},
    ],
}


def document(title: str, body: Node, *, csrf: str | None = None, onward: str | None = None) -> str:
    """Return a whole page. `csrf`: of who is signed in, which is also who hears the stream.

    `onward`: another page that this one leads on to by itself.
    """
    signed_in = {"hx_headers": json.dumps({"X-CSRF-Token": csrf}), "data_stream": f"{PREFIX}/stream"} if csrf else {}
    return str(
        h.html(lang="en")[
            h.head[
                h.meta(charset="utf-8"),
                h.meta(name="viewport", content="width=device-width, initial-scale=1"),
                h.meta(name="color-scheme", content="light dark"),
                h.meta(name="htmx-config", content=json.dumps(HTMX)),
                onward and h.meta(http_equiv="refresh", content=f"0;url={onward}"),
                h.title[f"{title} · Darkroom"],
                h.link(rel="icon", href=address("icon.svg"), type="image/svg+xml"),
                h.link(rel="stylesheet", href=address("studio.css")),
                csrf and h.script(src=address("htmx.min.js"), defer=True),
                csrf and h.script(src=address("studio.js"), defer=True),
            ],
            h.body(**signed_in)[body],
        ]
    )


def frame(
    title: str, content: Node, *, screens: Sequence[Screen], path: str, user: str, sign_out: Node, said: str | None
) -> Node:
    """Lay out a page of who is signed in. `path`: where it is, for the navigation. `said`: a toast."""
    return [
        h.a(".skip", href="#main")["Skip to the content"],
        h.header(".top")[
            h.a(".brand", href=PREFIX)["Darkroom"],
            h.nav(aria_label="Screens")[(_entry(screen, path) for screen in screens)],
            h.div(".who")[h.span(dir="auto")[user], sign_out],
        ],
        h.main("#main", tabindex="-1")[
            h.h1(dir="auto")[title], h.div("#notices", aria_live="polite")[said and toast(said)], content
        ],
    ]


def toast(text: str) -> Node:
    return h.p(".toast", role="status")[text]


def _entry(screen: Screen, path: str) -> Node:
    at = f"{PREFIX}{screen.path}"
    here = path == at or path.startswith(f"{at}/")
    return h.a(href=at, aria_current="page" if here else None)[screen.title]
