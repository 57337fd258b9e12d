"""`grant()`: who gets the free slots. Weighted fair between users, at most the plan's number for each.

Its own transaction: the first statement locks the account, so that grants happen one after the other; the second
counts and picks. It never waits for a request row (SKIP LOCKED): whoever holds one asks for another grant afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row

from blocks.clock import utc_now
from blocks.ledger.database import run


@dataclass(frozen=True, kw_only=True)
class Granted:
    ref: str
    job_id: str
    run_id: str | None


@dataclass(frozen=True, kw_only=True)
class Candidate:
    ref: str
    endpoint: str


class Grants:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def grant(self, account_id: str = "fal") -> list[Granted]:
        """Gives every slot that is free to the rows whose turn it is."""
        now = utc_now()
        granted: list[Granted] = []
        with self._engine.begin() as connection:
            account = run(connection, "account_lock", account_id=account_id).one()
            again = True
            while again:
                batch, again = _round(connection, account, now=now)
                granted += batch
        return granted

    def next_without_run(self, count: int, account_id: str = "fal") -> list[str]:
        """The jobs among the next so many in line that no run carries and no open run would take."""
        with self._engine.begin() as connection:
            line = run(connection, "grantable", account_id=account_id, free=count, full=[], now=utc_now())
            job_ids = [row.job_id for row in line.fetchmany(count)]
            return list(run(connection, "jobs_without_run", job_ids=job_ids).scalars()) if job_ids else []


def _round(connection: Connection, account: Row[Any], *, now: datetime) -> tuple[list[Granted], bool]:
    """What was granted, and whether more can be: an endpoint that has become full is passed over in the next round."""
    held = {row.endpoint: row.held for row in run(connection, "held", account_id=account.id)}
    free = account.slots - sum(held.values())
    if free <= 0:
        return [], False
    full = [endpoint for endpoint, cap in account.endpoint_caps.items() if held.get(endpoint, 0) >= cap]
    rows = run(connection, "grantable", account_id=account.id, free=free, full=full, now=now)
    candidates = [Candidate(ref=row.ref, endpoint=row.endpoint) for row in rows]
    picked = pick(candidates, held=held, slots=account.slots, caps=account.endpoint_caps)
    if not picked:
        return [], False
    locked = list(run(connection, "grant_lock", refs=picked).scalars())
    granted = [Granted(**row._mapping) for row in run(connection, "grant", refs=locked, now=now)]
    # Whoever holds a row that was skipped asks for a grant of his own.
    return granted, 0 < len(granted) < free and len(picked) < len(candidates)


def pick(candidates: Iterable[Candidate], *, held: Mapping[str, int], slots: int, caps: Mapping[str, int]) -> list[str]:
    """The refs that fit, in the order given, below the account's slots and each endpoint's cap."""
    counts = dict(held)
    picked = []
    for candidate in candidates:
        if sum(counts.values()) >= slots:
            break
        count = counts.get(candidate.endpoint, 0)
        if count < caps.get(candidate.endpoint, slots):
            counts[candidate.endpoint] = count + 1
            picked.append(candidate.ref)
    return picked
