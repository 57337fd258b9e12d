"""The screens, one file each, in the order of the navigation."""

from __future__ import annotations

from darkroom.deployments.studio.routes import batches, gallery, loras, money, operators, order, watch
from darkroom.deployments.studio.screens import Screen

SCREENS: tuple[Screen, ...] = (
    order.SCREEN,
    watch.SCREEN,
    gallery.SCREEN,
    batches.SCREEN,
    loras.SCREEN,
    money.SCREEN,
    operators.SCREEN,
)
