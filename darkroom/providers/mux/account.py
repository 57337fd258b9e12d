"""The Mux account as a Prefect block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, SecretStr

from darkroom.extras import needs_extra
from darkroom.providers.account import KeyAccount
from darkroom.providers.base import Model
from darkroom.providers.mux.api import MuxApi
from darkroom.providers.mux.provider import Mux
from darkroom.providers.webhooks import WebhookReceiver
from darkroom.settings import Settings


class MuxAccount(KeyAccount):
    """Access to one environment at Mux: films are streamed from there."""

    _description: ClassVar[str | None] = "The Mux environment that films are uploaded to and streamed from."

    account_id: ClassVar[str] = "mux"
    title: ClassVar[str] = "Mux"
    keys_at: ClassVar[str] = "https://dashboard.mux.com/settings/access-tokens"
    slots: ClassVar[int] = 5
    client_modules: ClassVar[tuple[str, ...]] = ("mux_python",)
    said_by: ClassVar[Mapping[str, str]] = {"token_id": "MUX_TOKEN_ID", "token_secret": "MUX_TOKEN_SECRET"}

    token_id: str = Field(
        title="Token id", description="Of an access token with Mux Video read and write.", min_length=1
    )
    token_secret: SecretStr = Field(title="Token secret", description="Shown once, when it is made.", min_length=1)

    @classmethod
    def models(cls) -> Mapping[str, Model]:
        from darkroom.providers.mux.model import CATALOGUE

        return CATALOGUE

    @classmethod
    def sends_webhooks(cls, settings: Settings) -> bool:
        return settings.mux_webhook_secret is not None

    @classmethod
    def receiver(cls, settings: Settings) -> WebhookReceiver:
        from darkroom.providers.mux.receiver import MuxReceiver

        return MuxReceiver(settings.mux_webhook_secret)

    def provider(self) -> Mux:
        with needs_extra("debate"):
            return Mux(MuxApi(self.token_id, self.token_secret.get_secret_value()))
