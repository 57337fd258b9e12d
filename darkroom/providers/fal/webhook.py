"""Is this webhook fal's? Six steps, of which this module does all but the comparison of accounts.

fal signs request id, user id, time stamp and the hash of the raw body with Ed25519. The signature does not cover the
URL's query, and its keys name no customer: whose webhook it is must be compared by whoever knows the account.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from darkroom.providers.fal.answers import REQUEST_ID
from darkroom.providers.webhooks import Rejection, WebhookRejected

TOLERANCE = timedelta(seconds=300)  # fal's own bound; what comes again within it the ledger knows
TIMESTAMP = re.compile(r"[0-9]{1,12}")
PREFIX = "x-fal-webhook-"


@dataclass(frozen=True, kw_only=True)
class WebhookEnvelope:
    """A webhook that fal signed. OK with `payload=None` is a success whose result must be fetched."""

    request_id: str
    user_id: str
    gateway_request_id: str | None
    status: Literal["OK", "ERROR"]
    payload: dict[str, Any] | None
    error: str | None
    payload_error: str | None
    body_sha256: str


def verify_webhook(
    headers: Mapping[str, str], body: bytes, *, keys: Sequence[Ed25519PublicKey], now: datetime
) -> WebhookEnvelope:
    """Verify a webhook and read it. Raise WebhookRejected. The body is parsed only once its signature holds."""
    signed = read_signature(headers, now)
    body_sha256 = hashlib.sha256(body).hexdigest()
    # fal's rule: four lines, none ended by a line end, the last of them the hash of the raw body.
    message = "\n".join((signed["request-id"], signed["user-id"], signed["timestamp"], body_sha256)).encode()
    if not _signed_by_any(keys, signed["signature"], message):
        raise WebhookRejected(Rejection.BAD_SIGNATURE)
    envelope = _read_body(body, user_id=signed["user-id"], body_sha256=body_sha256)
    if envelope.request_id != signed["request-id"]:
        raise WebhookRejected(Rejection.ID_MISMATCH)
    return envelope


def read_signature(headers: Mapping[str, str], now: datetime) -> dict[str, str]:
    """Return what is signed, and with what. Raise WebhookRejected for what no key could make good."""
    signed = _signed_headers(headers)
    _check_age(signed["timestamp"], now)
    return signed


def _signed_headers(headers: Mapping[str, str]) -> dict[str, str]:
    # Servers hand names over in lower case, proxies as they like.
    found = {name.lower(): value for name, value in headers.items()}
    signed = {name: found.get(PREFIX + name, "") for name in ("request-id", "user-id", "timestamp", "signature")}
    if not all(signed.values()):
        raise WebhookRejected(Rejection.MISSING_HEADERS)
    return signed


def _check_age(timestamp: str, now: datetime) -> None:
    if not TIMESTAMP.fullmatch(timestamp):
        raise WebhookRejected(Rejection.MALFORMED)
    # Either way: a stamp from the future would hold for longer than that.
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE.total_seconds():
        raise WebhookRejected(Rejection.STALE)


def _signed_by_any(keys: Sequence[Ed25519PublicKey], signature: str, message: bytes) -> bool:
    try:
        raw = bytes.fromhex(signature)
    except ValueError:
        return False
    # While fal changes its keys, any one of those it publishes may have signed.
    return any(_holds(key, raw, message) for key in keys)


def _holds(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _read_body(body: bytes, *, user_id: str, body_sha256: str) -> WebhookEnvelope:
    try:
        fields = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        # RecursionError: signed, and nested deeper than Python reads.
        fields = None
    if not isinstance(fields, dict) or not _is_envelope(fields):
        raise WebhookRejected(Rejection.MALFORMED)
    return WebhookEnvelope(
        request_id=fields["request_id"],
        user_id=user_id,
        gateway_request_id=_text(fields.get("gateway_request_id")),
        status=fields["status"],
        payload=fields.get("payload"),
        error=_text(fields.get("error")),
        payload_error=_text(fields.get("payload_error")),
        body_sha256=body_sha256,
    )


def _is_envelope(fields: dict[str, Any]) -> bool:
    return (
        isinstance(fields.get("request_id"), str)
        and REQUEST_ID.fullmatch(fields["request_id"]) is not None
        and fields.get("status") in ("OK", "ERROR")
        and isinstance(fields.get("payload"), dict | None)
    )


def _refuse_constant(name: str) -> NoReturn:
    # NaN and Infinity are no JSON, and a ledger column would refuse them later.
    raise ValueError(name)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
