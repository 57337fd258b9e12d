"""Tokens by which a browser reads the stream of one user: made for its backend, which has a key, and good for an hour.

A token says whose news it opens, perhaps of one job, until when, and by whose key it was made; an HMAC with the
installation's signing key keeps all of that as it is. So nothing is on record of it, and it ends with its key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from darkroom.settings import Settings

LIFETIME = timedelta(hours=1)
LONGEST = 1000  # characters


@dataclass(frozen=True, kw_only=True)
class ReadToken:
    user_id: str
    job_id: str | None
    expires: int  # Unix seconds
    key: str  # digest of the key by which it was made: a page reads it, and finds no key by it

    @property
    def expires_at(self) -> datetime:
        return datetime.fromtimestamp(self.expires, UTC)


def write_token(token: ReadToken, settings: Settings) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(asdict(token)).encode()).decode().rstrip("=")
    return f"{payload}.{_signature(payload, settings)}"


def read_token(text: str, settings: Settings, *, now: datetime) -> ReadToken | None:
    """Return what the token says; None where it was not made here, or has run out."""
    payload, _, signature = text.partition(".")
    # Before anything of it is read: only what was written here is decoded. As bytes: of texts it compares ASCII alone.
    if not hmac.compare_digest(_signature(payload, settings).encode(), signature.encode()):
        return None
    try:
        token = ReadToken(**json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))
    except (binascii.Error, ValueError, TypeError):  # ours, of a version with other fields
        return None
    return token if token.expires > now.timestamp() else None


def _signature(payload: str, settings: Settings) -> str:
    # The first line keeps a signature of anything else under this key from being taken for a token's.
    key = settings.signing_key.get_secret_value().encode()
    return hmac.new(key, f"stream\n{payload}".encode(), hashlib.sha256).hexdigest()
