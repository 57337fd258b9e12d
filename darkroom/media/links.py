"""Links to assets that need no bearer: browsers and Prefect's UI send none.

A link carries its expiry and an HMAC-SHA256 over the asset's id and that expiry, with the installation's signing key.
So it opens this one file until then, and nobody without the key can make another or prolong it.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timedelta
from urllib.parse import urlencode

from darkroom.clock import utc_now
from darkroom.errors import NeedsHuman
from darkroom.settings import Settings

LINK_LIFETIME = timedelta(hours=1)
ARTIFACT_LIFETIME = timedelta(days=30)  # in Prefect's UI, where a run is looked at for as long


def asset_url(
    asset_id: str, settings: Settings, *, lifetime: timedelta = LINK_LIFETIME, now: datetime | None = None
) -> str:
    """Return a signed address of the asset on the gateway. Raise NeedsHuman where there is no signing key."""
    expires = int(((now or utc_now()) + lifetime).timestamp())
    query = urlencode({"expires": expires, "signature": _signature(asset_id, expires, _key(settings))})
    return f"{settings.browser_url}/v1/assets/{asset_id}?{query}"


def link_holds(asset_id: str, *, expires: int, signature: str, settings: Settings) -> bool:
    """Return whether we signed this. That says nothing about whether it has expired."""
    expected = _signature(asset_id, expires, _key(settings))
    # As bytes: of texts it takes ASCII alone, and a signature from outside may be any text.
    return hmac.compare_digest(expected.encode(), signature.encode())


def _signature(asset_id: str, expires: int, key: bytes) -> str:
    # The first line keeps a signature of anything else under this key from opening an asset.
    return hmac.new(key, f"asset\n{asset_id}\n{expires}".encode(), hashlib.sha256).hexdigest()


def _key(settings: Settings) -> bytes:
    key = settings.signing_key.get_secret_value()
    if not key:
        raise NeedsHuman("there is no key to sign links with: set DARKROOM_SIGNING_KEY to a long random text")
    return key.encode()
