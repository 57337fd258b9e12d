"""Replicate's HTTP API behind the seam of all providers: a call is a prediction, created by the one POST that is paid.

A prediction whose POST was not answered is found by the token of its webhook's address, once `confirm` has seen it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import httpx

from darkroom.clock import utc_now
from darkroom.errors import BadInput, DarkroomError, NeedsHuman, Park, Permanent, RateLimited, Retry
from darkroom.ledger import Outcome, Request
from darkroom.providers.account import ProviderAccount
from darkroom.providers.base import Accepted, Provider
from darkroom.providers.http import lost_call, lost_submit, retry_after
from darkroom.providers.inputs import money
from darkroom.providers.outcomes import cancelled, failed, succeeded
from darkroom.providers.webhooks import Rejection, Webhook, WebhookRejected
from darkroom.tls import tls_context
from darkroom_replicate.models import LIFETIME, MODELS

BASE = "https://api.replicate.com/v1"
Lost = Callable[[str, httpx.HTTPError], DarkroomError]
PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # ids become parts of URLs
PASSING = re.compile(r"\bE(1000|6716|8765|9243)\b")  # failures of Replicate's own, by its codes
TOLERANCE_SECONDS = 300


class Replicate(Provider):
    """One account. Thread-safe."""

    def __init__(self, token: str, *, base: str = BASE, timeout: float = 20.0) -> None:
        key, limits = {"Authorization": f"Bearer {token}"}, httpx.Timeout(timeout, connect=5.0)
        self._http = httpx.Client(base_url=base, headers=key, timeout=limits, verify=tls_context())

    def submit(self, row: Request, input: Mapping[str, Any], *, webhook_url: str | None) -> Accepted | Outcome:
        model = MODELS[row.endpoint]
        path, order = f"/models/{model.name}/predictions", {"input": dict(input)}
        if model.version:
            path, order["version"] = "/predictions", model.version
        if webhook_url:
            order |= {"webhook": webhook_url, "webhook_events_filter": ["completed"]}
        limit = {"Cancel-After": f"{LIFETIME.seconds}s"}
        return Accepted(request_id=self._call("POST", path, lost=lost_submit, json=order, headers=limit)["id"])

    def poll(self, row: Request) -> Outcome | None:
        return _outcome(row, self._call("GET", f"/predictions/{row.request_id}"))

    def cancel(self, row: Request) -> None:
        with suppress(Permanent):
            self._call("POST", f"/predictions/{row.request_id}/cancel")

    def confirm(self, row: Request, request_id: str) -> bool:
        try:
            found = self._call("GET", f"/predictions/{request_id}")
        except Permanent:
            return False
        asked, sent = row.input or {}, found.get("input") or {}
        return found.get("model") == MODELS[row.endpoint].name and asked == {name: sent.get(name) for name in asked}

    def close(self) -> None:
        self._http.close()

    def _call(self, method: str, path: str, *, lost: Lost = lost_call, **sent: Any) -> Mapping[str, Any]:
        """Call once and return the prediction. `lost`: what it means that an answer cannot be had, or not be read."""
        try:
            answer = self._http.request(method, path, **sent)
        except httpx.HTTPError as error:
            raise lost("Replicate", error) from error
        if not answer.is_success:
            raise _refusal(answer)
        found = _read(answer.content)
        if not PLAIN_ID.fullmatch(str(found.get("id", ""))):
            raise lost("Replicate", httpx.DecodingError("that is no prediction"))
        return found


@dataclass(frozen=True, kw_only=True)
class ReplicateReceiver:
    """Verifies Standard Webhooks, by the block's secret or else by the environment's."""

    secret: str | None
    tells_of_others: bool = False

    def receive(
        self, headers: Mapping[str, str], body: bytes, query: Mapping[str, str], *, account: ProviderAccount | None
    ) -> Webhook | None:
        own = getattr(account, "webhook_secret", None)
        secret = own.get_secret_value() if own else self.secret
        if not secret:
            raise NeedsHuman("Webhooks of Replicate are not set up. Set REPLICATE_WEBHOOK_SECRET.", code="not_set_up")
        _verify(headers, body, key=base64.b64decode(secret.removeprefix("whsec_")))
        found, digest = _read(body), hashlib.sha256(body).hexdigest()
        request_id = str(found.get("id", ""))
        if not PLAIN_ID.fullmatch(request_id):
            raise WebhookRejected(Rejection.MALFORMED)
        return Webhook(request_id=request_id, body_sha256=digest, outcome=lambda row: _outcome(row, found))


def _verify(headers: Mapping[str, str], body: bytes, *, key: bytes) -> None:
    message_id, sent_at, signatures = (headers.get(f"webhook-{name}") for name in ("id", "timestamp", "signature"))
    if not (message_id and sent_at and signatures):
        raise WebhookRejected(Rejection.MISSING_HEADERS)
    digest = hmac.digest(key, f"{message_id}.{sent_at}.".encode() + body, "sha256")
    expected = b"v1," + base64.b64encode(digest)
    if not any(hmac.compare_digest(expected, each.encode()) for each in signatures.split()):
        raise WebhookRejected(Rejection.BAD_SIGNATURE)
    if abs(utc_now().timestamp() - int(sent_at)) > TOLERANCE_SECONDS:
        raise WebhookRejected(Rejection.STALE)


def _outcome(row: Request, prediction: Mapping[str, Any]) -> Outcome | None:
    """Return how a prediction ended; None while it is under way. One that ended early has cost its seconds."""
    found, seconds = prediction.get("output"), (prediction.get("metrics") or {}).get("predict_time") or 0
    paid = money(Decimal(str(seconds)) * MODELS[row.endpoint].usd_per_second) or None
    match prediction.get("status"):
        case "succeeded":
            pictures = found if isinstance(found, list) else [found] if found else []
            return succeeded(row, {"pictures": pictures, "predict_time": seconds})
        case "canceled" | "aborted" if row.cancel_requested_at is not None:
            ended = cancelled(row, Permanent("the prediction was cancelled", code="client_cancelled"))
            return replace(ended, cost_usd=paid)
        case "failed" | "canceled" | "aborted" as status:
            said = str(prediction.get("error") or status)[:300]
            kind = Retry if status == "aborted" or PASSING.search(said) else Permanent
            return failed(row, kind(f"Replicate: {said}", code=f"prediction_{status}"), cost_usd=paid)
        case _:
            return None


def _refusal(answer: httpx.Response) -> DarkroomError:
    """Return the error for a refused call. A page of something in between proves nothing of what was asked for."""
    said, status = _read(answer.content), answer.status_code
    words = f"Replicate: {str(said.get('detail') or f'HTTP {status}')[:300]}"
    if status == 429:
        return RateLimited(words, retry_after=retry_after(answer.headers))
    if status >= 500:
        return Park(words)
    if not said:
        return Retry(words, code="unexpected_answer")
    if status in (401, 402, 403):
        code = "balance_exhausted" if status == 402 else "unauthorized"
        return NeedsHuman(f"{words} (see to the account of the block replicate-account/default)", code=code)
    if status == 422:
        return BadInput(words)
    return Permanent(words, code="not_found" if status == 404 else "rejected")


def _read(content: bytes) -> Mapping[str, Any]:
    with suppress(ValueError, RecursionError):
        if isinstance(found := json.loads(content), dict):
            return found
    return {}
