"""What a provider's webhook says, once it is verified: which call it is about, and how that ended.

How it is verified is the provider's own: its account makes a `WebhookReceiver`. Its outcome is the gateway's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from darkroom.errors import Refused
from darkroom.ledger import Outcome, Request

if TYPE_CHECKING:
    from darkroom.providers.account import ProviderAccount


class Rejection(StrEnum):
    MISSING_HEADERS = "missing_headers"  # not from the provider, or a proxy in between drops them
    STALE = "stale"  # replayed, or a clock is wrong
    BAD_SIGNATURE = "bad_signature"  # forged, altered on the way, or signed by a key we do not have yet
    MALFORMED = "malformed"  # signed, but not what the provider documents
    ID_MISMATCH = "id_mismatch"  # header and body speak of different requests


class WebhookRejected(Refused):
    """Nothing of the webhook may be believed. `reason` is a `Rejection`."""

    def __init__(self, reason: str = Rejection.MALFORMED) -> None:
        super().__init__(reason, code=reason)
        self.reason = Rejection(reason)


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """A webhook that the provider signed. `request_id`: of the call, as the provider has it.

    `outcome`: how the call ended, given its row; None where the webhook does not say. `provider_user`: whose account it
    is for, where the signature alone does not tell. `last_try`: the provider's id of the try that it tells of, which is
    not the first one's where the provider has tried again by itself.
    """

    request_id: str
    body_sha256: str
    outcome: Callable[[Request], Outcome | None]
    provider_user: str | None = None
    last_try: str | None = None


class WebhookReceiver(Protocol):
    """Verifies the webhooks of one provider. Thread-safe."""

    @property
    def tells_of_others(self) -> bool:
        """Return whether it is told of calls that are none of ours too: these are answered 200, and passed over."""

    def receive(
        self,
        headers: Mapping[str, str],
        body: bytes,
        query: Mapping[str, str],
        *,
        account: ProviderAccount | None,
    ) -> Webhook | None:
        """Verify it and read it. Return None for news of something else than the end of a call.

        Raise WebhookRejected for what must not be believed, NeedsHuman where a secret is not set. `account`: its block,
        as far as it is known.
        """
