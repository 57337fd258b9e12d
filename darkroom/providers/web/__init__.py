"""The open web: files at addresses that users give us."""

from __future__ import annotations

from darkroom.providers.web.addresses import Reach
from darkroom.providers.web.fetching import MAX_BYTES, Web

__all__ = ["MAX_BYTES", "Reach", "Web"]
