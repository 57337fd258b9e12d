"""What providers bill, which comes later than the calls end: which bills to ask for, and what they came to.

A bill comes within minutes, late, in several parts, or never, and may be corrected. So a call is asked about again and
again, less and less often, until nothing more is expected; each time the sum of all that was billed takes the place of
the one before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from darkroom.ledger.canonical_json import dumps
from darkroom.ledger.database import plain, run
from darkroom.ledger.effects import Implied, grant_if
from darkroom.ledger.money_tables import AccountMoney
from darkroom.ledger.part import Part

FIRST = timedelta(minutes=2)  # after a call has ended, and after each time here: most are there then
# After the end of a call without a bill; of one that was hardly paid (it failed, or was cancelled) as far as a day.
UNKNOWN = (*(timedelta(minutes=each) for each in (5, 15, 60, 360)), *(timedelta(days=each) for each in (1, 3, 7, 14)))
KNOWN = (timedelta(days=1), timedelta(days=7))  # for parts that come later, and corrections
HARDLY = timedelta(days=1)
BILLED_BY = time(6, tzinfo=UTC)  # of the next day: most bills are there
OLDEST = timedelta(days=30)  # so far back is asked after a standstill, and after the first start with bills


@dataclass(frozen=True, kw_only=True)
class DueBill:
    """A call that has ended. `is_paid`: by what we know of it ourselves."""

    ref: str
    request_id: str
    created_at: datetime
    finished_at: datetime
    billed_usd: Decimal | None
    cost_usd: Decimal | None
    is_paid: bool


@dataclass(frozen=True, kw_only=True)
class Drift:
    """What calls of a model were billed at, and what had been reckoned."""

    endpoint: str
    calls: int
    cost_usd: Decimal
    billed_usd: Decimal

    @property
    def share(self) -> Decimal | None:
        """Return by how much the bill is higher, as a share of the cost; None where that was nothing."""
        return (self.billed_usd - self.cost_usd) / self.cost_usd if self.cost_usd else None


def billed_day(now: datetime) -> date | None:
    """Return the day before, in UTC, whose bills can be compared with its costs; None: most of them are not there."""
    now = now.astimezone(UTC)
    return None if now.timetz() < BILLED_BY else now.date() - timedelta(days=1)


class Bills(Part):
    def due(self, account_id: str, *, limit: int) -> list[DueBill]:
        """Return calls of the account whose bill is to be asked for now, the longest due first."""
        now = self._now()
        rows = self._run(
            "bills_due",
            account_id=account_id,
            oldest=now - OLDEST,
            before=now - self._timing.scale(FIRST),
            limit=limit,
        )
        return [DueBill(**row._mapping) for row in rows]

    def keep(self, asked: Sequence[DueBill], found: Mapping[str, Decimal], *, source: str) -> None:
        """Record what the provider answered for these calls: by its own ids what each was billed at in all."""
        now = self._now()
        rows = [
            {
                "ref": each.ref,
                "billed_usd": None if (usd := found.get(each.request_id)) is None else str(usd),
                "source": None if usd is None else source,
                "due_at": None if (due := self._next(each, usd, now=now)) is None else due.isoformat(),
            }
            for each in asked
        ]
        self._run("bills_keep", rows=dumps(rows), now=now)

    def _next(self, call: DueBill, usd: Decimal | None, *, now: datetime) -> datetime | None:
        """Return when the call is asked about again; None: not any more."""
        known = usd is not None or call.billed_usd is not None
        for after in KNOWN if known else UNKNOWN:
            due = call.finished_at + self._timing.scale(after)
            if due > now and (known or call.is_paid or after <= HARDLY):
                return due
        return None

    def money(self, account_id: str) -> AccountMoney:
        """Return what is known of the account's money; of one that was never asked about, nothing."""
        row = self._run("money_get", account_id=account_id).one_or_none()
        return AccountMoney(account_id=account_id) if row is None else plain(AccountMoney, row)

    def answered(self, account_id: str) -> None:
        """Note that the provider answers for its bills."""
        self._waited(account_id, None, failed=0)

    def failed(self, account_id: str, *, until: datetime, failed: int) -> None:
        """Note that it did not answer, so often one after the other, and is not asked before that time."""
        self._waited(account_id, until, failed=failed)

    def _waited(self, account_id: str, until: datetime | None, *, failed: int) -> None:
        self._run("money_bills_waited", account_id=account_id, due_at=until, failed=failed)

    def balance(self, account_id: str, usd: Decimal | None, *, due_at: datetime) -> None:
        """Record the balance, which is read again at that time. None: it could not be read."""
        at = None if usd is None else self._now()
        self._run("money_balance", account_id=account_id, balance_usd=usd, at=at, due_at=due_at)

    def told(self, account_id: str, *, is_low: bool) -> None:
        """Note that the operator was told of a low balance, or that it is low no more."""
        self._run("money_told", account_id=account_id, at=self._now() if is_low else None)

    def stop(self, account_id: str, *, reason: str, until: datetime) -> None:
        """Have nothing granted, and no probe sent before that time, until `go_on`."""
        now = self._now()
        with self._engine.begin() as connection:
            run(connection, "account_stop", account_id=account_id, reason=reason, until=until, now=now)
            run(connection, "money_stopped", account_id=account_id, at=now)

    def go_on(self, account_id: str) -> Implied:
        """End a stop: what waited goes on."""
        with self._engine.begin() as connection:
            closed = run(connection, "account_back", account_id=account_id).rowcount
            run(connection, "money_stopped", account_id=account_id, at=None)
            return grant_if(closed > 0)

    def drift(self, account_id: str, begin: datetime, end: datetime) -> list[Drift]:
        """Return by model what calls were billed at that ended in the time, beside what was reckoned."""
        rows = self._run("bills_drift", account_id=account_id, begin=begin, end=end)
        return [Drift(**row._mapping) for row in rows]

    def drift_notified(self, account_id: str, day: date) -> None:
        """Note that bills and costs of that day were compared."""
        self._run("money_drift_told", account_id=account_id, day=day)
