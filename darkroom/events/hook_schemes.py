"""How the webhooks of others are signed: what the signature covers, and where it stands in the headers.

Each scheme is a function from headers and raw body to what was signed. `verify` compares it in constant time with what
any of the secrets gives, and then asks how old it is. Nothing of the body is parsed before.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from darkroom.providers.webhooks import Rejection, WebhookRejected

TOLERANCE = timedelta(minutes=5)  # as Stripe, Slack and Standard Webhooks advise
STANDARD_PREFIX = "whsec_"
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_MOST_SIGNATURES = 20  # in one header; each costs an HMAC's comparison


class SchemeName(StrEnum):
    STANDARD = "standard-webhooks"
    STRIPE = "stripe"
    GITHUB = "github"
    SLACK = "slack"
    HMAC = "hmac"


class HmacEntry(BaseModel):
    """Where a plain HMAC over the body stands, and how it is written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,100}$")]
    algorithm: Literal["sha1", "sha256", "sha384", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: Annotated[str, Field(max_length=50)] = ""  # before the signature: "sha256="


# GitHub's `X-Hub-Signature` beside it is of SHA-1, for old receivers.
GITHUB = HmacEntry(header="X-Hub-Signature-256", prefix="sha256=")


@dataclass(frozen=True, kw_only=True)
class Signed:
    """What was signed, the signatures that came with it, and when it was signed, where the scheme says that."""

    content: bytes
    signatures: Sequence[bytes]
    timestamp: int | None = None
    algorithm: str = "sha256"


def verify(
    scheme: SchemeName,
    headers: Mapping[str, str],
    body: bytes,
    *,
    secrets: Sequence[str],
    now: datetime,
    plain: HmacEntry | None = None,
) -> None:
    """Raise WebhookRejected unless one of the secrets has signed the body, within five minutes where that is told.

    `headers`: with names in lower case. `plain`: of the scheme `hmac`.
    """
    read = _SCHEMES.get(scheme)
    signed = _plain(headers, body, plain or GITHUB) if read is None else read(headers, body)
    keys = [key_of(scheme, secret) for secret in secrets]
    expected = [hmac.new(key, signed.content, signed.algorithm).digest() for key in keys]
    # All of them are compared, so that the time does not tell which secret it was.
    good = [hmac.compare_digest(one, other) for one in expected for other in signed.signatures]
    if not any(good):
        raise WebhookRejected(Rejection.BAD_SIGNATURE)
    # GitHub signs no time: its signatures hold for ever.
    if signed.timestamp is not None and abs(now.timestamp() - signed.timestamp) > TOLERANCE.total_seconds():
        raise WebhookRejected(Rejection.STALE)


def key_of(scheme: SchemeName, secret: str) -> bytes:
    """Return the key that a secret stands for. Raise ValueError, without the secret, for one that is none."""
    if not secret.strip():
        raise ValueError("it is empty")
    if scheme is not SchemeName.STANDARD:
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(STANDARD_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("it is no secret of Standard Webhooks: whsec_ and base64") from None


def _standard(headers: Mapping[str, str], body: bytes) -> Signed:
    id, timestamp = _header(headers, "webhook-id"), _timestamp(_header(headers, "webhook-timestamp"))
    # Several with blanks between, while a secret is changed; `v1a` beside it is asymmetric.
    pairs = [each.partition(",") for each in _header(headers, "webhook-signature").split(" ")]
    return Signed(
        content=f"{id}.{timestamp}.".encode() + body,
        signatures=_signatures([value for version, _, value in pairs if version == "v1"], "base64"),
        timestamp=timestamp,
    )


def _stripe(headers: Mapping[str, str], body: bytes) -> Signed:
    pairs = [each.strip().partition("=") for each in _header(headers, "stripe-signature").split(",")]
    stamps = [value for name, _, value in pairs if name == "t"]
    # With two it would be open which of them was signed.
    timestamp = _timestamp(stamps[0] if len(stamps) == 1 else "")
    return Signed(
        content=f"{timestamp}.".encode() + body,
        # Others are passed over, as Stripe advises against downgrades.
        signatures=_signatures([value for name, _, value in pairs if name == "v1"], "hex"),
        timestamp=timestamp,
    )


def _slack(headers: Mapping[str, str], body: bytes) -> Signed:
    said, timestamp = _header(headers, "x-slack-signature"), _timestamp(_header(headers, "x-slack-request-timestamp"))
    version, _, signature = said.partition("=")
    return Signed(
        content=f"v0:{timestamp}:".encode() + body,
        signatures=_signatures([signature] if version == "v0" else [], "hex"),
        timestamp=timestamp,
    )


def _github(headers: Mapping[str, str], body: bytes) -> Signed:
    return _plain(headers, body, GITHUB)


def _plain(headers: Mapping[str, str], body: bytes, entry: HmacEntry) -> Signed:
    said = _header(headers, entry.header.lower())
    if not said.startswith(entry.prefix):
        raise WebhookRejected(Rejection.MALFORMED)
    signatures = _signatures([said.removeprefix(entry.prefix)], entry.encoding)
    return Signed(content=body, signatures=signatures, algorithm=entry.algorithm)


_SCHEMES: Mapping[SchemeName, Callable[[Mapping[str, str], bytes], Signed]] = {
    SchemeName.STANDARD: _standard,
    SchemeName.STRIPE: _stripe,
    SchemeName.GITHUB: _github,
    SchemeName.SLACK: _slack,
}


def _header(headers: Mapping[str, str], name: str) -> str:
    found = headers.get(name, "")
    if not found:
        raise WebhookRejected(Rejection.MISSING_HEADERS)
    return found


def _timestamp(said: str) -> int:
    if not _TIMESTAMP.fullmatch(said):
        raise WebhookRejected(Rejection.MALFORMED)
    return int(said)


def _signatures(written: Sequence[str], encoding: str) -> list[bytes]:
    """Return the signatures as bytes; one that cannot be read is none."""
    found = []
    for each in written[:_MOST_SIGNATURES]:
        try:
            raw = each.encode("ascii")
            found.append(bytes.fromhex(each) if encoding == "hex" else base64.b64decode(raw, validate=True))
        except (ValueError, binascii.Error):
            continue
    if not found:
        raise WebhookRejected(Rejection.MALFORMED)
    return found
