"""The keys that the providers beside fal know. Whoever has them pays nothing."""

from __future__ import annotations

GEMINI_KEY = "sim:gemini"
ELEVENLABS_KEY = "sim:elevenlabs"
MUX_TOKEN_ID = "sim-mux-token"
MUX_TOKEN_SECRET = "sim:mux"
