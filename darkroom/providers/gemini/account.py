"""The Gemini account as a Prefect block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, SecretStr

from darkroom.extras import needs_extra
from darkroom.providers.account import KeyAccount
from darkroom.providers.base import Model
from darkroom.providers.gemini.provider import Gemini


class GeminiAccount(KeyAccount):
    """Access to Gemini: scripts and other texts are written there."""

    _description: ClassVar[str | None] = "The Google account that writes texts with Gemini and is billed."

    account_id: ClassVar[str] = "gemini"
    title: ClassVar[str] = "Gemini"
    keys_at: ClassVar[str] = "https://aistudio.google.com/apikey"
    slots: ClassVar[int] = 5
    immediate: ClassVar[bool] = True
    client_modules: ClassVar[tuple[str, ...]] = ("google.genai.types",)
    said_by: ClassVar[Mapping[str, str]] = {"key": "GEMINI_API_KEY"}

    key: SecretStr = Field(title="API key", description="From aistudio.google.com/apikey.", min_length=1)

    @classmethod
    def models(cls) -> Mapping[str, Model]:
        from darkroom.providers.gemini.model import CATALOGUE

        return CATALOGUE

    def provider(self) -> Gemini:
        with needs_extra("debate"):
            return Gemini(self.key.get_secret_value())
