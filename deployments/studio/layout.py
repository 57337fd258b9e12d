"""The frame of every page: its head, the navigation, the places for news and errors."""

from __future__ import annotations

import json
from collections.abc import Sequence

import htpy as h
from htpy import Node

from darkroom.deployments.studio.screens import Screen
from darkroom.deployments.studio.static_files import PREFIX, address

HTMX = {
    "allowEval": False,  # the page's policy forbids it anyway
    "includeIndicatorStyles": False,  # htmx puts them in as an inline style, which the policy refuses with a complaint
    "historyCacheSize": 0,  # no page is kept in the browser's storage, where signing out would leave it
    "responseHandling": [
        {"code": "204", "swap": False},
        {"code": "[23]..", "swap": True},
        # By itself htmx shows no refusal. The element that asked stays as it is: the words go above the page.
        {"code": "[45]..", "swap": True, "error": True, "target": "#notices", "swapOverride": "innerHTML"},
    ],
}


def document(title: str, body: Node, *, csrf: str | None = None, onward: str | None = None) -> str:
    """Return a whole page. `csrf`: of who is signed in, which is also who hears the stream.

    `onward`: another page that this one leads on to by itself.
    """
    # On the body all of htmx's elements inherit it. Who is not signed in hears nothing and has no script.
    signed_in = {"hx_headers": json.dumps({"X-CSRF-Token": csrf}), "data_stream": f"{PREFIX}/stream"} if csrf else {}
    return str(
        h.html(lang="en")[
            h.head[
                h.meta(charset="utf-8"),
                h.meta(name="viewport", content="width=device-width, initial-scale=1"),
                # Before the stylesheet is there, so that a dark page does not begin as a white one.
                h.meta(name="color-scheme", content="light dark"),
                h.meta(name="htmx-config", content=json.dumps(HTMX)),
                # No redirect: one that has begun on another site takes no Strict cookie along (`sign_on.py`).
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
        # The first stop of Tab: past the navigation, which stands on every page.
        h.a(".skip", href="#main")["Skip to the content"],
        h.header(".top")[
            h.a(".brand", href=PREFIX)["Darkroom"],
            h.nav(aria_label="Screens")[(_entry(screen, path) for screen in screens)],
            h.div(".who")[h.span(dir="auto")[user], sign_out],
        ],
        # Not a stop of Tab, and yet to be focused by the link that skips to it.
        h.main("#main", tabindex="-1")[
            # There from the start: what is put into a live region is read out, and not a region that comes with it.
            h.h1(dir="auto")[title], h.div("#notices", aria_live="polite")[said and toast(said)], content
        ],
    ]


def toast(text: str) -> Node:
    return h.p(".toast", role="status")[text]


def _entry(screen: Screen, path: str) -> Node:
    at = f"{PREFIX}{screen.path}"
    here = path == at or path.startswith(f"{at}/")
    return h.a(href=at, aria_current="page" if here else None)[screen.title]
