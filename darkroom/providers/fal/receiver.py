"""fal's webhooks, verified by its public keys.

The signature covers neither the query nor the customer: the account and the row's token are compared by the gateway.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from darkroom.clock import Clock, utc_now
from darkroom.providers.account import ProviderAccount
from darkroom.providers.fal.jwks import Jwks
from darkroom.providers.fal.outcomes import webhook_outcome
from darkroom.providers.webhooks import Webhook


class FalReceiver:
    tells_of_others = False  # each submit names the address that fal is to call

    def __init__(self, jwks: Jwks | None = None, *, clock: Clock = utc_now) -> None:
        self._jwks = jwks or Jwks()
        self._clock = clock

    def receive(
        self, headers: Mapping[str, str], body: bytes, query: Mapping[str, str], *, account: ProviderAccount | None
    ) -> Webhook:
        envelope = self._jwks.verify(headers, body, self._clock())
        return Webhook(
            request_id=envelope.request_id,
            body_sha256=envelope.body_sha256,
            outcome=partial(webhook_outcome, envelope=envelope),
            provider_user=envelope.user_id,
            last_try=envelope.gateway_request_id,
        )
