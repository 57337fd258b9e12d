"""The pages of the screen, and the form fields that several of them have."""

from __future__ import annotations

import htpy as h
from htpy import Node
from starlette.datastructures import FormData

from darkroom.deployments.studio.money_parts import tabs
from darkroom.deployments.studio.parts import field
from darkroom.deployments.studio.static_files import PREFIX

AT = f"{PREFIX}/operators"
PAGES = {
    "": "Queue",
    "/runs": "Runs",
    "/users": "Users",
    "/plans": "Plans",
    "/dead-letters": "Dead letters",
    "/models": "Models",
}
SCOPES = {"orders": "orders", "read": "read", "events": "events", "admin": "admin: everything, of everybody"}


def pages(here: str) -> Node:
    return tabs(AT, PAGES, here, label="Operators")


def text(form: FormData, name: str) -> str:
    given = form.get(name)
    return given.strip() if isinstance(given, str) else ""


def number(label: str, name: str, value: object, *, hint: str | None = None, required: bool = False) -> Node:
    """Ask for a number."""
    # As text: a field for numbers is sent empty where what was typed is none, so it would not be there any more to be
    # mended when the API has refused it.
    shown = "" if value is None else str(value)
    return field(label, h.input(name=name, value=shown, inputmode="decimal", required=required), hint=hint)


def scopes_field(chosen: list[str]) -> Node:
    return h.fieldset(".checks")[
        h.legend(".label")["Good for"],
        (
            h.label[h.input(type="checkbox", name="scopes", value=name, checked=name in chosen), " ", shown]
            for name, shown in SCOPES.items()
        ),
    ]
