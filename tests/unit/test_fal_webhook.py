"""Which webhooks are believed. Signed here with keys of our own, by fal's rule."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from darkroom.errors import Retry
from darkroom.providers.fal import Jwks, verify_webhook
from darkroom.providers.webhooks import Rejection, WebhookRejected

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
KEY = Ed25519PrivateKey.generate()
OTHER_KEY = Ed25519PrivateKey.generate()
ENVELOPE = {
    "request_id": "019e1951-aaaa-7bbb",
    "gateway_request_id": "g-1",
    "status": "OK",
    "payload": {"images": [{"url": "https://v3b.fal.media/files/b/1/fox.jpg"}]},
}


def signed(
    body: bytes,
    *,
    key: Ed25519PrivateKey = KEY,
    request_id: str = "019e1951-aaaa-7bbb",
    user_id: str = "user-1",
    timestamp: str = str(int(NOW.timestamp())),
) -> dict[str, str]:
    message = "\n".join([request_id, user_id, timestamp, hashlib.sha256(body).hexdigest()]).encode()
    return {
        "X-Fal-Webhook-Request-Id": request_id,
        "X-Fal-Webhook-User-Id": user_id,
        "X-Fal-Webhook-Timestamp": timestamp,
        "X-Fal-Webhook-Signature": key.sign(message).hex(),
    }


def encoded(**changes: Any) -> bytes:
    return json.dumps({**ENVELOPE, **changes}).encode()


def rejection(headers: dict[str, str], body: bytes, *keys: Ed25519PublicKey) -> Rejection:
    with pytest.raises(WebhookRejected) as caught:
        verify_webhook(headers, body, keys=keys or [KEY.public_key()], now=NOW)
    return caught.value.reason


def test_a_signed_webhook_is_read() -> None:
    """Everything of the envelope comes out, with the hash of the raw body."""
    body = encoded()
    envelope = verify_webhook(signed(body), body, keys=[OTHER_KEY.public_key(), KEY.public_key()], now=NOW)
    assert (envelope.request_id, envelope.user_id, envelope.gateway_request_id) == (
        "019e1951-aaaa-7bbb",
        "user-1",
        "g-1",
    )
    assert (envelope.status, envelope.payload, envelope.error) == ("OK", ENVELOPE["payload"], None)
    assert envelope.body_sha256 == hashlib.sha256(body).hexdigest()


def test_header_names_are_read_in_any_case() -> None:
    """Servers hand them over in lower case, proxies as they like."""
    body = encoded()
    headers = {name.upper(): value for name, value in signed(body).items()}
    assert verify_webhook(headers, body, keys=[KEY.public_key()], now=NOW).status == "OK"


def test_an_error_and_a_success_without_payload_are_read() -> None:
    """ERROR keeps its words and details; OK with a null payload says why it is null."""
    failed = encoded(status="ERROR", error="Invalid status code: 422", payload={"detail": []})
    envelope = verify_webhook(signed(failed), failed, keys=[KEY.public_key()], now=NOW)
    assert (envelope.status, envelope.error, envelope.payload) == (
        "ERROR",
        "Invalid status code: 422",
        {"detail": []},
    )
    bare = encoded(payload=None, payload_error="too large")
    envelope = verify_webhook(signed(bare), bare, keys=[KEY.public_key()], now=NOW)
    assert (envelope.status, envelope.payload, envelope.payload_error) == ("OK", None, "too large")


@pytest.mark.parametrize("missing", ["Request-Id", "User-Id", "Timestamp", "Signature"])
def test_every_header_is_needed(missing: str) -> None:
    """Without any one of the four, or with an empty one, nothing is believed."""
    body = encoded()
    headers = signed(body)
    name = f"X-Fal-Webhook-{missing}"
    assert rejection({**headers, name: ""}, body) is Rejection.MISSING_HEADERS
    del headers[name]
    assert rejection(headers, body) is Rejection.MISSING_HEADERS


@pytest.mark.parametrize(("seconds", "fresh"), [(-301, False), (-300, True), (0, True), (300, True), (301, False)])
def test_a_webhook_is_believed_for_five_minutes(seconds: int, fresh: bool) -> None:
    """Older, or from further in the future, is stale although the signature holds."""
    body = encoded()
    headers = signed(body, timestamp=str(int((NOW + timedelta(seconds=seconds)).timestamp())))
    if fresh:
        assert verify_webhook(headers, body, keys=[KEY.public_key()], now=NOW).status == "OK"
    else:
        assert rejection(headers, body) is Rejection.STALE


@pytest.mark.parametrize("timestamp", ["now", "-1", "1_0", "١٢٣", " 1", "1.5", "9" * 400])
def test_a_time_stamp_that_is_no_number_is_malformed(timestamp: str) -> None:
    """Only plain digits count, and not too many of them."""
    body = encoded()
    assert rejection(signed(body, timestamp=timestamp), body) is Rejection.MALFORMED


def test_what_was_changed_after_signing_is_not_believed() -> None:
    """Body, user, request and time stamp are all under the signature."""
    body = encoded()
    headers = signed(body)
    assert rejection(headers, body + b" ") is Rejection.BAD_SIGNATURE
    for name, value in {"User-Id": "user-2", "Request-Id": "r-2", "Timestamp": str(int(NOW.timestamp()) + 1)}.items():
        assert rejection({**headers, f"X-Fal-Webhook-{name}": value}, body) is Rejection.BAD_SIGNATURE


@pytest.mark.parametrize("signature", ["", "zz", "ab", "00" * 64, "é"])
def test_a_signature_of_any_shape_is_survived(signature: str) -> None:
    """What is not hex, or not 64 bytes, is a bad signature (or none), not an accident."""
    body = encoded()
    headers = {**signed(body), "X-Fal-Webhook-Signature": signature}
    assert rejection(headers, body) in (Rejection.BAD_SIGNATURE, Rejection.MISSING_HEADERS)


def test_another_signers_key_is_not_enough() -> None:
    """Only the published keys count; none published, none believed."""
    body = encoded()
    assert rejection(signed(body, key=OTHER_KEY), body) is Rejection.BAD_SIGNATURE
    with pytest.raises(WebhookRejected):
        verify_webhook(signed(body), body, keys=[], now=NOW)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"not json",
        b"\xff\xfe",
        b"[" * 100_000,
        encoded(status="COMPLETED"),
        encoded(payload=[1]),
        encoded(request_id=None),
        encoded(request_id="../../x"),
        encoded(payload={"x": float("nan")}),
    ],
)
def test_a_signed_body_must_be_an_envelope(body: bytes) -> None:
    """A good signature over something else is malformed."""
    assert rejection(signed(body), body) is Rejection.MALFORMED


def test_header_and_body_must_speak_of_one_request() -> None:
    """The header's request id is the signed one, so the body's must be the same."""
    body = encoded(request_id="another")
    assert rejection(signed(body), body) is Rejection.ID_MISMATCH


class Publisher:
    """A JWKS address that can rotate, break and count."""

    def __init__(self, *keys: Ed25519PrivateKey) -> None:
        self.keys = list(keys)
        self.broken = False
        self.fetches = 0
        self.now = 1000.0
        self.jwks = Jwks(transport=httpx.MockTransport(self._answer), clock=lambda: self.now)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.fetches += 1
        assert str(request.url) == "https://rest.fal.ai/.well-known/jwks.json"
        if self.broken:
            return httpx.Response(503)
        return httpx.Response(200, json={"keys": [jwk(key) for key in self.keys]})


def jwk(key: Ed25519PrivateKey) -> dict[str, str]:
    x = base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).rstrip(b"=").decode()
    return {"kty": "OKP", "crv": "Ed25519", "x": x}


def test_keys_are_fetched_once_and_kept() -> None:
    """Many webhooks, one fetch."""
    publisher = Publisher(KEY)
    body = encoded()
    for _ in range(5):
        publisher.jwks.verify(signed(body), body, NOW)
    assert publisher.fetches == 1


def test_a_rotation_is_noticed_by_the_first_webhook() -> None:
    """A signature that does not hold makes for one more fetch, and is tried again."""
    publisher = Publisher(KEY)
    body = encoded()
    publisher.jwks.verify(signed(body), body, NOW)
    publisher.keys = [OTHER_KEY]
    publisher.now += 60
    assert publisher.jwks.verify(signed(body, key=OTHER_KEY), body, NOW).status == "OK"
    assert publisher.fetches == 2


def test_a_forger_cannot_make_us_fetch_at_will() -> None:
    """Bad signatures cause a fetch every ten seconds at most."""
    publisher = Publisher(KEY)
    body = encoded()
    publisher.jwks.verify(signed(body), body, NOW)
    for _ in range(40):
        publisher.now += 1
        with pytest.raises(WebhookRejected):
            publisher.jwks.verify(signed(body, key=OTHER_KEY), body, NOW)
    assert publisher.fetches == 5


def test_other_faults_cause_no_fetch() -> None:
    """A stale webhook says nothing about keys."""
    publisher = Publisher(KEY)
    body = encoded()
    publisher.jwks.keys()
    publisher.now += 60
    with pytest.raises(WebhookRejected):
        publisher.jwks.verify(signed(body), body, NOW + timedelta(hours=1))
    assert publisher.fetches == 1


def test_keys_outlive_an_outage_but_not_a_day() -> None:
    """Refreshed after half a day, kept while that fails, forgotten after 24 hours; fetched as soon as it works."""
    publisher = Publisher(KEY)
    publisher.jwks.keys()
    publisher.broken = True
    publisher.now += 23 * 3600
    assert publisher.jwks.keys()
    assert publisher.fetches == 2
    publisher.now += 2 * 3600
    with pytest.raises(Retry) as caught:
        publisher.jwks.keys()
    assert caught.value.code == "jwks_unavailable"
    publisher.broken = False
    publisher.now += 10
    assert publisher.jwks.keys()


def test_without_any_key_the_next_second_may_bring_one() -> None:
    """At a cold start a failed fetch is repeated soon, yet not by every webhook."""
    publisher = Publisher(KEY)
    publisher.broken = True
    for _ in range(3):
        with pytest.raises(Retry):
            publisher.jwks.keys()
    assert publisher.fetches == 1
    publisher.broken = False
    publisher.now += 1
    assert publisher.jwks.keys()


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"keys": None},
        {"keys": [None, {"x": 7}, {"x": "AAAA"}, {"x": "é"}, {"crv": "P-256", "x": "A" * 43}, {}]},
    ],
)
def test_a_jwks_without_usable_keys_counts_as_none(document: object) -> None:
    """Entries of other kinds and damaged ones are passed over."""
    jwks = Jwks(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=document)))
    with pytest.raises(Retry):
        jwks.keys()
