"""The ElevenLabs account as a Prefect block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, SecretStr

from darkroom.extras import needs_extra
from darkroom.providers.account import KeyAccount
from darkroom.providers.base import Model
from darkroom.providers.elevenlabs.provider import Speech


class ElevenLabsAccount(KeyAccount):
    """Access to ElevenLabs: speech is made there."""

    _description: ClassVar[str | None] = "The ElevenLabs account that makes speech and is billed."

    account_id: ClassVar[str] = "elevenlabs"
    title: ClassVar[str] = "ElevenLabs"
    keys_at: ClassVar[str] = "https://elevenlabs.io/app/settings/api-keys"
    # ElevenLabs' plans allow 2 calls at once (Free), 3 (Starter), 5 (Creator) and more.
    slots: ClassVar[int] = 3
    immediate: ClassVar[bool] = True
    client_modules: ClassVar[tuple[str, ...]] = ("elevenlabs.client",)
    said_by: ClassVar[Mapping[str, str]] = {"key": "ELEVENLABS_API_KEY"}

    key: SecretStr = Field(title="API key", description="From elevenlabs.io/app/settings/api-keys.", min_length=1)

    @classmethod
    def models(cls) -> Mapping[str, Model]:
        from darkroom.providers.elevenlabs.model import CATALOGUE

        return CATALOGUE

    def provider(self) -> Speech:
        with needs_extra("debate"):
            return Speech(self.key.get_secret_value())
