"""`grant()`: who gets the free slots. Weighted fair between users, within every limit that stands at this moment.

Its own transaction: the first statement (`lock_accounts`) locks the accounts, so that grants happen one after the
other, and counts what is held; the next ones pick and give (`give_slots`), at one account after the other. It never
waits for a request row (SKIP LOCKED): whoever holds one asks for another grant afterwards.

Fair over time, not at one moment: each grant moves its user on by 1 / weight in the lane's virtual time, and who is
furthest behind is next (start-time fair queueing). Going by the slots held just now instead would leave half of twenty
equal users without any on ten slots, and everybody beside users of twice their weight.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Row

from darkroom.ledger.batches import PAUSED_UNTIL
from darkroom.ledger.breaker import slots_now
from darkroom.ledger.budgets import since
from darkroom.ledger.database import run
from darkroom.ledger.part import Part
from darkroom.ledger.rows import Result
from darkroom.ledger.statuses import RequestStatus
from darkroom.timing import Timing

LOWEST_LANE_EVERY = 10  # grants: a full interactive lane slows a batch down and does not stop it


@dataclass(frozen=True, kw_only=True)
class Granted:
    """`run_id`: of the run that has the job already. The others tell whose call it is, and of which model."""

    ref: str
    job_id: str
    run_id: str | None
    account_id: str
    endpoint: str
    model_version: int | None


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A row in line. `start`: the virtual time of its lane at which its user's next turn is; `step`: 1 / weight.

    `capacity`: how many slots its user may have beside those they hold, by their plan or the account; `budget`: what
    they may spend yet, None for as much as they like.
    """

    ref: str
    endpoint: str
    capacity: int
    model_version: int | None = None
    budget: Decimal | None = None
    estimate_usd: Decimal = Decimal(0)
    user_id: str = ""
    lane: int = 0
    start: float = 0.0
    step: float = 1.0


COLUMNS = tuple(column.name for column in fields(Candidate))


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """Whether there is anything to do just now, and when there will be by itself."""

    queued: bool
    waits_over: bool
    due: datetime | None


class Grants(Part):
    def outlook(self) -> Outlook:
        """Return what there is to do, from one look that locks nothing."""
        return Outlook(**self._run("line_outlook", now=self._now()).one()._mapping)

    def grant(self) -> list[Granted]:
        """Give every slot that is free to the rows whose turn it is. While a provider is out, give one to a probe."""
        now = self._now()
        granted: list[Granted] = []
        with self._engine.begin() as connection:
            for waiting in run(connection, "accounts_lock", account_id=None):
                account: Row[Any] = waiting
                batch, again = _round(connection, account, now=now, timing=self._timing)
                granted += batch
                while again:  # it is counted anew
                    account = run(connection, "accounts_lock", account_id=account.id).one()
                    batch, again = _round(connection, account, now=now, timing=self._timing)
                    granted += batch
        return granted

    def next_without_run(self, count: int, account_id: str = "fal") -> list[str]:
        """Return the jobs among the next so many in line that no run carries and no open run would take."""
        with self._engine.begin() as connection:
            line = _line(connection, account_id, count, full=[], now=self._now())
            job_ids = [row.job_id for row in line.all()[:count]]
            return list(run(connection, "jobs_without_run", job_ids=job_ids).scalars()) if job_ids else []


def _round(connection: Connection, account: Row[Any], *, now: datetime, timing: Timing) -> tuple[list[Granted], bool]:
    """Grant what fits. Return it, and whether more can be granted.

    An endpoint that has become full is passed over in the next round. `account`: as it is now, locked.
    """
    held: Mapping[str, int] = account.held
    throttle = {"halvings": account.halvings, "slowed_at": account.slowed_at}
    slots = slots_now(account.slots, **throttle, now=now, timing=timing)
    free, probe = slots - sum(held.values()), account.down_since is not None
    if free <= 0 or (probe and account.probe_at > now):
        return [], False
    if probe:
        # One call beside those that are held still, however many slots there were.
        free, slots = 1, sum(held.values()) + 1
    line = list(_candidates(connection, account, held, free=free, now=now))
    picked = pick(line, held=held, slots=slots, caps=account.endpoint_caps)
    gone = _give(connection, account, picked, probe_until=now + timing.probe_patience if probe else None, now=now)
    by_ref = {each.ref: each for each in picked}
    granted = [_granted(account.id, by_ref[row.ref], row) for row in gone if row.status == RequestStatus.GRANTED]
    # Whoever holds a row that was skipped asks for a grant of his own; for one that was not to be granted nobody does.
    others = len(picked) < len(line) or len(granted) < len(gone)
    again = len(granted) < free and others
    return granted, bool(gone) and again


