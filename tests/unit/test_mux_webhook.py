"""Which webhooks are Mux', and what they speak of."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from darkroom.providers.mux import AssetEvent, verify_webhook
from darkroom.providers.webhooks import WebhookRejected

SECRET = "signing-secret"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
STAMP = str(int(NOW.timestamp()))
UPLOAD_ID = "u1DzDqLqPO42TKmJFTvyN2HIOg2NFgzn02cJOl02yFWb8A"


def event(kind: str = "video.asset.ready", **data: Any) -> bytes:
    asset = {"id": "a-1", "status": "ready", "upload_id": UPLOAD_ID} | data
    return json.dumps({"type": kind, "id": "e-1", "object": {"type": "asset", "id": "a-1"}, "data": asset}).encode()


def signature(body: bytes, *, secret: str = SECRET, stamp: str = STAMP) -> str:
    return hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def verify(body: bytes, header: str | None = None, *, now: datetime = NOW) -> AssetEvent | None:
    said = f"t={STAMP},v1={signature(body)}" if header is None else header
    return verify_webhook({"Mux-Signature": said}, body, secret=SECRET, now=now)


def rejection(body: bytes, header: str | None = None, *, now: datetime = NOW) -> str:
    with pytest.raises(WebhookRejected) as caught:
        verify(body, header, now=now)
    return str(caught.value.reason)


def test_a_genuine_one_tells_of_an_upload() -> None:
    """By the upload's id, which is what we know it by."""
    body = event()
    found = verify(body)
    assert found is not None
    assert (found.upload_id, found.asset["id"]) == (UPLOAD_ID, "a-1")
    assert found.body_sha256 == hashlib.sha256(body).hexdigest()


def test_a_signature_by_mux_own_hand_holds() -> None:
    """The one its libraries for other languages are tested with. Its body is none, which is found out after that."""
    header = "t=1565125718,v1=854ece4c22acef7c66b57d4e504153bc512595e8e9c772ece2a68150548c19a7"
    now = datetime.fromtimestamp(1565125718, UTC)
    with pytest.raises(WebhookRejected, match="malformed"):
        verify_webhook({"mux-signature": header}, b'{"test":"body"}', secret="SuperSecret123", now=now)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "missing_headers"),
        ("v1=abc", "malformed"),
        (f"t={STAMP}", "malformed"),
        (f"t={STAMP},t={STAMP},v1=abc", "malformed"),
        ("t=now,v1=abc", "malformed"),
        (f"t={STAMP},v0=abc", "malformed"),
        (f"t={STAMP},v1=é", "malformed"),
        (f"t={STAMP},v1=abc", "bad_signature"),
        (f"t={STAMP},v1={signature(event(), secret='another')}", "bad_signature"),
        (f"t={STAMP},v1={signature(event(), stamp='1')}", "bad_signature"),
        (f"t={STAMP},v1={signature(event(status='errored'))}", "bad_signature"),
    ],
)
def test_what_is_not_signed_for_us_is_not_believed(header: str, reason: str) -> None:
    """Another secret, another time, another body, or no signature at all."""
    assert rejection(event(), header) == reason


def test_one_of_two_signatures_is_enough() -> None:
    """While a secret is being changed there may be one by each."""
    body = event()
    assert verify(body, f"t={STAMP}, v1={'0' * 64}, v1={signature(body)}") is not None


@pytest.mark.parametrize(("seconds", "good"), [(-301, False), (-299, True), (299, True), (301, False)])
def test_an_old_one_is_refused(seconds: int, good: bool) -> None:
    """Five minutes, either way: somebody may have kept it."""
    now = NOW + timedelta(seconds=seconds)
    if good:
        assert verify(event(), now=now) is not None
    else:
        assert rejection(event(), now=now) == "stale"


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b'{"type": 1}', b"[" * 5000])
def test_a_signed_body_that_is_none_of_mux_is_refused(body: bytes) -> None:
    """It is read only once its signature holds."""
    assert rejection(body) == "malformed"


@pytest.mark.parametrize(
    "body",
    [
        event("video.asset.created"),
        event("video.upload.asset_created"),
        event("video.live_stream.active"),
        event(upload_id=None),
        event(upload_id="../../etc"),
        b'{"type": "video.asset.ready"}',
        b'{"type": "video.asset.ready", "data": []}',
    ],
)
def test_other_news_is_none_of_ours(body: bytes) -> None:
    """Mux tells of everything in its environment: assets that came from elsewhere have no upload."""
    assert verify(body) is None
