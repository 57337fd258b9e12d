"""fal's side of webhook signatures: Ed25519 keys, the JWKS that publishes them, and the signed headers.

The keys are kept in `HOME/webhook-keys.pem`, newest first, so that a receiver's cached JWKS survives a restart.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from .certificates import write_atomically, write_once

_PUBLISHED_KEYS = 2  # after a rotation the last one stays, for deliveries that are still under way
_PEM_BLOCK = re.compile(rb"-----BEGIN PRIVATE KEY-----.*?-----END PRIVATE KEY-----\n", re.DOTALL)


class SigningKeys:
    def __init__(self, home: Path) -> None:
        self._path = home / "webhook-keys.pem"
        self._keys = _load(self._path)
        if not self._keys:
            self.rotate()

    def rotate(self) -> None:
        self._keys = [Ed25519PrivateKey.generate(), *self._keys][:_PUBLISHED_KEYS]
        write_atomically(self._path, b"".join(_to_pem(key) for key in self._keys))

    @property
    def current(self) -> Ed25519PrivateKey:
        return self._keys[0]

    def jwks(self) -> dict[str, Any]:
        return {"keys": [_jwk(key) for key in self._keys]}


def signed_headers(
    body: bytes, *, key: Ed25519PrivateKey, request_id: str, user_id: str, timestamp: int
) -> dict[str, str]:
    # By fal's page of webhooks: one line feed between each two and none at the end, the body by its hash.
    message = "\n".join([request_id, user_id, str(timestamp), hashlib.sha256(body).hexdigest()])
    return {
        "X-Fal-Webhook-Request-Id": request_id,
        "X-Fal-Webhook-User-Id": user_id,
        "X-Fal-Webhook-Timestamp": str(timestamp),
        "X-Fal-Webhook-Signature": key.sign(message.encode()).hex(),
    }


def mux_webhook_secret(home: Path) -> str:
    """Return the one secret that Mux has with its receiver.

    Mux is the other provider that signs. The first caller makes the secret.
    """
    path = home / "mux-webhook-secret"
    # The simulator, and who prepares a client's environment for it, may each be the first.
    if not path.exists():
        write_once(path, secrets.token_hex(24).encode())
    return path.read_text()


def _jwk(key: Ed25519PrivateKey) -> dict[str, str]:
    raw = key.public_key().public_bytes_raw()
    # base64url without padding: receivers have to add it themselves.
    x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    # Of fal's own fields only kty, crv and x are known.
    return {"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": hashlib.sha256(raw).hexdigest()[:16], "x": x}


def _load(path: Path) -> list[Ed25519PrivateKey]:
    if not path.exists():
        return []
    keys = [load_pem_private_key(block, password=None) for block in _PEM_BLOCK.findall(path.read_bytes())]
    return [key for key in keys if isinstance(key, Ed25519PrivateKey)]


def _to_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
