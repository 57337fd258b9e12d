"""The logos of blocks in Prefect's UI.

Prefect has them at GitHub and elsewhere, and each look at a page of blocks would ask there for forty. On a private
network they are broken, and elsewhere they tell others who looks at what. So they are left out.
"""

from __future__ import annotations

from darkroom.orchestrator.api import PrefectApi


def leave_out_logos(api: PrefectApi) -> None:
    """Take the addresses away that a browser would ask."""
    for each in list(api.all_of("/block_types/filter", {})):
        if each["logo_url"] is not None:
            api.call("PATCH", f"/block_types/{each['id']}", json={"logo_url": None})
