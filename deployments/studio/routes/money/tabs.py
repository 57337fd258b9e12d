"""The pages of the screen."""

from __future__ import annotations

from htpy import Node

from darkroom.deployments.studio.money_parts import tabs
from darkroom.deployments.studio.static_files import PREFIX

AT = f"{PREFIX}/money"
PAGES = {"": "Spending", "/callbacks": "Callbacks", "/keys": "Keys"}


def pages(here: str) -> Node:
    return tabs(AT, PAGES, here, label="Money")
