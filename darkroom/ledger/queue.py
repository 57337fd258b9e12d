"""What waits and what is under way, at every account: for who looks after all of it.

`first` of a lane are in the order in which the grant would serve them if a slot came free now: by virtual time, and who
is as far by the age of the oldest row. It is a look at rows that change: nothing is locked, no decision hangs on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row
from sqlmodel import Session, col, select

from darkroom.ledger.breaker import halvings_now, slots_now
from darkroom.ledger.database import run, run_given
from darkroom.ledger.part import Part
from darkroom.ledger.statuses import Lane
from darkroom.ledger.tables import Account

FIRST = 20  # users of a lane that are told by name
MOST_LINES = 50  # of users in lanes who have waited lately
MOST_SERVED = 3  # others that are told of each
MOST_RUNS = 200


@dataclass(frozen=True, kw_only=True)
class InLine:
    """A user who waits in a lane. `held` of `most` slots of the account are theirs."""

    user_id: str
    user: str
    plan: str
    weight: Decimal
    waiting: int
    since: datetime
    held: int
    most: int


@dataclass(frozen=True, kw_only=True)
class LaneNow:
    lane: Lane
    waiting: int
    users: int
    since: datetime
    first: tuple[InLine, ...]


@dataclass(frozen=True, kw_only=True)
class Held:
    """Slots that are in use, by what: a model's endpoint, or a user."""

    key: str
    name: str
    slots: int


@dataclass(frozen=True, kw_only=True)
class AccountNow:
    """How full an account is. `slots_now`: after the halvings of the throttle; none while the breaker is open."""

    account: Account
    slots_now: int
    halvings: int
    in_use: int
    endpoints: tuple[Held, ...]
    users: tuple[Held, ...]
    lanes: tuple[LaneNow, ...]


@dataclass(frozen=True, kw_only=True)
class Waited:
    """How a user's calls in a lane have waited lately. `served`: who got slots of the account while any of them waited.

    `mean_seconds`: of those that were granted; None where none was.
    """

    account_id: str
    lane: Lane
    user_id: str
    user: str
    granted: int
    waiting: int
    mean_seconds: float | None
    longest_seconds: float
    served: tuple[Held, ...]


@dataclass(frozen=True, kw_only=True)
class RunNow:
    """A run of Prefect's that is open or was until lately."""

    id: str
    kind: str
    deployment: str
    flow_run_id: UUID | None
    user_id: str
    user: str
    open_jobs: int
    created_at: datetime
    suspended_at: datetime | None
    closed_at: datetime | None


class Queue(Part):
    def lately(self, since: datetime) -> list[Waited]:
        """Return who has waited for slots from then on, the longest wait first, from what is on record of calls."""
        rows = self._run("queue_lately", begin=since, now=self._now(), most=MOST_LINES, served=MOST_SERVED)
        return [
            Waited(**{**row._mapping, "lane": Lane(row.lane), "served": tuple(Held(**each) for each in row.served)})
            for row in rows
        ]

    def runs(self, *, since: datetime | None = None, job_id: str | None = None) -> list[RunNow]:
        """Return runs, newest first: those that are open or were closed after `since`; or the one that has the job."""
        with self._engine.begin() as connection:
            rows = run_given(connection, "runs_lately", since=since, job_id=job_id, limit=MOST_RUNS)
            return [RunNow(**row._mapping) for row in rows]

    def now(self) -> list[AccountNow]:
        """Return all accounts, with their lanes in which somebody waits."""
        with Session(self._engine) as session:
            accounts = session.exec(select(Account).order_by(col(Account.id))).all()
            connection = session.connection()
            held = run(connection, "queue_held").all()
            lanes = self._lanes(connection)
            return [self._account(account, held, lanes.get(account.id, ())) for account in accounts]

    def _lanes(self, connection: Connection) -> dict[str, tuple[LaneNow, ...]]:
        rows = run(connection, "queue_waiting", first=FIRST).all()
        found: dict[str, tuple[LaneNow, ...]] = {}
        for account_id, lane in sorted({(row.account_id, row.lane) for row in rows}):
            own = [row for row in rows if (row.account_id, row.lane) == (account_id, lane)]
            found[account_id] = (*found.get(account_id, ()), _lane(own))
        return found

    def _account(self, account: Account, held: Sequence[Row[Any]], lanes: Sequence[LaneNow]) -> AccountNow:
        own = [row for row in held if row.account_id == account.id]
        now, halvings, slowed_at = self._now(), account.halvings, account.slowed_at
        slots = slots_now(account.slots, halvings=halvings, slowed_at=slowed_at, now=now, timing=self._timing)
        by_endpoint, by_user, names = Counter[str](), Counter[str](), {row.user_id: row.user for row in own}
        for row in own:
            by_endpoint[row.endpoint] += row.held
            by_user[row.user_id] += row.held
        return AccountNow(
            account=account,
            slots_now=0 if account.down_since else slots,
            halvings=halvings_now(halvings, slowed_at, now=now, timing=self._timing),
            in_use=by_user.total(),
            endpoints=tuple(Held(key=key, name=key, slots=n) for key, n in by_endpoint.most_common()),
            users=tuple(Held(key=key, name=names[key], slots=n) for key, n in by_user.most_common()),
            lanes=tuple(lanes),
        )


def _lane(rows: Sequence[Row[Any]]) -> LaneNow:
    """Make one of the rows of its first users, each of which has the sums of all."""
    head = rows[0]
    return LaneNow(
        lane=Lane(head.lane),
        waiting=head.lane_waiting,
        users=head.lane_users,
        since=head.lane_since,
        first=tuple(
            InLine(**{name: getattr(row, name) for name in InLine.__dataclass_fields__})
            for row in sorted(rows, key=lambda row: row.place)
        ),
    )
