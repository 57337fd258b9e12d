"""fal.ai: the account, the queue, the models, the webhooks and the files, behind one door."""

from __future__ import annotations

from blocks.fal.account import DEFAULT_ACCOUNT, FalAccount
from blocks.fal.answers import ProviderResult, ProviderStatus, Sent, Submitted
from blocks.fal.catalogue import CATALOGUE
from blocks.fal.client import SUBMIT_PATIENCE, Fal
from blocks.fal.failures import classify_failure, classify_webhook_error, is_outcome, may_pass
from blocks.fal.files import fetch_file, file_client
from blocks.fal.jwks import Jwks
from blocks.fal.model import Model, Unit
from blocks.fal.webhook import Rejection, WebhookEnvelope, WebhookRejected, verify_webhook

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
