"""The accounts beside fal's, which an installation has or not: jobs that need none of them do without.

`CONFIGURED` are all blocks that the environment may name and `darkroom provision` makes.
"""

from __future__ import annotations

from blocks.credentials import Configured, ProviderAccount
from blocks.elevenlabs import ElevenLabsAccount
from blocks.gemini import GeminiAccount
from blocks.mux import MuxAccount
from blocks.notifier import Notifier
from blocks.payments import PaymentAccount

OTHERS: tuple[type[ProviderAccount], ...] = (GeminiAccount, ElevenLabsAccount, MuxAccount)
CONFIGURED: tuple[type[Configured], ...] = (*OTHERS, Notifier, PaymentAccount)
