"""The providers beside fal, put together: Gemini, ElevenLabs and Mux, and the book of what was asked of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.types import ASGIApp

from .calls import Calls, Which
from .calls_api import CallsApi
from .elevenlabs_api import ElevenLabsApi, ElevenLabsError, answer_elevenlabs_error
from .gemini_api import GeminiApi, GeminiError, answer_gemini_error
from .hosts import Role
from .mux_api import MuxApi, MuxError, answer_mux_error
from .mux_assets import Announcer
from .mux_book import MuxBook

# Times the simulator's own latency: a text and a voice take as long as a picture, a stream half of that.
PACES: Mapping[str, float] = {Which.GEMINI.value: 1.0, Which.ELEVENLABS.value: 1.0, Which.MUX.value: 0.5}


class Others:
    def __init__(self, announcer: Announcer, *, home: Path, latency: float, latency_of: Mapping[str, float]) -> None:
        seconds = {name: latency_of.get(name, pace * latency) for name, pace in PACES.items()}
        self.calls = Calls()
        self._announcer = announcer
        self._gemini = GeminiApi(self.calls, latency=seconds["gemini"])
        self._elevenlabs = ElevenLabsApi(self.calls, latency=seconds["elevenlabs"])
        self._mux = MuxApi(self.calls, announcer, MuxBook(home / "mux"), latency=seconds["mux"])

    def go_on(self) -> None:
        """Take up what an earlier process has left."""
        # The answers of the other two are given at once or not at all.
        self._mux.go_on()

    def applications(self) -> dict[Role, ASGIApp]:
        mux: dict[Any, Any] = {MuxError: answer_mux_error}
        return {
            Role.GEMINI: Starlette(routes=self._gemini.routes(), exception_handlers={GeminiError: answer_gemini_error}),
            Role.ELEVENLABS: Starlette(
                routes=self._elevenlabs.routes(), exception_handlers={ElevenLabsError: answer_elevenlabs_error}
            ),
            Role.MUX: Starlette(routes=self._mux.routes(), exception_handlers=mux),
            Role.MUX_STORAGE: Starlette(routes=self._mux.storage_routes(), exception_handlers=mux),
        }

    def operator_api(self) -> CallsApi:
        return CallsApi(self.calls, self._announcer)

    async def close(self) -> None:
        await self._mux.close()
