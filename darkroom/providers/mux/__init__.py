"""Mux: a film becomes a stream that people can watch."""

from __future__ import annotations

from darkroom.providers.mux.account import MuxAccount
from darkroom.providers.mux.api import MuxApi
from darkroom.providers.mux.model import CATALOGUE, MuxModel
from darkroom.providers.mux.outcomes import asset_outcome
from darkroom.providers.mux.provider import Mux
from darkroom.providers.mux.webhook import AssetEvent, verify_webhook

__all__ = [
    "CATALOGUE",
    "AssetEvent",
    "Mux",
    "MuxAccount",
    "MuxApi",
    "MuxModel",
    "asset_outcome",
    "verify_webhook",
]
