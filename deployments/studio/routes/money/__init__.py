"""Money: what was spent and may be spent yet, what your application was told, and your keys.

One file for each of its pages, which are the tabs of the screen.
"""

from __future__ import annotations

from darkroom.deployments.studio.routes.money import callbacks, keys, spending
from darkroom.deployments.studio.screens import Screen

router = spending.router
for part in (callbacks, keys):
    router.routes.extend(part.router.routes)
SCREEN = Screen("Money", "/money", router)
