"""Charges at a payment provider: one POST, which may be repeated because it carries an Idempotency-Key.

The block `payment-account/default` holds address and key. Which fields the POST has is in `_body`: to be changed to
what one's own provider takes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import httpx
from pydantic import Field, SecretStr

from darkroom.errors import DarkroomError, Permanent, RateLimited, Retry
from darkroom.providers.account import Configured
from darkroom.providers.http import lost_call, retry_after
from darkroom.settings import Settings
from darkroom.tls import tls_context

SECONDS = 30.0  # for connecting, and for each piece of the answer
MOST_BYTES = 64 * 1024  # of an answer
LONGEST_ID = 200  # characters of the provider's name for a charge
TRANSIENT = frozenset({408, 409, 425})  # 409: another try under the same key is still under way


@dataclass(frozen=True, kw_only=True)
class Charge:
    """`key`: the same key is the same charge, however often it is asked for."""

    order: str
    amount_cents: int  # of the currency's hundredths
    currency: str  # ISO 4217
    payment_method: str
    key: str


class PaymentAccount(Configured):
    """Access to the payment provider that orders are charged at."""

    _block_type_name: ClassVar[str | None] = "Payment account"
    _block_type_slug: ClassVar[str | None] = "payment-account"
    _description: ClassVar[str | None] = "Where process-order posts its charges."

    variables: ClassVar[tuple[str, ...]] = ("DARKROOM_PAYMENT_URL", "DARKROOM_PAYMENT_KEY")

    url: str = Field(
        title="Address", description="Each charge is posted there.", pattern=r"^https?://\S+$", max_length=2000
    )
    key: SecretStr = Field(title="Key", description="Sent as Bearer token.", min_length=1)

    @classmethod
    def given(cls, settings: Settings) -> Self | None:
        if not settings.payment_url or not settings.payment_key:
            return None
        return cls(url=settings.payment_url, key=settings.payment_key)

    def charge(self, charge: Charge) -> str:
        """Charge, and return the charge's id. Raise Retry or Park where the failure may pass, else Permanent.

        The id is the provider's.
        """
        headers = {
            "Authorization": f"Bearer {self.key.get_secret_value()}",
            "Idempotency-Key": charge.key,
        }
        try:
            with (
                httpx.Client(timeout=SECONDS, verify=tls_context()) as client,
                client.stream("POST", self.url, json=_body(charge), headers=headers) as answer,
            ):
                return _read(answer)
        except httpx.InvalidURL as error:
            raise Permanent("the address in the block payment-account/default is none", code="bad_address") from error
        except httpx.HTTPError as error:
            # It may have been charged. Under the same key it is not charged again.
            raise lost_call("the payment provider", error) from error


def _body(charge: Charge) -> dict[str, Any]:
    return {
        "amount": charge.amount_cents,
        "currency": charge.currency,
        "order": charge.order,
        "payment_method": charge.payment_method,
    }


def _read(answer: httpx.Response) -> str:
    if not answer.is_success:
        raise _refusal(answer.status_code, answer.headers)
    try:
        charge_id = json.loads(_content(answer))["id"]
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable() from error
    if not isinstance(charge_id, str) or not 0 < len(charge_id) <= LONGEST_ID:
        raise _unreadable()
    return charge_id


def _content(answer: httpx.Response) -> bytes:
    content = b""
    for piece in answer.iter_bytes():
        content += piece
        if len(content) > MOST_BYTES:
            raise _unreadable()
    return content


def _unreadable() -> DarkroomError:
    return Retry("the payment provider's answer has no readable id of the charge", code="unexpected_answer")


def _refusal(status: int, headers: httpx.Headers) -> DarkroomError:
    """Return the error, without the provider's words: they may repeat what was sent."""
    words = f"the payment provider answered HTTP {status}"
    if status == 402:
        return Permanent("the payment was declined: order again with another payment method", code="payment_declined")
    if status == 429:
        return RateLimited(words, retry_after=retry_after(headers))
    if status >= 500 or status in TRANSIENT:
        return Retry(words, retry_after=retry_after(headers))
    if status in (401, 403):
        return Permanent(f"{words}: check the key in the block payment-account/default", code="unauthorized")
    return Permanent(words, code="payment_refused")
