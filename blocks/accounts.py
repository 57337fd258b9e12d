"""The accounts beside fal's, which an installation has or not: jobs that need none of them do without."""

from __future__ import annotations

from blocks.credentials import ProviderAccount
from blocks.elevenlabs import ElevenLabsAccount
from blocks.gemini import GeminiAccount
from blocks.mux import MuxAccount

OTHERS: tuple[type[ProviderAccount], ...] = (GeminiAccount, ElevenLabsAccount, MuxAccount)
