"""Gemini at Google: a text for a prompt, or JSON that obeys a schema."""

from __future__ import annotations

from blocks.gemini.account import GeminiAccount
from blocks.gemini.model import CATALOGUE, GeminiModel
from blocks.gemini.provider import Gemini

__all__ = ["CATALOGUE", "Gemini", "GeminiAccount", "GeminiModel"]
