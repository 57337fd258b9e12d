"""ElevenLabs: a text becomes speech."""

from __future__ import annotations

from blocks.elevenlabs.account import ElevenLabsAccount
from blocks.elevenlabs.model import CATALOGUE, SpeechModel
from blocks.elevenlabs.provider import Speech

__all__ = ["CATALOGUE", "ElevenLabsAccount", "Speech", "SpeechModel"]
