"""The logos of blocks in Prefect's UI.

Prefect has them at GitHub and elsewhere, and each look at a page of blocks would ask there for forty. On a private
network they are broken, and elsewhere they tell others who looks at what. So they are left out. Prefect writes its
addresses back when it registers a kind of block, so it is looked after with each provisioning.
"""

from __future__ import annotations

from typing import Any

from darkroom.orchestrator.api import PrefectApi

MOST_PER_PAGE = 200  # Prefect's own bound


def leave_out_logos(api: PrefectApi) -> None:
    """Take the addresses away that a browser would ask."""
    for each in _block_types(api):
        if each["logo_url"] is not None:
            api.call("PATCH", f"/block_types/{each['id']}", json={"logo_url": None})


def _block_types(api: PrefectApi) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = api.call("POST", "/block_types/filter", json={"limit": MOST_PER_PAGE, "offset": len(found)})
        found += page
        if len(page) < MOST_PER_PAGE:
            return found
