"""Mux' webhooks, verified by the secret of the one endpoint.

Mux tells of everything that happens in its environment, and repeats what was not answered 2xx for a day. News that are
lost are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr

from darkroom.clock import utc_now
from darkroom.errors import NeedsHuman
from darkroom.providers.account import ProviderAccount
from darkroom.providers.mux.outcomes import asset_outcome
from darkroom.providers.mux.webhook import verify_webhook
from darkroom.providers.webhooks import Webhook


class MuxReceiver:
    # An upload's id is on record before its film leaves us: one that nobody here knows is somebody else's.
    tells_of_others = True

    def __init__(self, secret: SecretStr | None) -> None:
        self._secret = secret

    def receive(
        self, headers: Mapping[str, str], body: bytes, query: Mapping[str, str], *, account: ProviderAccount | None
    ) -> Webhook | None:
        if self._secret is None:
            raise NeedsHuman(
                "Webhooks of Mux are not set up here. Set MUX_WEBHOOK_SECRET to the signing secret of this endpoint; "
                "until then Mux is asked.",
                code="not_set_up",
            )
        event = verify_webhook(headers, body, secret=self._secret.get_secret_value(), now=utc_now())
        if event is None:
            return None
        return Webhook(
            request_id=event.upload_id,
            body_sha256=event.body_sha256,
            outcome=lambda row: asset_outcome(row, event.asset),
        )
