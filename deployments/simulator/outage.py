"""A time in which fal is out of service, in one of two ways."""

from __future__ import annotations

import time
from enum import StrEnum


class OutageMode(StrEnum):
    NGINX = "nginx"  # the ingress answers 503 with its own page
    REFUSE = "refuse"  # no connection is made, and open ones break


class Outage:
    """Requests that are already queued go on inside; only the doors are shut."""

    def __init__(self) -> None:
        self._until = 0.0
        self._mode = OutageMode.NGINX

    def begin(self, seconds: float, *, mode: OutageMode) -> None:
        self._until = time.monotonic() + seconds
        self._mode = mode

    @property
    def mode(self) -> OutageMode | None:
        return self._mode if time.monotonic() < self._until else None

    @property
    def refuses_connections(self) -> bool:
        return self.mode is OutageMode.REFUSE
