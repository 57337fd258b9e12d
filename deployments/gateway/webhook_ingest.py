"""The outcome of a provider's webhook: verified, matched to a row, settled. The answer decides whether it comes again.

Whose webhook it is the provider's own receiver says. What its signature does not cover is checked here: the account
against ours, and the token in the address against the row's. What is refused is counted and sampled in the log, not
stored; what comes again and again is refused after a while.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from enum import Enum

from darkroom.deployments.gateway.log_throttle import LogThrottle
from darkroom.deployments.gateway.loops.block_cache import BlockCache
from darkroom.deployments.gateway.problems import Problem, not_found
from darkroom.deployments.gateway.recurrence import WINDOW_SECONDS, Recurrence
from darkroom.errors import NeedsHuman
from darkroom.ledger import NOTHING, Arrival, Implied, Ledger, Outcome, Request
from darkroom.providers.registry import accounts
from darkroom.providers.webhooks import Webhook, WebhookReceiver, WebhookRejected
from darkroom.settings import Settings

TOKEN = re.compile(r"[0-9a-f]{32}")  # 128 bits by chance
IGNORED = "ignored"  # of a call that is none of ours, or of something else than its end


class Match(Enum):
    HELD = "held"  # we know it under the provider's id
    CONFIRM = "confirm"  # its token is ours: whether its id is, only the provider can say
    FOREIGN_TOKEN = "foreign_token"
    UNKNOWN = "unknown"


def match(token: str | None, *, by_id: Request | None, by_token: Request | None) -> Match:
    if by_id is not None:
        # In constant time: who guesses a token learns nothing from how long the answer takes.
        good = token is None or hmac.compare_digest(token.encode(), by_id.token.encode())
        return Match.HELD if good else Match.FOREIGN_TOKEN
    return Match.CONFIRM if by_token is not None else Match.UNKNOWN


class WebhookIngest:
    def __init__(self, ledger: Ledger, blocks: BlockCache, settings: Settings) -> None:
        self._ledger = ledger
        self._blocks = blocks
        self._settings = settings
        self._receivers: dict[str, WebhookReceiver] = {}
        for account_id, account in accounts().items():
            if (receiver := account.receiver(settings)) is not None:
                self._receivers[account_id] = receiver
        self._learned: dict[str, str | None] = {}
        self._sampler = LogThrottle("webhooks refused")
        self._recurrence = Recurrence()

    def receive(
        self, account_id: str, headers: Mapping[str, str], body: bytes, query: Mapping[str, str]
    ) -> tuple[str, Implied]:
        """Settle the webhook's request. Return the verdict, and what it implies.

        Raise Problem for what is not ours, Retry or Park for what the provider shall send again.
        """
        receiver = self._receivers.get(account_id)
        if receiver is None:
            raise not_found("provider that sends webhooks")
        webhook = self._verified(receiver, account_id, headers, body, query)
        if webhook is None:
            return IGNORED, NOTHING
        # Before the ledger is asked: what is sent again and again costs it nothing.
        if self._recurrence.too_often((account_id, webhook.request_id)):
            raise self._too_often()
        is_known = self._require_our_account(account_id, webhook)
        token = query.get("token")
        arrival = Arrival(
            provider=account_id,
            request_id=webhook.request_id,
            body_sha256=webhook.body_sha256,
            last_try=webhook.last_try,
        )
        if is_known:  # nearly always, and then nearly always known by its id: one transaction
            settled = self._ledger.requests.settle_arrival(
                arrival, lambda row: self._outcome(row, webhook, account_id=account_id, token=token)
            )
            if settled is not None:
                return settled[0].value, settled[1]
            if receiver.tells_of_others:  # refused, it would come again, and never be ours
                return IGNORED, NOTHING
        # It has overtaken the answer to its submit, or our account is not known yet.
        row = self._find(account_id, webhook, token)
        if not is_known:
            self._learn(account_id, str(webhook.provider_user))
        outcome = self._outcome(row, webhook, account_id=account_id, token=token)
        verdict, implied = self._ledger.requests.settle(row.ref, outcome, via="webhook", arrival=arrival)
        return verdict.value, implied

    def _verified(
        self,
        receiver: WebhookReceiver,
        account_id: str,
        headers: Mapping[str, str],
        body: bytes,
        query: Mapping[str, str],
    ) -> Webhook | None:
        try:
            return receiver.receive(headers, body, query, account=self._blocks.account(account_id))
        except WebhookRejected as error:
            raise self._refused(401, error.reason, "This webhook could not be verified.") from error
        except NeedsHuman as error:  # the secret to verify it with is not set
            detail, _, remedy = error.message.partition(". ")
            raise Problem(503, f"{detail}.", remedy=remedy or None, code=error.code.replace("_", "-")) from error

    def _require_our_account(self, account_id: str, webhook: Webhook) -> bool:
        """Return whether it is known that the webhook is for our account; False where ours is yet to be learned."""
        if webhook.provider_user is None:  # its signature tells
            return True
        # A key that signs for all customers of a provider verifies another one's webhook, too.
        ours = self._provider_user(account_id)
        if ours is not None and ours != webhook.provider_user:
            raise self._other_account()
        return ours is not None

    def _provider_user(self, account_id: str) -> str | None:
        """Return our account in the provider's words: what is set rules over what was learned."""
        block = self._blocks.account(account_id)
        if configured := accounts()[account_id].provider_user(self._settings, block):
            return configured
        if self._learned.get(account_id) is None:
            self._learned[account_id] = self._ledger.users.account(account_id).provider_user_id
        return self._learned[account_id]

    def _outcome(self, row: Request, webhook: Webhook, *, account_id: str, token: str | None) -> Outcome:
        if row.account_id != account_id:
            raise self._unknown()
        if row.request_id is not None and match(token, by_id=row, by_token=None) is Match.FOREIGN_TOKEN:
            raise self._foreign_token()
        outcome = webhook.outcome(row)
        if outcome is None:
            # It tells of an end, and does not say which: nothing that the provider documents. Asking will tell.
            raise Problem(422, "The webhook does not say how the call ended.", code="malformed")
        return outcome

    def _find(self, account_id: str, webhook: Webhook, token: str | None) -> Request:
        by_id = self._ledger.requests.by_provider_id(webhook.request_id)
        by_token = self._by_token(token) if by_id is None else None
        found = match(token, by_id=by_id, by_token=by_token)
        row = by_id or by_token
        if found is Match.FOREIGN_TOKEN:
            raise self._foreign_token()
        if row is None or row.account_id != account_id:
            raise self._unknown()
        # The row has no id yet and was found by the token, which no signature covers: the provider, asked with our own
        # key, says whether the id is this call's.
        if found is Match.CONFIRM and not self._blocks.provider(account_id).confirm(row, webhook.request_id):
            raise self._unknown()
        return row

    def _by_token(self, token: str | None) -> Request | None:
        # What can be no token costs the ledger nothing.
        return self._ledger.requests.by_token(token) if token and TOKEN.fullmatch(token) else None

    def _learn(self, account_id: str, provider_user: str) -> None:
        """Put on record which account is ours."""
        # Only now: the request is one of ours, so its account is too. The first that is learned stays.
        if self._ledger.users.learn_provider_user(account_id, provider_user) != provider_user:
            raise self._other_account()

    def _other_account(self) -> Problem:
        return self._refused(403, "other_account", "This webhook is for another account.")

    def _unknown(self) -> Problem:
        # After 2xx it would not be sent again, and it may only have come early.
        return self._refused(404, "unknown_request", "There is no such request.")

    def _foreign_token(self) -> Problem:
        return self._refused(403, "foreign_token", "The token is another request's.")

    def _too_often(self) -> Problem:
        # A signature holds for minutes: what was signed once can be sent again and again by anybody who saw it.
        problem = self._refused(429, "repeated", "Webhooks of this request come too often.")
        problem.headers = {"Retry-After": str(round(WINDOW_SECONDS))}
        return problem

    def _refused(self, status: int, reason: str, detail: str) -> Problem:
        self._sampler.count(reason)
        return Problem(status, detail, code=reason.replace("_", "-"))
