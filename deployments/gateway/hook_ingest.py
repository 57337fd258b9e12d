"""The outcome of a webhook of others: verified, read, made an event, and put on record like any that is sent.

Nothing of a body is parsed before it is known whose it is. What is refused is counted and sampled in the log, not
stored. What is signed and cannot be made an event is kept as a refused event of the hook's owner.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from darkroom.deployments.gateway.log_throttle import LogThrottle
from darkroom.deployments.gateway.loops.block_cache import BlockCache
from darkroom.deployments.gateway.problem_hints import remedy_of
from darkroom.deployments.gateway.problems import Problem, unavailable
from darkroom.deployments.gateway.recurrence import WINDOW_SECONDS, Recurrence
from darkroom.errors import BadInput, Retry
from darkroom.events import EventIngest, Hook, HookFailed, IngestResult, Sender, watch_hooks
from darkroom.events.hook_schemes import SchemeName, verify
from darkroom.events.ingest import Problem as Refusal
from darkroom.ledger import NOTHING, Implied, Ledger
from darkroom.nesting import MOST_LEVELS, nests_too_deep
from darkroom.providers.webhooks import Rejection, WebhookRejected

logger = logging.getLogger(__name__)

FORM = "application/x-www-form-urlencoded"
MOST_FIELDS = 1000  # of a form
LONGEST_CHALLENGE = 1000  # which is sent back as it came


class HookIngest:
    def __init__(self, ledger: Ledger, blocks: BlockCache, ingest: EventIngest) -> None:
        self._ledger = ledger
        self._blocks = blocks
        self._ingest = ingest
        self._hooks = watch_hooks()
        self._sampler = LogThrottle("hooks refused")
        self._recurrence = Recurrence()
        for hook in self._hooks.now().values():
            _secrets(hook, blocks)  # so that they are read before the first webhook comes

    def receive(self, name: str, headers: Mapping[str, str], body: bytes) -> tuple[dict[str, Any], Implied]:
        """Take a webhook. Return the answer, and what the event implies that it has become.

        Raise Problem for what is refused, Retry for what shall be sent again.
        """
        hook = self._hooks.now().get(name)
        if hook is None:
            raise self._refused(404, "unknown_hook", "There is no hook of this name.")
        given = {each.lower(): value for each, value in headers.items()}
        self._verify(hook, given, body)
        payload = _read(given, body)
        # Slack asks once whether the address is ours, signed as all it sends: that is no event.
        if hook.scheme is SchemeName.SLACK and (challenge := _challenge(payload)) is not None:
            return {"challenge": challenge}, NOTHING
        sender = self._sender(hook)
        try:
            envelope = hook.envelope(payload, given)
        except HookFailed as error:
            self._fail(hook, sender, payload, error)
        if envelope is None:  # refused, it would be sent again and again
            return {"verdict": "ignored"}, NOTHING
        (taken,), implied = self._ingest.take(sender, [envelope])
        if taken.problem is not None:
            raise self._no_event(hook, taken, taken.problem)
        return {"verdict": "accepted", "id": taken.id, "new": taken.new}, implied

    def _verify(self, hook: Hook, headers: Mapping[str, str], body: bytes) -> None:
        secrets, unread = _secrets(hook, self._blocks)
        try:
            verify(hook.scheme, headers, body, secrets=secrets, now=self._ledger.clock(), plain=hook.plain)
        except WebhookRejected as error:
            if unread is not None and error.reason is Rejection.BAD_SIGNATURE:
                raise unread from None  # by a secret that is not known yet, perhaps
            raise self._refused(401, error.reason, "This webhook could not be verified.") from None
        except ValueError as error:
            logger.error("The hook %s cannot verify anything, a block with its secret is wrong: %s", hook.name, error)
            raise unavailable("An operator has to look after this hook.") from None
        # A signature without a time holds for ever: what was signed once can be sent again and again.
        # It is known by its bytes, as the id of a delivery is not signed everywhere.
        if self._recurrence.too_often((hook.name, hashlib.sha256(body).digest())):
            problem = self._refused(429, "repeated", "This webhook comes too often.")
            problem.headers = {"Retry-After": str(round(WINDOW_SECONDS))}
            raise problem

    def _sender(self, hook: Hook) -> Sender:
        """Return the hook's owner, who speaks for all end users of theirs."""
        users = self._ledger.users
        try:
            owner_id = users.find(hook.owner).id
        except BadInput as error:
            logger.error("The hook %s takes nothing: %s", hook.name, error.message)
            raise unavailable("An operator has to look after this hook.") from None
        return Sender(
            source=owner_id,
            owner_id=owner_id,
            user_id=None,
            named=lambda names: users.end_users(owner_id, names),
        )

    def _fail(self, hook: Hook, sender: Sender, payload: Any, error: HookFailed) -> NoReturn:
        """Keep what an expression of ours could not read, for whoever puts the expression right."""
        problem = Refusal(field=error.place, message=error.reason)
        kept = self._ingest.refuse(sender, {"name": f"hooks.{hook.name}", "data": payload}, problem)
        raise self._no_event(hook, kept, problem)

    def _no_event(self, hook: Hook, kept: IngestResult, why: Refusal) -> Problem:
        # Loud: it is genuine, and what was to start by it did not.
        logger.error("A webhook of the hook %s is no event: %s: %s (%s)", hook.name, why.field, why.message, kept.id)
        return Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"{why.field}: {why.message}",
            field=why.field,
            remedy=remedy_of(why.message),
            instance=f"/v1/events/{kept.id}",
        )

    def _refused(self, status: int, reason: str, detail: str) -> Problem:
        self._sampler.count(reason)
        return Problem(status, detail, code=reason.replace("_", "-"))


def _secrets(hook: Hook, blocks: BlockCache) -> tuple[list[str], Retry | None]:
    """Return the hook's secrets as far as they are known, and what it is like for one that is not."""
    found, unread = list(hook.secrets), None
    for name in hook.blocks:
        try:
            found.append(blocks.secret(name))
        except Retry as error:
            unread = error
    return found, unread


def _read(headers: Mapping[str, str], body: bytes) -> Any:
    """Return what a body says: JSON, or the fields of a form, which may be one of JSON named `payload`."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        return _json(body)
    try:
        form = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError:
        raise _malformed() from None
    # So GitHub sends it where a form is chosen there, and Slack its interactions.
    return _json(form["payload"].encode()) if form.get("payload", "").startswith("{") else form


def _json(text: bytes) -> Any:
    if nests_too_deep(text):  # before it is parsed, as what reads, checks or writes it calls itself for each level
        raise Problem(422, f"The JSON is nested more than {MOST_LEVELS} levels deep.", field="body", code="too-deep")
    try:
        return json.loads(text)
    except ValueError:
        raise _malformed() from None


def _malformed() -> Problem:
    return Problem(422, "The body is neither JSON nor a form.", field="body", code="malformed")


def _challenge(payload: Any) -> str | None:
    """Return what Slack wants to hear back, when an address is entered there."""
    if not isinstance(payload, dict) or payload.get("type") != "url_verification":
        return None
    return str(payload.get("challenge", ""))[:LONGEST_CHALLENGE]
