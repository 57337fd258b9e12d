"""ElevenLabs: a text becomes speech."""

from __future__ import annotations

from darkroom.providers.elevenlabs.account import ElevenLabsAccount
from darkroom.providers.elevenlabs.model import CATALOGUE, SpeechModel
from darkroom.providers.elevenlabs.provider import Speech

__all__ = ["CATALOGUE", "ElevenLabsAccount", "Speech", "SpeechModel"]
