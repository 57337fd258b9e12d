"""What the providers let us know about an account as a whole: it is out, it is back, it wants less.

Each is its own transaction that takes the account's row and nothing else, so it is never asked for by somebody who
holds a run or a request. Reported before the refused row goes back to the queue: else the next grant would send it
straight into the same outage.
"""

from __future__ import annotations

from datetime import datetime

from darkroom.ledger.breaker import halve_again, pause_after
from darkroom.ledger.database import plain, run
from darkroom.ledger.effects import Implied, grant_if
from darkroom.ledger.part import Part
from darkroom.ledger.tables import Account


class Accounts(Part):
    def ensure(self, account_id: str, *, slots: int, user_slots: int | None) -> None:
        """Insert the account of a provider that was installed since. One that is there keeps what it has."""
        self._run("account_insert", account_id=account_id, slots=slots, user_slots=user_slots)

    def out(self, account_id: str, *, probe: bool, reason: str | None = None) -> None:
        """Open the breaker: the provider is out of service. With `probe`: it still is, and the next one waits longer.

        `reason`: what a person has to do something about.
        """
        now = self._now()
        with self._engine.begin() as connection:
            account = run(connection, "account_lock", account_id=account_id).one()
            if account.down_since is not None and not probe:  # open already: only a probe says anything new
                return
            failed = account.failed_probes + 1 if account.down_since else 0
            run(
                connection,
                "account_down",
                account_id=account_id,
                down_since=account.down_since or now,
                failed_probes=failed,
                probe_at=now + pause_after(failed, timing=self._timing),
                reason=reason,
            )

    def to_notify(self) -> list[Account]:
        """Return the accounts that wait for a person who was not told yet."""
        return [plain(Account, row) for row in self._run("accounts_to_notify")]

    def notified(self, account: Account) -> None:
        """Note that a person was told, for as long as the account is down for that reason."""
        self._run("account_notified", account_id=account.id, down_since=account.down_since, now=self._now())

    def back(self, account_id: str) -> Implied:
        """Close the breaker, as a probe was answered: what waited goes on."""
        return grant_if(self._run("account_back", account_id=account_id).rowcount > 0)

    def slow_down(self, account_id: str) -> None:
        """Halve the slots for a while, as the provider said 429."""
        now: datetime = self._now()
        with self._engine.begin() as connection:
            account = run(connection, "account_lock", account_id=account_id).one()
            halvings = halve_again(account.halvings, account.slowed_at, now=now, timing=self._timing)
            if halvings is not None:
                run(connection, "account_slowed", account_id=account_id, halvings=halvings, now=now)
