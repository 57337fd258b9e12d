"""Webhooks as fal sends them: signed, repeated with growing waits until somebody answers 2xx, never after a 3xx."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from .book import Delivery, Entry
from .faults import WebhookFault
from .poster import Poster, PostError
from .signing import SigningKeys, signed_headers

# Both by fal's page of webhooks.
_FIRST_TIMEOUT_SECONDS = 15.0
_LATER_TIMEOUT_SECONDS = 120.0
_RETRIES = 10  # by an earlier text of that page; a later one says up to 31. How long fal waits is not published
_OLD_SECONDS = 360  # receivers are to refuse what is older than 300
_FALSE = {WebhookFault.FORGED, WebhookFault.OLD, WebhookFault.OTHER_ACCOUNT, WebhookFault.FOREIGN_TOKEN}


class WebhookSender:
    def __init__(self, keys: SigningKeys, *, first_retry_seconds: float) -> None:
        self._keys = keys
        self._first_retry_seconds = first_retry_seconds
        self._poster = Poster()

    def close(self) -> None:
        self._poster.close()

    async def announce(self, entry: Entry) -> None:
        """Send what this request's faults ask for. `entry.announced` is set when the first attempt is over."""
        try:
            await asyncio.sleep(entry.faults.webhook_delay)
            await self._send_as_told(entry, entry.faults.webhook)
        finally:
            entry.announced.set()

    async def _send_as_told(self, entry: Entry, fault: WebhookFault) -> None:
        if fault is WebhookFault.LOST:
            return
        if fault in _FALSE:
            await self._send_false(entry, fault)
            if not entry.faults.webhook_then_good:
                return
        await self._send_genuine(entry)
        if fault is WebhookFault.TWICE:
            await self._send_genuine(entry)

    async def _send_genuine(self, entry: Entry) -> None:
        for attempt in range(_RETRIES + 1):
            if attempt:
                await asyncio.sleep(self._first_retry_seconds * 2 ** (attempt - 1))
            timeout = _LATER_TIMEOUT_SECONDS if attempt else _FIRST_TIMEOUT_SECONDS
            if not _worth_repeating(await self._post(entry, kind="genuine", timeout=timeout)):
                return

    async def _send_false(self, entry: Entry, fault: WebhookFault) -> None:
        """Send a webhook that is wrong in one thing."""
        # Once: whoever sends these has no reason to repeat them.
        url = entry.webhook_url or ""
        await self._post(
            entry,
            kind=fault,
            url=_foreign_url(url, entry.faults.foreign_url) if fault is WebhookFault.FOREIGN_TOKEN else url,
            user_id="somebody-else" if fault is WebhookFault.OTHER_ACCOUNT else None,
            age_seconds=_OLD_SECONDS if fault is WebhookFault.OLD else 0,
            key=Ed25519PrivateKey.generate() if fault is WebhookFault.FORGED else None,
        )

    async def _post(
        self,
        entry: Entry,
        *,
        kind: str,
        url: str | None = None,
        user_id: str | None = None,
        age_seconds: int = 0,
        key: Ed25519PrivateKey | None = None,
        timeout: float = _FIRST_TIMEOUT_SECONDS,
    ) -> Delivery:
        body = json.dumps(webhook_body(entry)).encode()
        # Assumed: fal signs each attempt anew, or a late one would be too old for its receiver; and the header's id is
        # the request's, not the gateway's.
        headers = signed_headers(
            body,
            key=key or self._keys.current,
            request_id=entry.request_id,
            user_id=user_id or entry.account.user_id,
            timestamp=int(time.time()) - age_seconds,
        )
        delivery = await self.post(
            url or entry.webhook_url or "", body=body, headers=headers, kind=kind, timeout=timeout
        )
        entry.deliveries.append(delivery)
        entry.announced.set()  # at the first attempt, not the last: an early webhook holds the submit's answer back
        return delivery

    async def post(
        self, url: str, *, body: bytes, headers: dict[str, str], kind: str, timeout: float = _FIRST_TIMEOUT_SECONDS
    ) -> Delivery:
        at = datetime.now(UTC)
        headers = {"Content-Type": "application/json", **headers}
        # To loopback addresses too, which fal drops: there a stack on one machine listens.
        try:
            status_code = await self._poster.post(url, body, headers=headers, timeout=timeout)
        except PostError as error:
            return Delivery(at=at, kind=kind, status_code=None, error=str(error))
        return Delivery(at=at, kind=kind, status_code=status_code)


def webhook_body(entry: Entry) -> dict[str, Any]:
    outcome = entry.outcome
    assert outcome is not None
    body: dict[str, Any] = {"request_id": entry.request_id, "gateway_request_id": entry.gateway_request_id}
    # OK and ERROR, where the queue says COMPLETED of both.
    if not outcome.succeeded:
        error = f"Invalid status code: {outcome.http_status}"
        return {**body, "status": "ERROR", "error": error, "payload": outcome.body}
    # A success all the same, and charged: its result has to be fetched.
    if entry.faults.webhook is WebhookFault.NULL_PAYLOAD:
        return {**body, "status": "OK", "payload": None, "payload_error": "Response payload is not JSON serializable"}
    return {**body, "status": "OK", "payload": outcome.body}


def _worth_repeating(delivery: Delivery) -> bool:
    # By fal's page any 2xx will do, and a redirect is neither followed nor tried again.
    return delivery.status_code is None or delivery.status_code >= 400


def _foreign_url(url: str, foreign_url: str | None) -> str:
    if foreign_url:
        return foreign_url
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query)) | {"token": secrets.token_hex(16)}
    return urlunsplit(parts._replace(query=urlencode(query)))
