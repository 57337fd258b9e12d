"""The simulator's webhooks, received by a real server and verified by a verifier written from fal's description."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from itertools import pairwise
from typing import Any

import fal_client
import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from simulated_fal import Received, Receiver, SimulatedFal
from support import wait_until

DEV = "fal-ai/flux/dev"
JWKS_URL = "https://rest.fal.ai/.well-known/jwks.json"


def is_signed_by(jwks: dict[str, Any], delivery: Received) -> bool:
    headers = delivery.headers
    signed = "\n".join(
        [
            headers["x-fal-webhook-request-id"],
            headers["x-fal-webhook-user-id"],
            headers["x-fal-webhook-timestamp"],
            hashlib.sha256(delivery.body).hexdigest(),
        ]
    ).encode()
    signature = bytes.fromhex(headers["x-fal-webhook-signature"])
    return any(_verifies(jwk, signature, signed) for jwk in jwks["keys"])


def _verifies(jwk: dict[str, str], signature: bytes, signed: bytes) -> bool:
    assert (jwk["kty"], jwk["crv"]) == ("OKP", "Ed25519")
    assert "=" not in jwk["x"]
    raw = base64.urlsafe_b64decode(jwk["x"] + "=" * (-len(jwk["x"]) % 4))
    try:
        Ed25519PublicKey.from_public_bytes(raw).verify(signature, signed)
    except InvalidSignature:
        return False
    return True


def age_of(delivery: Received) -> float:
    return time.time() - int(delivery.headers["x-fal-webhook-timestamp"])


def submit(
    simulator: SimulatedFal, fal: fal_client.SyncClient, receiver: Receiver, **rule: Any
) -> fal_client.SyncRequestHandle:
    """One picture with a webhook, under a rule of its own."""
    prompt = f"a fox {uuid.uuid4().hex}"
    simulator.rule(match=prompt, **rule)
    return fal.submit(DEV, {"prompt": prompt}, webhook_url=receiver.url)


def book_row(simulator: SimulatedFal, request_id: str) -> dict[str, Any]:
    row: dict[str, Any] = simulator.operator.get(f"/requests/{request_id}").json()
    return row


def test_a_finished_request_is_announced_with_its_output(
    simulator: SimulatedFal, fal: fal_client.SyncClient, receiver: Receiver
) -> None:
    """Signed by a published key, fresh, addressed as it was asked for, with the same output as the result."""
    handle = submit(simulator, fal, receiver)
    (delivery,) = receiver.wait_for(1)
    body = json.loads(delivery.body)
    assert is_signed_by(httpx.get(JWKS_URL).json(), delivery)
    assert is_signed_by(httpx.get(JWKS_URL.replace("rest.", "rest.alpha.")).json(), delivery)
    assert age_of(delivery) < 5
    assert delivery.path == "/webhooks/fal?token=abc"
    assert delivery.headers["content-type"] == "application/json"
    assert delivery.headers["x-fal-webhook-request-id"] == body["request_id"] == handle.request_id
    assert delivery.headers["x-fal-webhook-user-id"] == "sim-user"
    assert (body["status"], body["payload"]) == ("OK", handle.get())
    assert body["gateway_request_id"] == book_row(simulator, handle.request_id)["gateway_request_id"]


def test_a_try_without_a_runner_is_made_again_under_another_id(simulator: SimulatedFal, receiver: Receiver) -> None:
    """The request keeps its own; where its header forbids it, and of a synchronous call, the first try is the end."""
    prompt = f"a fox {uuid.uuid4().hex}"
    simulator.rule(match=prompt, latency=0, retries=2)
    url, key = f"https://queue.fal.run/{DEV}", {"Authorization": "Key sim:key"}
    asked: dict[str, Any] = {"params": {"fal_webhook": receiver.url}, "json": {"prompt": prompt}}
    taken = httpx.post(url, headers=key, **asked).json()
    body = json.loads(receiver.wait_for(1)[0].body)
    assert (body["status"], body["request_id"]) == ("OK", taken["request_id"])
    assert body["gateway_request_id"] != taken["gateway_request_id"]

    once = httpx.post(url, headers={**key, "X-Fal-No-Retry": "1"}, **asked).json()
    body = json.loads(receiver.wait_for(2)[1].body)
    assert (body["status"], body["gateway_request_id"]) == ("ERROR", once["gateway_request_id"])
    assert httpx.post(f"https://fal.run/{DEV}", headers=key, json={"prompt": prompt}).status_code == 503


def test_a_failed_request_is_announced_with_its_error(
    simulator: SimulatedFal, fal: fal_client.SyncClient, receiver: Receiver
) -> None:
    """status ERROR, the HTTP status in words, the details as payload."""
    submit(simulator, fal, receiver, result="422_content_policy")
    body = json.loads(receiver.wait_for(1)[0].body)
    assert (body["status"], body["error"]) == ("ERROR", "Invalid status code: 422")
    assert body["payload"]["detail"][0]["type"] == "content_policy_violation"


def test_input_that_is_not_valid_is_announced_as_an_error(fal: fal_client.SyncClient, receiver: Receiver) -> None:
    """The 422 that the submit did not give comes by webhook."""
    fal.submit(DEV, {"prompt": ""}, webhook_url=receiver.url)
    body = json.loads(receiver.wait_for(1)[0].body)
    assert body["status"] == "ERROR"
    assert body["payload"]["detail"][0]["loc"] == ["body", "prompt"]


def test_a_webhook_is_repeated_until_it_is_taken(
    simulator: SimulatedFal, fal: fal_client.SyncClient, receiver: Receiver
) -> None:
    """4xx and 5xx alike; with growing waits, the same body, and a signature that holds each time."""
    receiver.answers = [404, 503, 401]
    handle = submit(simulator, fal, receiver)
    deliveries = receiver.wait_for(4)
    jwks = httpx.get(JWKS_URL).json()
    assert all(is_signed_by(jwks, delivery) for delivery in deliveries)
    assert len({delivery.body for delivery in deliveries}) == 1
    waits = [later.at - earlier.at for earlier, later in pairwise(deliveries)]
    assert waits == sorted(waits)
    codes = [404, 503, 401, 200]
    wait_until(lambda: [each["status_code"] for each in book_row(simulator, handle.request_id)["webhooks"]] == codes)


def test_a_burst_of_webhooks_arrives_once_each(
    simulator: SimulatedFal, fal: fal_client.SyncClient, receiver: Receiver
) -> None:
    """Released together, delivered side by side over kept connections; none is lost, none is repeated."""
    prompt = f"a fox {uuid.uuid4().hex}"
    simulator.rule(match=prompt, latency=0)
    arguments = {"prompt": prompt, "image_size": "square", "seed": 1}
    ids = {fal.submit(DEV, arguments, webhook_url=receiver.url).request_id for _ in range(50)}
    receiver.wait_for(50)
    assert {json.loads(delivery.body)["request_id"] for delivery in receiver.received} == ids
    assert len(receiver.received) == 50


def test_a_redirect_ends_the_delivery(simulator: SimulatedFal, fal: fal_client.SyncClient, receiver: Receiver) -> None:
    """3xx is neither followed nor tried again."""
    receiver.answers = [307]
    handle = submit(simulator, fal, receiver)
    wait_until(lambda: book_row(simulator, handle.request_id)["webhooks"])
    probe = submit(simulator, fal, receiver, latency=0.4)
    wait_until(lambda: book_row(simulator, probe.request_id)["webhooks"])
    assert len(receiver.received) == 2


def test_a_receiver_that_is_down_is_tried_again(simulator: SimulatedFal, fal: fal_client.SyncClient) -> None:
    """A refused connection counts as an attempt without a status code."""
    handle = fal.submit(DEV, {"prompt": "a fox"}, webhook_url="http://127.0.0.1:1/nobody")
    attempts = wait_until(lambda: len(rows := book_row(simulator, handle.request_id)["webhooks"]) > 1 and rows)
    assert {attempt["status_code"] for attempt in attempts} == {None}
    assert "ConnectionRefusedError" in attempts[0]["error"]


def test_a_lost_webhook_never_comes(simulator: SimulatedFal, fal: fal_client.SyncClient, receiver: Receiver) -> None:
    """The request is finished all the same."""
    lost = submit(simulator, fal, receiver, webhook="lost")
    assert lost.get()["images"]
    later = submit(simulator, fal, receiver)
    assert json.loads(receiver.wait_for(1)[0].body)["request_id"] == later.request_id


def test_an_early_webhook_is_answered_before_the_submit_is(
    simulator: SimulatedFal, fal: fal_client.SyncClient, receiver: Receiver
) -> None:
    """When the client learns the request's id, the webhook has been there already."""
    handle = submit(simulator, fal, receiver, webhook="early")
    assert json.loads(receiver.received[0].body)["request_id"] == handle.request_id
    assert book_row(simulator, handle.request_id)["webhooks"][0]["status_code"] == 200


