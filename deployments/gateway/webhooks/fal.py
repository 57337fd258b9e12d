"""What becomes of a webhook from fal: verified, matched to a row, settled. The answer decides whether fal tries again.

The signature covers neither the query nor the customer, so both are checked here: the account against ours, and the
token in the URL against the row's. A row without the provider's id is found by token, and adopts the id only once a GET
with our own key has confirmed it. What is refused is counted and sampled in the log, not stored.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from enum import Enum

from darkroom.clock import utc_now
from darkroom.deployments.gateway.log_throttle import Sampler
from darkroom.deployments.gateway.loops.block_cache import Blocks
from darkroom.deployments.gateway.problems import Problem
from darkroom.errors import Permanent
from darkroom.ledger import Arrival, Implied, Ledger, Outcome, Request, Verdict
from darkroom.providers.fal import Jwks, WebhookEnvelope, WebhookRejected
from darkroom.providers.outcomes import webhook_outcome

ACCOUNT = "fal"
TOKEN = re.compile(r"[0-9a-f]{32}")


class Match(Enum):
    HELD = "held"  # we know it under the provider's id
    CONFIRM = "confirm"  # its token is ours: whether its id is, only the provider can say
    FOREIGN_TOKEN = "foreign_token"
    UNKNOWN = "unknown"


def match(token: str | None, *, by_id: Request | None, by_token: Request | None) -> Match:
    if by_id is not None:
        good = token is None or hmac.compare_digest(token.encode(), by_id.token.encode())
        return Match.HELD if good else Match.FOREIGN_TOKEN
    return Match.CONFIRM if by_token is not None else Match.UNKNOWN


class Callbacks:
    def __init__(self, ledger: Ledger, jwks: Jwks, blocks: Blocks, *, fal_user_id: str | None) -> None:
        self._ledger = ledger
        self._jwks = jwks
        self._blocks = blocks
        self._fal_user_id = fal_user_id
        self._learned: str | None = None
        self._sampler = Sampler("webhooks refused")

    def receive(self, headers: Mapping[str, str], body: bytes, *, token: str | None) -> tuple[Verdict, Implied]:
        """Settle the webhook's request.

        Raise Problem for what is not ours, Retry or Park for what fal shall send again.
        """
        envelope = self._verify(headers, body)
        expected = self._account()
        if expected is not None and envelope.user_id != expected:
            raise self._refused(403, "other_account", "This webhook is for another account.")
        arrival = Arrival(request_id=envelope.request_id, body_sha256=envelope.body_sha256)
        if expected is not None:  # nearly always, and then nearly always known by its id: one transaction
            settled = self._ledger.requests.settle_arrival(arrival, lambda row: self._outcome(row, envelope, token))
            if settled is not None:
                return settled
        row = self._find(envelope, token)
        if expected is None:
            self._learn(envelope.user_id)
        return self._ledger.requests.settle(row.ref, webhook_outcome(row, envelope), via="webhook", arrival=arrival)

    def _outcome(self, row: Request, envelope: WebhookEnvelope, token: str | None) -> Outcome:
        if match(token, by_id=row, by_token=None) is Match.FOREIGN_TOKEN:
            raise self._foreign_token()
        return webhook_outcome(row, envelope)

    def _verify(self, headers: Mapping[str, str], body: bytes) -> WebhookEnvelope:
        try:
            return self._jwks.verify(headers, body, utc_now())
        except WebhookRejected as error:
            raise self._refused(401, error.reason, "This webhook could not be verified.") from error

    def _account(self) -> str | None:
        """Return fal's user id: what is set rules over what was learned. Return None if neither is."""
        if configured := self._fal_user_id or self._blocks.fal_user_id:
            return configured
        if self._learned is None:
            self._learned = self._ledger.users.account(ACCOUNT).provider_user_id
        return self._learned

    def _find(self, envelope: WebhookEnvelope, token: str | None) -> Request:
        by_id = self._ledger.requests.by_provider_id(envelope.request_id)
        by_token = self._by_token(token) if by_id is None else None
        found = match(token, by_id=by_id, by_token=by_token)
        row = by_id or by_token
        if found is Match.FOREIGN_TOKEN:
            raise self._foreign_token()
        if row is None or (found is Match.CONFIRM and not self._is_ours(row, envelope.request_id)):
            raise self._refused(404, "unknown_request", "There is no such request.")
        return row

    def _by_token(self, token: str | None) -> Request | None:
        return self._ledger.requests.by_token(token) if token and TOKEN.fullmatch(token) else None

    def _is_ours(self, row: Request, request_id: str) -> bool:
        try:
            return self._blocks.fal().confirm(row.endpoint, request_id)
        except Permanent:
            return False

    def _learn(self, user_id: str) -> None:
        """Only now: the request is one of ours, so its account is too."""
        if self._ledger.users.learn_provider_user(ACCOUNT, user_id) != user_id:
            raise self._refused(403, "other_account", "This webhook is for another account.")

    def _foreign_token(self) -> Problem:
        return self._refused(403, "foreign_token", "The token is another request's.")

    def _refused(self, status: int, reason: str, detail: str) -> Problem:
        self._sampler.count(reason)
        return Problem(status, detail, code=reason.replace("_", "-"))
