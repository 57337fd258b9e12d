"""fal's public keys for webhooks: fetched once, kept for hours, fetched again when a signature does not hold."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from darkroom.errors import Retry
from darkroom.providers.fal.webhook import WebhookEnvelope, read_signature, verify_webhook
from darkroom.providers.webhooks import Rejection, WebhookRejected
from darkroom.tls import tls_context

JWKS_URL = "https://rest.fal.ai/.well-known/jwks.json"
FETCH_TIMEOUT = httpx.Timeout(3.0)  # a webhook waits for it
REFRESH_AFTER = 12 * 3600.0  # then the address may be out for as long again, and the keys serve on
FORGET_AFTER = 24 * 3600.0  # fal allows them to be kept no longer
# A rotation shows only as signatures that fail, and so does a forger at work.
REFETCH_INTERVAL = 10.0
FIRST_FETCH_INTERVAL = 1.0  # without any key every webhook is turned away, so the first is worth more tries


class Jwks:
    """Thread-safe. `transport` and `clock` (seconds, monotonic) are the seams for tests."""

    def __init__(
        self,
        *,
        url: str = JWKS_URL,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._transport = transport
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: list[Ed25519PublicKey] = []
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")

    def keys(self, *, refetch: bool = False) -> list[Ed25519PublicKey]:
        """Return the keys to verify with. Raise Retry(code="jwks_unavailable") while there are none."""
        if refetch or self._age() > REFRESH_AFTER:
            with self._lock:
                self._fetch_unless_just_tried()
        if not self._keys or self._age() > FORGET_AFTER:
            raise Retry("fal's webhook keys cannot be fetched", code="jwks_unavailable")
        return self._keys

    def verify(self, headers: Mapping[str, str], body: bytes, now: datetime) -> WebhookEnvelope:
        """Verify as `verify_webhook`, with the keys of the day and, if they do not fit, those of this minute."""
        read_signature(headers, now)  # what a stranger sends has none: no key is fetched for that
        keys = self.keys()
        try:
            return verify_webhook(headers, body, keys=keys, now=now)
        except WebhookRejected as rejected:
            if rejected.reason is not Rejection.BAD_SIGNATURE:
                raise
            fresh = self.keys(refetch=True)
            if fresh is keys:  # no newer ones were fetched
                raise
        return verify_webhook(headers, body, keys=fresh, now=now)

    def _age(self) -> float:
        return self._clock() - self._fetched_at

    def _fetch_unless_just_tried(self) -> None:
        now = self._clock()
        if now - self._tried_at < (REFETCH_INTERVAL if self._keys else FIRST_FETCH_INTERVAL):
            return
        # Also for a fetch that fails: else each webhook of a burst would wait for the dead address.
        self._tried_at = now
        if keys := self._fetch():
            self._keys = keys
            self._fetched_at = now

    def _fetch(self) -> list[Ed25519PublicKey]:
        try:
            with httpx.Client(transport=self._transport, timeout=FETCH_TIMEOUT, verify=tls_context()) as http:
                return read_jwks(http.get(self._url).raise_for_status().json())
        except (httpx.HTTPError, ValueError):
            # The address is out, or something else answers there: the keys that are known serve on.
            return []


def read_jwks(document: object) -> list[Ed25519PublicKey]:
    """Read the Ed25519 keys of a JWKS; pass over what else is in it."""
    entries = document.get("keys") if isinstance(document, dict) else None
    found = [_read_key(entry) for entry in entries] if isinstance(entries, list) else []
    return [key for key in found if key]


def _read_key(entry: object) -> Ed25519PublicKey | None:
    x = entry.get("x") if isinstance(entry, dict) and entry.get("crv", "Ed25519") == "Ed25519" else None
    if not isinstance(x, str):
        return None
    try:
        # base64url without its padding, which the decoder insists on
        return Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(x + "=" * (-len(x) % 4)))
    except ValueError:
        return None