def _granted(account_id: str, candidate: Candidate, row: Row[Any]) -> Granted:
    return Granted(
        ref=row.ref,
        job_id=row.job_id,
        run_id=row.run_id,
        account_id=account_id,
        endpoint=candidate.endpoint,
        model_version=candidate.model_version,
    )


def _candidates(
    connection: Connection, account: Row[Any], held: Mapping[str, int], *, free: int, now: datetime
) -> Iterator[Candidate]:
    """Yield the rows in the order of their turns.

    Where a tenth grant is among those to come, the lowest lane's next row is first. Each of the two lines is as long as
    its users' plans and budgets allow: both together may be longer.
    """
    full = [endpoint for endpoint, cap in account.endpoint_caps.items() if held.get(endpoint, 0) >= cap]
    tenths = (account.grants + free) // LOWEST_LANE_EVERY - account.grants // LOWEST_LANE_EVERY
    line = _line(connection, account.id, free, full=full, seek_lowest=tenths > 0, now=now).all()
    lowest: Sequence[Row[Any]] = ()
    if line and line[0].lowest is not None and line[0].lowest > line[0].lane:
        lowest = _line(connection, account.id, tenths, full=full, from_lane=line[0].lowest, now=now).all()[:tenths]
    ahead = {row.ref for row in lowest}
    for row in chain(lowest, (row for row in line if row.ref not in ahead)):
        yield Candidate(**{name: getattr(row, name) for name in COLUMNS})


def _line(
    connection: Connection,
    account_id: str,
    free: int,
    *,
    full: list[str],
    now: datetime,
    from_lane: int = 0,
    seek_lowest: bool = False,
) -> Result:
    limits = {"account_id": account_id, "free": free, "full": full, "from_lane": from_lane, "seek_lowest": seek_lowest}
    return run(connection, "grantable", **limits, now=now, **since(now))


def _give(
    connection: Connection,
    account: Row[Any],
    picked: list[Candidate],
    *,
    probe_until: datetime | None,
    now: datetime,
) -> Sequence[Row[Any]]:
    """Give them their slots. Return what the line is rid of by that, each with its `status`."""
    if not picked:
        return []
    return run(
        connection,
        "grant",
        account_id=account.id,
        refs=[each.ref for each in picked],
        lanes=[each.lane for each in picked],
        users=[each.user_id for each in picked],
        starts=[each.start for each in picked],
        steps=[each.step for each in picked],
        probe_until=probe_until,
        paused_until=PAUSED_UNTIL,
        now=now,
    ).all()


def pick(
    candidates: Iterable[Candidate], *, held: Mapping[str, int], slots: int, caps: Mapping[str, int]
) -> list[Candidate]:
    """Pick those that fit, in the order given: in all slots, each endpoint's cap, each user's slots and budget."""
    counts, taken = dict(held), Counter[str]()
    spent: defaultdict[str, Decimal] = defaultdict(Decimal)
    picked = []
    for candidate in candidates:
        if sum(counts.values()) >= slots:
            break
        count, user_id = counts.get(candidate.endpoint, 0), candidate.user_id
        if count >= caps.get(candidate.endpoint, slots) or taken[user_id] >= candidate.capacity:
            continue
        # Also of one that does not fit: the user's cheaper ones behind it do not overtake it.
        spent[user_id] += candidate.estimate_usd
        if candidate.budget is None or spent[user_id] <= max(candidate.budget, Decimal(0)):
            counts[candidate.endpoint] = count + 1
            taken[user_id] += 1
            picked.append(candidate)
    return picked
