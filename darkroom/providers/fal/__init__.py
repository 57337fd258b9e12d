"""fal.ai: the account, the queue, the models, the webhooks and the files, behind one door."""

from __future__ import annotations

from darkroom.providers.fal.account import DEFAULT_ACCOUNT, FalAccount
from darkroom.providers.fal.answers import ProviderResult, ProviderStatus, Sent, Submitted
from darkroom.providers.fal.catalogue import CATALOGUE
from darkroom.providers.fal.client import SUBMIT_PATIENCE, Fal
from darkroom.providers.fal.failures import classify_failure, classify_webhook_error, is_outcome, may_pass
from darkroom.providers.fal.files import fetch_file, file_client
from darkroom.providers.fal.jwks import Jwks
from darkroom.providers.fal.model import Model, Unit
from darkroom.providers.fal.webhook import Rejection, WebhookEnvelope, WebhookRejected, verify_webhook

__all__ = [
    "CATALOGUE",
    "DEFAULT_ACCOUNT",
    "SUBMIT_PATIENCE",
    "Fal",
    "FalAccount",
    "Jwks",
    "Model",
    "ProviderResult",
    "ProviderStatus",
    "Rejection",
    "Sent",
    "Submitted",
    "Unit",
    "WebhookEnvelope",
    "WebhookRejected",
    "classify_failure",
    "classify_webhook_error",
    "fetch_file",
    "file_client",
    "is_outcome",
    "may_pass",
    "verify_webhook",
]
