"""Verify that a webhook is Mux's, and tell which upload it speaks of.

Mux signs the time stamp and the raw body with HMAC-SHA256 and the secret of the one endpoint, so what is signed for us
is meant for us. It tells of everything that happens in its environment, whoever caused it there.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from darkroom.providers.mux.api import PLAIN_ID
from darkroom.providers.webhooks import Rejection, WebhookRejected

TOLERANCE = timedelta(minutes=5)  # Mux leaves it to who receives; it is what most take
HEADER = "mux-signature"
TIMESTAMP = re.compile(r"[0-9]{1,12}")
TYPES = frozenset({"video.asset.ready", "video.asset.errored"})


@dataclass(frozen=True, kw_only=True)
class AssetEvent:
    """An asset that came from a direct upload is ready, or will never be."""

    upload_id: str
    asset: Mapping[str, Any]
    body_sha256: str


def verify_webhook(headers: Mapping[str, str], body: bytes, *, secret: str, now: datetime) -> AssetEvent | None:
    """Verify a webhook and read it; return None for news of something else. Raise WebhookRejected."""
    said = {name.lower(): value for name, value in headers.items()}.get(HEADER)
    if not said:
        raise WebhookRejected(Rejection.MISSING_HEADERS)
    timestamp, signatures = _read_header(said)
    expected = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    if not any(hmac.compare_digest(expected, each) for each in signatures):
        raise WebhookRejected(Rejection.BAD_SIGNATURE)
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE.total_seconds():
        raise WebhookRejected(Rejection.STALE)
    return _read_body(body)  # parsed only now that its signature holds


def _read_header(said: str) -> tuple[str, list[str]]:
    """Read `t=1565220904,v1=20c7…`; a secret that is being changed may give two signatures."""
    pairs = [part.strip().partition("=") for part in said.split(",")]
    timestamps = [value for name, _, value in pairs if name == "t"]
    # compare_digest takes no text beyond ASCII.
    signatures = [value for name, _, value in pairs if name == "v1" and value.isascii()]
    if len(timestamps) != 1 or not TIMESTAMP.fullmatch(timestamps[0]) or not signatures:
        raise WebhookRejected(Rejection.MALFORMED)
    return timestamps[0], signatures


def _read_body(body: bytes) -> AssetEvent | None:
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise WebhookRejected(Rejection.MALFORMED)
    data = event.get("data")
    asset: Mapping[str, Any] = data if isinstance(data, dict) else {}
    upload_id = asset.get("upload_id")
    # Assets that came from elsewhere have no upload.
    if event["type"] not in TYPES or not isinstance(upload_id, str) or not PLAIN_ID.fullmatch(upload_id):
        return None
    return AssetEvent(upload_id=upload_id, asset=asset, body_sha256=hashlib.sha256(body).hexdigest())
