"""Operators: all of it, for all: the queue, runs, users with their keys, plans, what has failed, and models.

One file for each of its pages, which are the tabs of the screen. All of them ask the admin API, so they open for the
scope `admin` alone.
"""

from __future__ import annotations

from darkroom.deployments.studio.routes.operators import dead_letters, models, plans, queue, runs, users
from darkroom.deployments.studio.screens import Screen

router = queue.router
for part in (runs, users, plans, dead_letters, models):
    router.routes.extend(part.router.routes)
SCREEN = Screen("Operators", "/operators", router, scope="admin")
