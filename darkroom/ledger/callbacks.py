"""Callbacks: news for users' own applications, each on record as a delivery before it is sent, and until it was taken.

Whoever comes first reads the news on from a cursor, under the lock of its row, and puts deliveries on record in the
transaction that moves it: so each is there once, whichever gateway dies, and has the id that it keeps. Deliveries are
claimed for a while (`Timing.callback_claim`); one whose sender has died is due again after that, under the same id.
Whoever changes an endpoint and a delivery takes the endpoint's row first: who switches it off gives up all that is due.

Endpoints and secrets are those of the owner of a key: a service is told what happens to all of its end users. What the
ledger keeps of a secret is what it is derived from with the installation's signing key (`salt`), and that alone signs
nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row

from darkroom.errors import WrongState
from darkroom.ledger.callback_tables import Callback, CallbackEndpoint
from darkroom.ledger.canonical_json import dumps
from darkroom.ledger.database import plain, run
from darkroom.ledger.news import MOST_FORGOTTEN
from darkroom.ledger.part import Part
from darkroom.ledger.users import OVERLAP
from darkroom.shown_addresses import without_secrets

MOST_READ = 1000  # pieces of news at once
LONGEST_ANSWER = 4096  # bytes that are kept of an answer
REPLACED = "the endpoint was taken away"


@dataclass(frozen=True, kw_only=True)
class Sent:
    """The outcome of one attempt. `again`: when the next one is due; None: there is none. `gone`: a 410."""

    status: int | None = None
    answer: str | None = None
    error: str | None = None
    again: datetime | None = None
    gone: bool = False


@dataclass(frozen=True, kw_only=True)
class OffEndpoint:
    """An endpoint that was switched off, of which the operator was not told yet."""

    user_id: str
    name: str
    off_at: datetime
    reason: str


class Callbacks(Part):
    def put_on_record(self) -> bool:
        """Make deliveries of the next news. Return whether there may be more."""
        return bool(self._run("callbacks_put_on_record", most=MOST_READ, now=self._now()).scalar_one() == MOST_READ)

    def claim(self, *, most: int, slots: int, free: Mapping[str, int]) -> list[Callback]:
        """Claim deliveries that are due: of each lane as many as it has slots `free`, or `slots` where it is not named.

        `next_at` of each is until when it is claimed.
        """
        now = self._now()
        until = now + self._timing.callback_claim
        rows = self._run("callbacks_claim", now=now, until=until, most=most, slots=slots, free=dumps(free))
        return [plain(Callback, row) for row in rows]

    def sent(self, callback: Callback, sent: Sent) -> None:
        """Put on record the outcome of an attempt; an endpoint that has failed for days is switched off by that."""
        with self._engine.begin() as connection:
            if sent.error is None:
                # Whoever may have claimed it since: it was taken.
                given = {"status": sent.status, "answer": sent.answer}
                run(connection, "callback_endpoint_well", owner_id=callback.owner_id, url=callback.url)
                run(connection, "callback_delivered", id=callback.id, now=self._now(), **given)
            else:
                self._failed(connection, callback, sent)

    def get(self, id: str, *, owner_id: str, user_id: str | None) -> Callback | None:
        """Return the delivery, if it is the owner's, and about that user's news where one is named."""
        row = self._run("callback_get", id=id, owner_id=owner_id, user_id=user_id).one_or_none()
        return None if row is None else plain(Callback, row)

    def page(
        self,
        owner_id: str,
        *,
        user_id: str | None,
        status: str | None,
        before: tuple[datetime, str] | None,
        limit: int,
    ) -> list[Callback]:
        """Return a page of the owner's deliveries, newest first. `before`: time and id of the last one before it."""
        before_at, before_id = before or (None, None)
        given = {"owner_id": owner_id, "user_id": user_id, "status": status, "limit": limit}
        rows = self._run("callbacks_page", before_at=before_at, before_id=before_id, **given)
        return [plain(Callback, row) for row in rows]

    def resend(self, callback: Callback) -> Callback:
        """Let it be sent once more, with all its attempts. Raises `WrongState` where its endpoint takes nothing."""
        with self._engine.begin() as connection:
            if not callback.of_order:  # the address of an order is never switched off
                _require_on(self._endpoint(connection, callback.owner_id))
            return plain(Callback, run(connection, "callback_resend", id=callback.id, now=self._now()).one())

    def resend_dead(self, owner_id: str, *, user_id: str | None, since: datetime) -> int:
        """Let all that were given up since then be sent once more. Return how many."""
        with self._engine.begin() as connection:
            endpoint = self._endpoint(connection, owner_id)
            on = endpoint.url is not None and endpoint.off_at is None
            given = {"owner_id": owner_id, "user_id": user_id, "since": since, "on": on}
            return run(connection, "callbacks_resend", now=self._now(), **given).rowcount

    def test(self, owner_id: str) -> Callback:
        """Put a delivery on record that tells nothing. Raises `WrongState` where the endpoint takes nothing."""
        with self._engine.begin() as connection:
            _require_on(self._endpoint(connection, owner_id))
            return plain(Callback, run(connection, "callback_test", owner_id=owner_id, now=self._now()).one())

    def endpoint(self, owner_id: str) -> CallbackEndpoint:
        """Return the owner's endpoint; what secrets are derived from is made on first need."""
        with self._engine.begin() as connection:
            return self._endpoint(connection, owner_id)

    def put_endpoint(
        self, owner_id: str, *, url: str, events: Sequence[str], thin: bool
    ) -> tuple[CallbackEndpoint, bool]:
        """Set the endpoint, and switch it on again. Return it, and whether its secret was never shown yet."""
        with self._engine.begin() as connection:
            # So that of two who set it first one is shown the secret.
            shown = self._endpoint(connection, owner_id, lock=True).shown
            given = {"owner_id": owner_id, "url": url, "thin": thin}
            row = run(connection, "callback_endpoint_put", events=list(events), **given).one()
            run(connection, "callback_endpoint_moved", **given)
            return plain(CallbackEndpoint, row), not shown

    def drop_endpoint(self, owner_id: str) -> None:
        """Take the endpoint away, and give up what was to go there. Its secrets stay, for addresses of orders."""
        with self._engine.begin() as connection:
            run(connection, "callback_endpoint_drop", owner_id=owner_id)
            run(connection, "callbacks_end", owner_id=owner_id, reason=REPLACED)

    def rotate(self, owner_id: str) -> CallbackEndpoint:
        """Make a new secret; the one before signs beside it for a day."""
        with self._engine.begin() as connection:
            self._endpoint(connection, owner_id, lock=True)
            until = self._now() + OVERLAP
            given = {"owner_id": owner_id, "salt": _salt(), "until": until}
            return plain(CallbackEndpoint, run(connection, "callback_endpoint_rotate", **given).one())

    def off(self) -> list[OffEndpoint]:
        """Return the endpoints that were switched off without the operator having been told."""
        return [
            OffEndpoint(user_id=row.user_id, name=row.name, off_at=row.off_at, reason=row.off_reason)
            for row in self._run("callback_endpoints_to_tell")
        ]

    def off_notified(self, endpoint: OffEndpoint) -> None:
        given = {"owner_id": endpoint.user_id, "off_at": endpoint.off_at}
        self._run("callback_endpoint_told", now=self._now(), **given)

    def forget(self, *, older_than: timedelta) -> int:
        """Delete old deliveries that have ended, a bounded number at once. Return how many."""
        before = self._now() - older_than
        return self._run("callbacks_forget", before=before, most=MOST_FORGOTTEN).rowcount

    def _endpoint(self, connection: Connection, owner_id: str, *, lock: bool = False) -> CallbackEndpoint:
        statement = "callback_endpoint_lock" if lock else "callback_endpoint_get"
        row = run(connection, statement, owner_id=owner_id).one_or_none()
        if row is None:
            # Another may have made it meanwhile: what stands then is read.
            run(connection, "callback_endpoint_need", owner_id=owner_id, salt=_salt(), now=self._now())
            row = run(connection, statement, owner_id=owner_id).one()
        return plain(CallbackEndpoint, row)

    def _failed(self, connection: Connection, callback: Callback, sent: Sent) -> None:
        if not callback.of_order:
            self._endpoint(connection, callback.owner_id, lock=True)
        given = {"status": sent.status, "answer": sent.answer, "error": sent.error, "again": sent.again}
        # As it was claimed: a claim that has run out is another sender's.
        row = run(connection, "callback_failed", id=callback.id, claimed=callback.next_at, **given).one_or_none()
        if row is None or callback.of_order:
            return
        of = {"owner_id": callback.owner_id, "now": self._now()}
        # Of the address that it has now: a failure at the one before says nothing of it.
        found = run(connection, "callback_endpoint_failing", url=callback.url, **of).one_or_none()
        if found is None:
            return
        if sent.gone:
            _switch_off(connection, found, "it answered 410 (gone)", now=self._now())
        elif found.failing_since <= self._now() - self._timing.callback_off:
            _switch_off(connection, found, f"nothing could be delivered to it for days: {sent.error}", now=self._now())


def _switch_off(connection: Connection, endpoint: Row[Any], reason: str, *, now: datetime) -> None:
    owner_id = endpoint.user_id
    run(connection, "callback_endpoint_off", owner_id=owner_id, reason=reason, now=now)
    run(connection, "callbacks_end", owner_id=owner_id, reason="the endpoint was off")
    data = dumps({"url": without_secrets(endpoint.url or ""), "reason": reason})
    run(connection, "callback_endpoint_off_news", owner_id=owner_id, data=data, now=now)


def _require_on(endpoint: CallbackEndpoint) -> None:
    if endpoint.url is None:
        raise WrongState("There is no endpoint. Name one with `PUT /v1/callback-endpoint`.")
    if endpoint.off_at is not None:
        raise WrongState(f"The endpoint is off: {endpoint.off_reason}. Mend it, and `PUT` it again.")


def _salt() -> str:
    return secrets.token_hex(16)
