"""The ElevenLabs account as a Prefect block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import Field, HttpUrl, SecretStr

from darkroom.extras import needs_extra
from darkroom.providers.account import ProviderAccount
from darkroom.providers.base import Model
from darkroom.providers.elevenlabs.provider import Speech
from darkroom.settings import Settings


class ElevenLabsAccount(ProviderAccount):
    """Access to ElevenLabs: speech is made there."""

    _block_type_name: ClassVar[str | None] = "ElevenLabs account"
    _block_type_slug: ClassVar[str | None] = "elevenlabs-account"
    _description: ClassVar[str | None] = "The ElevenLabs account that makes speech and is billed."
    _documentation_url: ClassVar[HttpUrl | None] = HttpUrl("https://elevenlabs.io/app/settings/api-keys")

    account_id: ClassVar[str] = "elevenlabs"
    slots: ClassVar[int] = 3
    immediate: ClassVar[bool] = True
    variables: ClassVar[tuple[str, ...]] = ("ELEVENLABS_API_KEY",)

    key: SecretStr = Field(title="API key", description="From elevenlabs.io/app/settings/api-keys.", min_length=1)

    @classmethod
    def models(cls) -> Mapping[str, Model]:
        from darkroom.providers.elevenlabs.model import CATALOGUE

        return CATALOGUE

    def provider(self) -> Speech:
        with needs_extra("debate"):
            return Speech(self.key.get_secret_value())

    @classmethod
    def given(cls, settings: Settings) -> Self | None:
        return cls(key=settings.elevenlabs_api_key) if settings.elevenlabs_api_key else None
