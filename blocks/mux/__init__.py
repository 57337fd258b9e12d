"""Mux: a film becomes a stream that people can watch."""

from __future__ import annotations

from blocks.mux.account import MuxAccount
from blocks.mux.api import MuxApi
from blocks.mux.model import CATALOGUE, MuxModel
from blocks.mux.outcomes import asset_outcome
from blocks.mux.provider import Mux
from blocks.mux.webhook import AssetEvent, verify_webhook

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
