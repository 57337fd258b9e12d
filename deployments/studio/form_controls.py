"""How each kind of field of an order's form is shown: its label, its control, its hint, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import htpy as h
from htpy import Node

from darkroom.deployments.studio.parts import link, plain
from darkroom.deployments.studio.schema_forms import FormField, Raw
from darkroom.deployments.studio.static_files import PREFIX

FILE = "file."  # before the name of a field: the file that is brought for it


@dataclass(frozen=True, kw_only=True)
class Filled:
    """What was filled in, what is wrong with it by field, and where a file of a field is brought to."""

    raw: Raw = field(default_factory=dict)
    wrong: Mapping[str, str] = field(default_factory=dict)
    upload: str = ""

    def text(self, each: FormField) -> str:
        found = self.raw.get(each.name)
        return "\n".join(found) if found else ""


def show_fields(fields: Sequence[FormField], filled: Filled) -> Node:
    return [show_field(each, filled) for each in fields]


def show_field(each: FormField, filled: Filled) -> Node:
    """Show one field. A group is a set of fields of its own; files have a place to drop them."""
    if each.kind in ("group", "checks"):
        return _set(each, filled)
    if each.kind == "yes_no":
        return _yes_no(each, filled)
    said: Node = [_label(each), _control(each, filled), _hint(each), error_of(each, filled.wrong.get(each.name))]
    box = h.div(
        ".field", class_={"wide": each.kind in ("long", "file", "files", "lines", "json")}, id=f"box-{each.slug}"
    )
    nested: Node = (
        bool(each.inside)
        and h.div(".own-size")[h.span(".hint")["Or of your own:"], (show_field(part, filled) for part in each.inside)]
    )
    return box[said, nested, each.takes_files and _drop(each, filled)]


def error_of(each: FormField, text: str | None, *, live: bool = False) -> Node:
    """Show what is wrong with a field, in its place. `live`: into a page that is there."""
    # A place of its own, which the live quote fills without touching the control beside it, and what is being typed.
    swap = {"hx_swap_oob": "true"} if live else {}
    return h.p(".field-error", id=f"error-{each.slug}", dir="auto", aria_live="polite", **swap)[text]


def _label(each: FormField) -> Node:
    return h.label(".label", for_=f"in-{each.slug}", dir="auto")[
        each.label, each.required and h.span(".required")[" (required)"]
    ]


def _hint(each: FormField) -> Node:
    words = [each.hint, _bounds(each)]
    told = " ".join(word for word in words if word)
    return told and h.span(".hint", id=f"hint-{each.slug}", dir="auto")[told]


def _bounds(each: FormField) -> str:
    if each.kind == "number" and each.minimum is not None and each.maximum is not None:
        bounds = f"{plain(each.minimum)} to {plain(each.maximum)}"
        # Its own words have them already.
        if bounds in each.hint:
            return ""
        default = f"; as it is, {plain(each.default)}" if isinstance(each.default, int | float) else ""
        return f"{bounds}{default}."
    if each.kind in ("lines", "files"):
        return "One a line."
    return ""


def _common(each: FormField, filled: Filled) -> dict[str, Any]:
    # The error's place also where nothing is wrong: the live quote may fill it.
    about = [f"error-{each.slug}", *([f"hint-{each.slug}"] if each.hint or _bounds(each) else [])]
    return {
        "id": f"in-{each.slug}",
        "name": each.name,
        "aria_describedby": " ".join(about),
        "aria_invalid": "true" if each.name in filled.wrong else None,
        "dir": "auto",
    }


def _control(each: FormField, filled: Filled) -> Node:
    common, text = _common(each, filled), filled.text(each)
    match each.kind:
        case "choice":
            return _choice(each, text, common)
        case "number":
            return _number(each, text, common)
        case "long":
            return h.textarea(**common, placeholder=each.example or None, maxlength=each.longest)[text]
        case "lines" | "files" | "json":
            return h.textarea(".short", **common, placeholder="{ … }" if each.kind == "json" else None)[text]
        case "file":
            place = "ast_… or https://…" if each.bare else "asset:ast_… or https://…"
            return h.input(type="text", **common, value=text, placeholder=place)
        case _:
            shown = each.example or (each.default if isinstance(each.default, str) else None)
            return h.input(type="text", **common, value=text, placeholder=shown, maxlength=each.longest)


def _choice(each: FormField, text: str, common: dict[str, Any]) -> Node:
    as_it_is = f"As it is: {each.default}" if isinstance(each.default, str | int | float) else "As it is"
    # The empty choice is the model's own default, and is not in the order.
    first = h.option(value="", selected=not text)["Choose" if each.required and each.default is None else as_it_is]
    return h.select(**common)[
        first, (h.option(value=name, selected=name == text)[name.replace("_", " ")] for name in each.options)
    ]


def _number(each: FormField, text: str, common: dict[str, Any]) -> Node:
    bounds = {"min": _plain(each.minimum), "max": _plain(each.maximum), "step": "1" if each.whole else "any"}
    shown = plain(each.default) if isinstance(each.default, int | float) else None
    typed = h.input(type="number", **common, value=text, placeholder=shown, inputmode="decimal", **bounds)
    # Nobody meets a number with a slider that goes as far as a seed's.
    if each.minimum is None or each.maximum is None or each.maximum - each.minimum > 10_000:
        return typed
    # Shown by the script, which keeps both the same; without it the number is typed.
    # To six digits: a hundredth of a difference of floats is not round, and what is typed need not be one of the steps.
    step = "1" if each.whole else f"{(each.maximum - each.minimum) / 100:g}"
    slider = h.input(
        type="range",
        hidden=True,
        data_slides=common["id"],
        aria_label=f"{each.label}, slider",
        value=text or shown or plain(each.minimum),
        **(bounds | {"step": step}),
    )
    return h.span(".sliding")[slider, typed]


def _plain(number: float | None) -> str | None:
    return None if number is None else plain(number)


def _yes_no(each: FormField, filled: Filled) -> Node:
    """Show a box to tick, which says no, too."""
    said = filled.raw.get(each.name)
    ticked = said[-1] == "true" if said else each.default is True
    return h.div(".field", id=f"box-{each.slug}")[
        # A box that is not ticked is not sent: then this value before it is all there is.
        h.input(type="hidden", name=each.name, value="false"),
        h.label(".tick")[
            h.input(type="checkbox", **(_common(each, filled) | {"dir": None}), value="true", checked=ticked),
            h.span(dir="auto")[each.label],
        ],
        _hint(each),
        error_of(each, filled.wrong.get(each.name)),
    ]


def _set(each: FormField, filled: Filled) -> Node:
    legend = h.legend(".label", dir="auto")[each.label, each.required and h.span(".required")[" (required)"]]
    error = error_of(each, filled.wrong.get(each.name))
    if each.kind == "group":
        return h.fieldset(".field.wide")[legend, _hint(each), h.div(".fields")[show_fields(each.inside, filled)], error]
    chosen = filled.raw.get(each.name, [])
    # What was chosen comes first, as the order of it may matter; a choice with its own options is shown as it is.
    names = [*chosen, *(name for name in each.options if name not in chosen)]
    boxes = (
        h.label(".tick")[
            h.input(type="checkbox", name=each.name, value=name, checked=name in chosen),
            h.span(dir="auto")[name if name.startswith("{") else name.replace("_", " ")],
        ]
        for name in names
    )
    return h.fieldset(".field.wide")[legend, h.div(".ticks")[boxes], _hint(each), error]


def _drop(each: FormField, filled: Filled) -> Node:
    """Offer a place for a file: brought at once where there are scripts, else with the form."""
    return h.div(".drop")[
        h.label(for_=f"file-{each.slug}")["Drop a file here, or choose one"],
        h.input(
            type="file",
            id=f"file-{each.slug}",
            name=f"{FILE}{each.name}",
            multiple=each.kind == "files",
            hx_post=filled.upload and f"{filled.upload}&field={each.name}",
            hx_encoding="multipart/form-data",
            hx_trigger="change",
            # This field alone: what is typed in the others stays.
            hx_target=f"#box-{each.slug}",
            hx_swap="outerHTML",
        ),
        _see(each, filled.text(each)),
    ]


def _see(each: FormField, text: str) -> Node:
    """Lead to the file that a field names."""
    asset_id = text.strip().removeprefix("asset:")
    # It goes into an address, in which nothing but an id may be.
    is_one = each.kind == "file" and asset_id.startswith("ast_") and asset_id.replace("-", "_").isidentifier()
    return is_one and link("See the file", f"{PREFIX}/gallery/{asset_id}", kind="quiet")
