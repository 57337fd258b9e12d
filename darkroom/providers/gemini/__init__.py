"""Gemini at Google: a text for a prompt, or JSON that obeys a schema."""

from __future__ import annotations

from darkroom.providers.gemini.account import GeminiAccount
from darkroom.providers.gemini.model import CATALOGUE, GeminiModel
from darkroom.providers.gemini.provider import Gemini

__all__ = ["CATALOGUE", "Gemini", "GeminiAccount", "GeminiModel"]
