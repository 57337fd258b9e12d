"""Replicate as a provider of Darkroom: its account, by which the package registers itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, SecretStr

from darkroom.providers.account import KeyAccount
from darkroom.providers.base import Model, Provider
from darkroom.providers.webhooks import WebhookReceiver
from darkroom.settings import Settings
from darkroom_replicate.models import MODELS
from darkroom_replicate.provider import BASE, Replicate, ReplicateReceiver

TOKEN, WEBHOOK_SECRET, API_BASE = "REPLICATE_API_TOKEN", "REPLICATE_WEBHOOK_SECRET", "REPLICATE_API_BASE"


class ReplicateAccount(KeyAccount):
    """Access to one account at Replicate: pictures are made there."""

    _description: ClassVar[str | None] = "The Replicate account that makes pictures and is billed."

    account_id: ClassVar[str] = "replicate"
    title: ClassVar[str] = "Replicate"
    keys_at: ClassVar[str] = "https://replicate.com/account/api-tokens"
    slots: ClassVar[int] = 10
    said_by: ClassVar[Mapping[str, str]] = {"api_token": TOKEN, "webhook_secret": WEBHOOK_SECRET}

    api_token: SecretStr = Field(title="API token", description="From replicate.com/account/api-tokens.", min_length=1)
    webhook_secret: SecretStr | None = Field(
        None, title="Webhook signing secret", description="whsec_…, from GET /v1/webhooks/default/secret."
    )

    @classmethod
    def models(cls) -> Mapping[str, Model]:
        return MODELS

    @classmethod
    def sends_webhooks(cls, settings: Settings) -> bool:
        return bool(os.environ.get(WEBHOOK_SECRET))

    @classmethod
    def receiver(cls, settings: Settings) -> WebhookReceiver:
        return ReplicateReceiver(secret=os.environ.get(WEBHOOK_SECRET))

    def provider(self) -> Provider:
        return Replicate(self.api_token.get_secret_value(), base=os.environ.get(API_BASE) or BASE)
