"""fal.ai: the account, the queue, the models, the webhooks and the files, behind one door."""

from __future__ import annotations

from darkroom.providers.fal.account import FalAccount
from darkroom.providers.fal.answers import ProviderResult, ProviderStatus, Submitted
from darkroom.providers.fal.client import Fal
from darkroom.providers.fal.failures import classify_failure, classify_webhook_error, may_pass
from darkroom.providers.fal.jwks import Jwks
from darkroom.providers.fal.webhook import WebhookEnvelope, verify_webhook

__all__ = [
    "Fal",
    "FalAccount",
    "Jwks",
    "ProviderResult",
    "ProviderStatus",
    "Submitted",
    "WebhookEnvelope",
    "classify_failure",
    "classify_webhook_error",
    "may_pass",
    "verify_webhook",
]
