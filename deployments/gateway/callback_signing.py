"""Signatures of callbacks, as Standard Webhooks has them, and the secrets that make them.

A secret is derived from the salt in its owner's row with the installation's signing key, by an HMAC. Whoever changes
the signing key changes all secrets with it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

from darkroom.ledger import CallbackEndpoint
from darkroom.settings import Settings

PREFIX = "whsec_"  # as the standard's libraries take a secret, before its base64


def secret_of(salt: str, settings: Settings) -> bytes:
    # Derived and not kept: neither the ledger nor a copy of it signs anything, and every gateway knows every secret.
    # The first line keeps what else is signed by this key from being taken for a secret.
    key = settings.signing_key.get_secret_value().encode()
    return hmac.new(key, f"callback\n{salt}".encode(), hashlib.sha256).digest()


def as_text(secret: bytes) -> str:
    return PREFIX + base64.b64encode(secret).decode()


def secrets_of(endpoint: CallbackEndpoint, settings: Settings, *, now: datetime) -> list[bytes]:
    """Return the secrets that sign now: two while a rotation lasts, the newer one first."""
    salts = [endpoint.salt]
    if endpoint.salt_before is not None and endpoint.before_until is not None and now < endpoint.before_until:
        salts.append(endpoint.salt_before)  # a receiver may not have the new secret yet
    return [secret_of(salt, settings) for salt in salts]


def signed(id: str, body: bytes, secrets: Sequence[bytes], *, now: datetime) -> dict[str, str]:
    """Return the headers by which a receiver knows the body for ours: its id, when it was sent, and signatures."""
    timestamp = str(int(now.timestamp()))
    content = f"{id}.{timestamp}.".encode() + body
    # Of several, with a blank between them, a receiver takes the one that it can verify; `v1` is HMAC-SHA256.
    signatures = (base64.b64encode(hmac.new(each, content, hashlib.sha256).digest()).decode() for each in secrets)
    return {
        "webhook-id": id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{each}" for each in signatures),
    }
