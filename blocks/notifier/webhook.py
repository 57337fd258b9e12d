"""A signed POST, as the Standard Webhooks specification has it, for which receivers find libraries in every language.

`webhook-signature: v1,<base64 of HMAC-SHA256 over "id.timestamp.body">`. Source: github.com/standard-webhooks,
spec/standard-webhooks.md. `Idempotency-Key` is the same id, for receivers that know that header.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time

import httpx

from darkroom.blocks.notifier.message import Message
from darkroom.errors import DarkroomError, Permanent, RateLimited, Retry
from darkroom.providers.http import lost_call, retry_after
from darkroom.tls import tls_context

BLOCK = "notifier/default"
SECONDS = 15.0  # for connecting, and for each piece of the answer
PREFIX = "whsec_"
TRANSIENT = frozenset({408, 409, 425})


def post(message: Message, *, url: str, signing_key: str) -> None:
    """Post the signed message. Raise as `Notifier.send` does."""
    body = json.dumps({"id": message.id, "subject": message.one_line(), "text": message.text, "to": message.to})
    # The time of this try, as receivers refuse what was signed long ago.
    headers = signed(message.id, body, signing_key=signing_key, at=int(time.time()))
    try:
        with (
            # It follows no redirect: the signature is for one receiver.
            httpx.Client(timeout=SECONDS, verify=tls_context()) as client,
            # What it answers is of no interest, however long it is.
            client.stream("POST", url, content=body, headers=headers) as answer,
        ):
            _require_taken(answer)
    except httpx.InvalidURL as error:
        raise Permanent(f"the address in the block {BLOCK} is none", code="bad_address") from error
    except httpx.HTTPError as error:
        raise lost_call("the notifier's webhook", error) from error


def signed(id: str, body: str, *, signing_key: str, at: int) -> dict[str, str]:
    """Return the headers of a message, signed. `at`: Unix time in seconds."""
    mac = hmac.digest(_secret(signing_key), f"{id}.{at}.{body}".encode(), "sha256")
    return {
        "Content-Type": "application/json",
        "Idempotency-Key": id,
        "webhook-id": id,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }


def _secret(signing_key: str) -> bytes:
    if not signing_key.startswith(PREFIX):  # not in the specification's form: the text itself is the key
        return signing_key.encode()
    try:
        return base64.b64decode(signing_key.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise Permanent(f"the signing key of the block {BLOCK} is no base64 after {PREFIX}", code="bad_key") from error


def _require_taken(answer: httpx.Response) -> None:
    if answer.is_success:
        return
    raise _refusal(answer.status_code, answer.headers)


def _refusal(status: int, headers: httpx.Headers) -> DarkroomError:
    words = f"the notifier's webhook answered HTTP {status}"
    if status == 429:
        return RateLimited(words, retry_after=retry_after(headers))
    if status >= 500 or status in TRANSIENT:
        return Retry(words, retry_after=retry_after(headers))
    return Permanent(f"{words}: check the block {BLOCK}", code="refused")
