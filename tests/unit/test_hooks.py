"""Webhooks of others: what is declared is read whole or refused by field, and what is signed is what it says."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks

from darkroom.clock import utc_now
from darkroom.errors import NeedsHuman
from darkroom.events import Hook, HookFailed, read_hooks
from darkroom.events.hook_schemes import HmacEntry, SchemeName, verify
from darkroom.providers.webhooks import Rejection, WebhookRejected

NOW = utc_now()
BODY = b'{"id": "evt_1", "type": "invoice.paid"}'
SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes, or").decode()
PLAIN = HmacEntry(header="X-Shop-Hmac", algorithm="sha512", encoding="base64", prefix="v=")
ENVIRONMENT = {"HOOK_SECRET": "hunter2", "OLD_SECRET": "hunter1", "STANDARD": SECRET}


def _hex(content: bytes, secret: str, algorithm: str = "sha256") -> str:
    return hmac.new(secret.encode(), content, algorithm).hexdigest()


def standard(body: bytes, secret: str, at: int) -> dict[str, str]:
    said = standardwebhooks.Webhook(secret).sign("msg_1", NOW.fromtimestamp(at, tz=NOW.tzinfo), body.decode())
    return {"webhook-id": "msg_1", "webhook-timestamp": str(at), "webhook-signature": f"v1a,x {said}"}


def stripe(body: bytes, secret: str, at: int) -> dict[str, str]:
    return {"stripe-signature": f"t={at},v1={'0' * 64},v1={_hex(b'%d.' % at + body, secret)},v0=x"}


def github(body: bytes, secret: str, at: int) -> dict[str, str]:
    return {"x-hub-signature-256": f"sha256={_hex(body, secret)}"}


def slack(body: bytes, secret: str, at: int) -> dict[str, str]:
    return {"x-slack-request-timestamp": str(at), "x-slack-signature": f"v0={_hex(b'v0:%d:' % at + body, secret)}"}


def plain(body: bytes, secret: str, at: int) -> dict[str, str]:
    return {"x-shop-hmac": "v=" + base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha512).digest()).decode()}


Sign = Callable[[bytes, str, int], Mapping[str, str]]
SCHEMES: list[tuple[SchemeName, Sign, bool]] = [
    (SchemeName.STANDARD, standard, True),
    (SchemeName.STRIPE, stripe, True),
    (SchemeName.GITHUB, github, False),
    (SchemeName.SLACK, slack, True),
    (SchemeName.HMAC, plain, False),
]


@pytest.mark.parametrize(("scheme", "sign", "has_time"), SCHEMES)
def test_what_is_signed_is_believed_and_nothing_else(scheme: SchemeName, sign: Sign, has_time: bool) -> None:
    """By either of two secrets; not another body, not another secret, and not after five minutes."""
    other = "whsec_" + base64.b64encode(b"another secret").decode()
    at = int(NOW.timestamp())

    def reason(headers: Mapping[str, str], body: bytes = BODY, *, late: timedelta = timedelta()) -> Rejection | None:
        try:
            verify(scheme, headers, body, secrets=[other, SECRET], now=NOW + late, plain=PLAIN)
        except WebhookRejected as error:
            return error.reason
        return None

    headers = sign(BODY, SECRET, at)
    assert reason(headers) is None
    assert reason(sign(BODY, other, at)) is None
    assert reason(headers, BODY + b" ") is Rejection.BAD_SIGNATURE
    assert reason(sign(BODY, "whsec_" + base64.b64encode(b"nobody's").decode(), at)) is Rejection.BAD_SIGNATURE
    for late in (timedelta(minutes=6), -timedelta(minutes=6)):
        assert reason(headers, late=late) is (Rejection.STALE if has_time else None)
    assert reason({}) is Rejection.MISSING_HEADERS
    for name in headers:
        assert reason({**headers, name: "é"}) in (Rejection.MALFORMED, Rejection.BAD_SIGNATURE)


def test_the_time_is_signed_too() -> None:
    """So an old webhook is not made a new one by writing another time beside it."""
    at = int(NOW.timestamp()) - 3600
    headers = {"stripe-signature": stripe(BODY, SECRET, at)["stripe-signature"].replace(str(at), str(at + 3600))}
    with pytest.raises(WebhookRejected) as refused:
        verify(SchemeName.STRIPE, headers, BODY, secrets=[SECRET], now=NOW)
    assert refused.value.reason is Rejection.BAD_SIGNATURE


# -- the declaration -------------------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "name": "till",
    "scheme": "stripe",
    "secret": [{"env": "HOOK_SECRET"}, {"block": "till-before"}],
    "events": [
        {
            "if": "payload.type == 'order'",
            "event": "order.placed",
            "data": {"order": "payload.order", "total_cents": "payload.cents"},
            "user": "has(payload.customer) ? payload.customer : null",
        },
        {"if": "payload.type == 'other'", "event": "'till.' + payload.kind", "data": "payload.data", "id": "'x'"},
    ],
}
ONE = {"event": "order.placed", "data": {"order": "payload.order", "total_cents": "payload.cents"}}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"secret": SECRET}, "hooks.0.secret: Value error, Write {env: NAME}"),
    ({"secret": {"env": SECRET}}, "hooks.0.secret.0.env: String should match"),
    ({"secret": {"env": "A", "block": "b"}}, "hooks.0.secret.0: Value error, Write {env: NAME}"),
    ({"secret": {"env": "NOT_SET"}}, "hooks.till.secret.0.env: NOT_SET in the gateway's environment: it is not set"),
    ({"secret": [{"env": "HOOK_SECRET"}] * 3}, "hooks.0.secret: Tuple should have at most 2"),
    ({"secret": {"env": "HOOK_SECRET"}, "scheme": "standard-webhooks"}, "secret.0.env: HOOK_SECRET in the gateway's"),
    ({"scheme": "paypal"}, "hooks.0.scheme: Input should be 'standard-webhooks', 'stripe'"),
    ({"scheme": "hmac"}, "hooks.0: Value error, hmac: {header: …} goes with the scheme hmac"),
    ({"scheme": "hmac", "hmac": {"header": "X-A"}, "events": [ONE]}, "hooks.till.events.0.id: Say what tells one"),
    ({"scheme": "hmac", "hmac": {"header": "X-A", "encoding": "hexx"}}, "hooks.0.hmac.encoding: Input should be"),
    ({"events": [ONE | {"event": "order.palced"}]}, "hooks.till.events.0.event: No event of this name is registered"),
    ({"events": [ONE | {"data": {"odrer": "1"}}]}, "hooks.till.events.0.data.odrer: The event's data has no 'odrer'"),
    ({"events": [ONE | {"data": {"order": "'1'"}}]}, "hooks.till.events.0.data: The event's data needs total_cents"),
    ({"events": [ONE | {"if": "payload.type =="}]}, "hooks.till.events.0.if: This is no CEL, from character 14 on"),
    ({"events": [ONE | {"user": "event.user"}]}, "hooks.till.events.0.user: 'event' is nothing a condition can read"),
    ({"events": [ONE | {"when": "true"}]}, "hooks.0.events.0.when: Extra inputs"),
    ({"name": "Till"}, "hooks.0.name: String should match"),
    ({"events": []}, "hooks.0.events: Tuple should have at least 1"),
]


def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *hooks: Mapping[str, Any]) -> dict[str, Hook]:
    file = tmp_path / "prefect.yaml"
    file.write_text(json.dumps({"deployments": [], "hooks": hooks}))
    monkeypatch.setattr("darkroom.events.hooks.project_files", lambda: [file])
    return read_hooks(ENVIRONMENT)


@pytest.mark.parametrize(("changed", "why"), WRONG)
def test_a_declaration_that_is_wrong_is_refused_by_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], why: str
) -> None:
    """When the gateway starts; and no secret that somebody has written there is repeated."""
    with pytest.raises(NeedsHuman) as refused:
        read(tmp_path, monkeypatch, GOOD | changed)
    assert why in str(refused.value) and str(refused.value).startswith("prefect.yaml, hooks.")
    assert not any(secret in str(refused.value) for secret in ENVIRONMENT.values())


def test_names_are_one_hooks_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NeedsHuman, match="there are two"):
        read(tmp_path, monkeypatch, GOOD, GOOD)


def test_a_webhook_is_the_first_event_whose_condition_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what the expressions make of it; one that no event is for is none."""
    hook = read(tmp_path, monkeypatch, GOOD)["till"]
    assert (hook.secrets, hook.blocks) == (("hunter2",), ("till-before",)) and "hunter2" not in repr(hook)
    order = {"type": "order", "id": 17, "order": "o-1", "cents": 1900}
    assert hook.envelope(order, {}) == {
        "name": "order.placed",
        "data": {"order": "o-1", "total_cents": 1900},
        "id": "till:17",
    }
    ordered = hook.envelope(order | {"customer": "4711"}, {})
    assert ordered is not None and ordered["user"] == "4711"
    other = hook.envelope({"type": "other", "kind": "opened", "data": {"a": [1]}}, {})
    assert other == {"name": "till.opened", "data": {"a": [1]}, "id": "till:x"}
    assert hook.envelope({"type": "ping"}, {}) is None


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        ({}, "hooks.till.events.0.if: its data has no 'type': payload.type == 'order'"),
        ({"type": "order", "id": 1, "order": "o"}, "hooks.till.events.0.data.total_cents: its data has no 'cents'"),
        (
            {"type": "order", "id": None, "order": "o", "cents": 1},
            "hooks.till.events.0.id: it gives no text: payload.id",
        ),
        ({"type": "other", "kind": 5}, "hooks.till.events.1.event: it compares values of different kinds"),
        ({"type": "order", "id": 2**80}, "hooks.till: it has numbers that no expression can read"),
        ([], "hooks.till.events.0.if: "),
    ],
)
def test_an_expression_that_fails_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, payload: object, why: str
) -> None:
    """And what is missing, without a value."""
    hook = read(tmp_path, monkeypatch, GOOD)["till"]
    with pytest.raises(HookFailed) as failed:
        hook.envelope(payload, {})
    assert str(failed.value).startswith(why)
