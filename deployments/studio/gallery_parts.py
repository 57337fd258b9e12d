"""A file as the gallery shows it: small in a grid, large on its page, with what it was ordered by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import htpy as h
from htpy import Node

from darkroom.deployments.studio.parts import facts, link, local, moment, small_picture
from darkroom.deployments.studio.static_files import PREFIX

AT = f"{PREFIX}/gallery"
LONGEST_TITLE = 90


def title_of(asset: Any) -> str:
    """Return what a file is called: the prompt it was made from, else its name."""
    words = " ".join((asset["prompt"] or file_name(asset)).split())
    return words if len(words) <= LONGEST_TITLE else f"{words[:LONGEST_TITLE].rstrip()}…"


def file_name(asset: Any) -> str:
    return str(asset["key"].rpartition("/")[2])


def tile(asset: Any) -> Node:
    """Show a file in the grid, with a box to tick for comparing."""
    name = title_of(asset)
    return h.li(".file")[
        _small(asset, name),
        h.div(".file-text")[
            h.a(".row-title", href=f"{AT}/{asset['id']}", dir="auto")[name],
            h.p(".row-facts")[
                h.span[asset["model"] or ("brought" if asset["job_id"] is None else asset["step"])], _size(asset)
            ],
            h.label(".tick")[
                h.input(type="checkbox", name="id", value=asset["id"], aria_label=f"Compare: {name}"), h.span["Compare"]
            ],
        ],
    ]


def _small(asset: Any, name: str) -> Node:
    if asset["url"] is None:
        return h.div(".file-view")["Flagged and hidden"]
    url, kind = local(asset["url"]), asset["content_type"]
    small = small_picture(asset, width=480)
    if kind.startswith("video/"):
        # Nothing of it is fetched before it is played: a page has many.
        return h.video(".file-view", src=url, controls=True, preload="none", poster=small, aria_label=name)
    if kind.startswith("audio/"):
        return h.div(".file-view.sound")[h.audio(src=url, controls=True, preload="none", aria_label=name)]
    # The title leads there, too: one stop of Tab for each file, and one link that is read out.
    at = f"{AT}/{asset['id']}"
    if kind.startswith("image/"):
        picture = h.img(src=small or url, alt="", loading="lazy", decoding="async")
        return h.a(".file-view", href=at, tabindex="-1", aria_hidden="true")[picture]
    return h.a(".file-view.other", href=at, tabindex="-1", aria_hidden="true")[
        file_name(asset).rpartition(".")[2].upper()
    ]


def large(asset: Any) -> Node:
    """Show a file as large as it goes; what a browser cannot show is offered as a file."""
    if asset["url"] is None:
        return h.div(".large.other")["Its model has flagged it, and its order says that such files are hidden."]
    url, kind, name = local(asset["url"]), asset["content_type"], title_of(asset)
    if kind.startswith("video/"):
        poster = small_picture(asset, width=960)
        return h.video(".large", src=url, controls=True, preload="metadata", poster=poster, aria_label=name)
    if kind.startswith("audio/"):
        return h.audio(src=url, controls=True, preload="metadata", aria_label=name)
    if kind.startswith("image/"):
        return h.a(".large", href=url)[h.img(src=url, alt=name)]
    return h.div(".large.other")[h.p[f"{file_name(asset)} is shown by its own program."], download(asset)]


def download(asset: Any) -> Node:
    if asset["url"] is None:
        return None
    # Browsers heed `download` for addresses of the page's own host alone.
    return h.a(".button.quiet", href=local(asset["url"]), download=file_name(asset))["Download"]


def asset_facts(asset: Any) -> Node:
    return facts(described(asset))


def described(asset: Any) -> dict[str, Node]:
    """Return what is known of the file itself, by name."""
    job = asset["job_id"]
    return {
        "Model": asset["model"],
        "Step": asset["step"] if job else "brought by you",
        "Type": asset["content_type"],
        "Size": _size(asset) or None,
        "Bytes": _bytes(asset["bytes"]),
        "Made": moment(asset["created_at"]),
        "Job": h.a(href=f"{PREFIX}/jobs/{job}")[job] if job else None,
        "Tags": h.span(dir="auto")[", ".join(asset["tags"])] if asset["tags"] else None,
    }


def parameters(order: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was ordered as one list of names and values, the model's own input among them."""
    inside = order.get("input")
    own = {name: value for name, value in order.items() if name != "input"}
    return own | (inside if isinstance(inside, dict) else {})


def larger(asset: Any) -> Node:
    at = f"{PREFIX}/order/form?kind=edit-image&file={asset['id']}&post=upscale"
    return link("Make larger", at, kind="quiet")


def edit(asset: Any) -> Node:
    """Lead to the models that make something of such a file."""
    category = "image-to-image" if asset["content_type"].startswith("image/") else "video-to-video"
    return link("Edit", f"{PREFIX}/order?category={category}&file={asset['id']}", kind="quiet")


def _size(asset: Any) -> str:
    size = f"{asset['width']} × {asset['height']}" if asset["width"] else None
    long = f"{asset['seconds']:.1f} s" if asset["seconds"] else None
    return " · ".join(each for each in (size, long) if each)


def _bytes(count: int) -> str:
    for unit, size in (("MB", 1_000_000), ("kB", 1_000)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
