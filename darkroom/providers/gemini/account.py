"""The Gemini account as a Prefect block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import Field, HttpUrl, SecretStr

from darkroom.extras import needs_extra
from darkroom.providers.account import ProviderAccount
from darkroom.providers.base import Model
from darkroom.providers.gemini.provider import Gemini
from darkroom.settings import Settings


class GeminiAccount(ProviderAccount):
    """Access to Gemini: scripts and other texts are written there."""

    _block_type_name: ClassVar[str | None] = "Gemini account"
    _block_type_slug: ClassVar[str | None] = "gemini-account"
    _description: ClassVar[str | None] = "The Google account that writes texts with Gemini and is billed."
    _documentation_url: ClassVar[HttpUrl | None] = HttpUrl("https://aistudio.google.com/apikey")

    account_id: ClassVar[str] = "gemini"
    slots: ClassVar[int] = 5
    immediate: ClassVar[bool] = True
    variables: ClassVar[tuple[str, ...]] = ("GEMINI_API_KEY",)

    key: SecretStr = Field(title="API key", description="From aistudio.google.com/apikey.", min_length=1)

    @classmethod
    def models(cls) -> Mapping[str, Model]:
        from darkroom.providers.gemini.model import CATALOGUE

        return CATALOGUE

    def provider(self) -> Gemini:
        with needs_extra("debate"):
            return Gemini(self.key.get_secret_value())

    @classmethod
    def given(cls, settings: Settings) -> Self | None:
        return cls(key=settings.gemini_api_key) if settings.gemini_api_key else None