def test_a_webhook_can_come_twice(simulator: SimulatedFal, fal: fal_client.SyncClient, receiver: Receiver) -> None:
    """Again after it was taken, with the same body."""
    submit(simulator, fal, receiver, webhook="twice")
    first, second = receiver.wait_for(2)
    assert first.body == second.body


def test_a_webhook_can_be_late(simulator: SimulatedFal, fal: fal_client.SyncClient, receiver: Receiver) -> None:
    """`webhook_delay` counts from the completion."""
    handle = submit(simulator, fal, receiver, webhook_delay=0.3)
    handle.get(interval=0.02)
    assert receiver.received == []
    receiver.wait_for(1)


def test_a_success_can_be_announced_without_its_payload(
    simulator: SimulatedFal, fal: fal_client.SyncClient, receiver: Receiver
) -> None:
    """OK with payload null and the reason; the result has the output."""
    handle = submit(simulator, fal, receiver, webhook="null_payload")
    body = json.loads(receiver.wait_for(1)[0].body)
    assert (body["status"], body["payload"]) == ("OK", None)
    assert body["payload_error"]
    assert handle.get()["images"]


@pytest.mark.parametrize(
    ("webhook", "signed", "user_id", "fresh", "own_token"),
    [
        ("forged", False, "sim-user", True, True),
        ("old", True, "sim-user", False, True),
        ("other_account", True, "somebody-else", True, True),
        ("foreign_token", True, "sim-user", True, False),
    ],
)
def test_a_false_webhook_is_wrong_in_one_thing_only(
    simulator: SimulatedFal,
    fal: fal_client.SyncClient,
    receiver: Receiver,
    webhook: str,
    signed: bool,
    user_id: str,
    fresh: bool,
    own_token: bool,
) -> None:
    """Sent once whatever the answer; the genuine one follows where the rule says so."""
    receiver.answers = [401]
    submit(simulator, fal, receiver, webhook=webhook, webhook_then_good=True)
    false, genuine = receiver.wait_for(2)
    jwks = httpx.get(JWKS_URL).json()
    assert is_signed_by(jwks, false) is signed
    assert false.headers["x-fal-webhook-user-id"] == user_id
    assert (age_of(false) < 300) is fresh
    assert (false.path == genuine.path) is own_token
    assert false.body == genuine.body
    assert is_signed_by(jwks, genuine)


