"""What becomes of a webhook from Mux: verified, matched to a row by the upload's id, settled.

Mux tells of everything that happens in its environment, and repeats what was not answered 2xx for a day. An upload's id
is on record before its film leaves us, so news of one that nobody here knows is of somebody else's: answered 200, or
each film that others upload there would be told to us for a day. News that are lost are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr

from darkroom.clock import utc_now
from darkroom.deployments.gateway.log_throttle import Sampler
from darkroom.deployments.gateway.problems import Problem
from darkroom.ledger import NOTHING, Arrival, Implied, Ledger, Outcome, Request
from darkroom.providers.fal import WebhookRejected
from darkroom.providers.mux import AssetEvent, asset_outcome, verify_webhook

ACCOUNT = "mux"
IGNORED = "ignored"


class MuxCallbacks:
    def __init__(self, ledger: Ledger, *, secret: SecretStr | None) -> None:
        self._ledger = ledger
        self._secret = secret
        self._sampler = Sampler("webhooks of Mux refused")

    def receive(self, headers: Mapping[str, str], body: bytes) -> tuple[str, Implied]:
        """Settle the webhook's request. Return the verdict, and what it implies. Raise Problem for what is not Mux'."""
        event = self._verify(headers, body)
        if event is None:
            return IGNORED, NOTHING
        arrival = Arrival(provider=ACCOUNT, request_id=event.upload_id, body_sha256=event.body_sha256)
        settled = self._ledger.requests.settle_arrival(arrival, lambda row: _outcome(row, event))
        if settled is None:
            return IGNORED, NOTHING
        verdict, implied = settled
        return verdict.value, implied

    def _verify(self, headers: Mapping[str, str], body: bytes) -> AssetEvent | None:
        if self._secret is None:
            remedy = "Set MUX_WEBHOOK_SECRET to the signing secret of this endpoint; until then Mux is asked."
            raise Problem(503, "Webhooks of Mux are not set up here.", remedy=remedy, code="not-set-up")
        try:
            return verify_webhook(headers, body, secret=self._secret.get_secret_value(), now=utc_now())
        except WebhookRejected as error:
            self._sampler.count(error.reason)
            detail = "This webhook could not be verified."
            raise Problem(401, detail, code=error.reason.replace("_", "-")) from error


def _outcome(row: Request, event: AssetEvent) -> Outcome:
    outcome = asset_outcome(row, event.asset)
    if outcome is None:
        # It says ready or errored in its type and neither in its body: nothing Mux documents. Asking will tell.
        raise Problem(422, "The asset is neither ready nor errored.", code="malformed")
    return outcome