def test_a_false_webhook_alone_is_all_there_is(
    simulator: SimulatedFal, fal: fal_client.SyncClient, receiver: Receiver
) -> None:
    """Without `webhook_then_good` the request stays silent but for the forgery, refused or not."""
    receiver.answers = [401]
    submit(simulator, fal, receiver, webhook="forged")
    later = submit(simulator, fal, receiver)
    _, second = receiver.wait_for(2)
    assert json.loads(second.body)["request_id"] == later.request_id


def test_a_genuine_webhook_can_be_posted_to_another_requests_address(
    simulator: SimulatedFal, fal: fal_client.SyncClient, receiver: Receiver
) -> None:
    """foreign_url names it."""
    foreign = receiver.url.replace("abc", "of-another-request")
    submit(simulator, fal, receiver, webhook="foreign_token", foreign_url=foreign)
    assert receiver.wait_for(1)[0].path.endswith("token=of-another-request")


def test_after_a_rotation_new_webhooks_need_the_new_keys(
    simulator: SimulatedFal, fal: fal_client.SyncClient, receiver: Receiver
) -> None:
    """A key set fetched before does not verify them, one fetched now does, and it still verifies the old ones."""
    submit(simulator, fal, receiver)
    old_keys = httpx.get(JWKS_URL).json()
    receiver.wait_for(1)
    simulator.rotate()
    submit(simulator, fal, receiver)
    before, after = receiver.wait_for(2)
    new_keys = httpx.get(JWKS_URL).json()
    assert not is_signed_by(old_keys, after)
    assert is_signed_by(new_keys, after)
    assert is_signed_by(new_keys, before)


def test_operators_send_any_webhook(simulator: SimulatedFal, receiver: Receiver) -> None:
    """Signed or not, for any id, user and time; they learn the answer."""
    receiver.answers = [404]
    body = {"request_id": "unknown", "status": "OK", "payload": {}}
    assert simulator.send_webhook(url=receiver.url, body=body, user_id="someone", timestamp_offset=-900) == 404
    assert simulator.send_webhook(url=receiver.url, body=body, sign=False) == 200
    assert simulator.send_webhook(url=receiver.url, body=body, request_id="another") == 200
    signed, unsigned, mismatched = receiver.received
    assert is_signed_by(httpx.get(JWKS_URL).json(), signed)
    assert signed.headers["x-fal-webhook-user-id"] == "someone"
    assert age_of(signed) >= 900
    assert "x-fal-webhook-signature" not in unsigned.headers
    assert mismatched.headers["x-fal-webhook-request-id"] == "another"


def test_a_held_request_ends_as_its_release_says(
    simulator: SimulatedFal, fal: fal_client.SyncClient, receiver: Receiver
) -> None:
    """IN_PROGRESS for as long as it is held; what the release names replaces what the rule said."""
    handle = submit(simulator, fal, receiver, hold=True)
    wait_until(lambda: isinstance(handle.status(), fal_client.InProgress))
    simulator.release(handle.request_id, result="error:no_media_generated")
    assert json.loads(receiver.wait_for(1)[0].body)["payload"]["detail"][0]["type"] == "no_media_generated"
