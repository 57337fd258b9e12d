"""Paid calls: reserved, granted, submitted, settled. The one place that writes a request's status.

Each change locks the run, then the row, decides by `next_status`, writes, and returns what it implies (`locking.py`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Engine, Row, text

from blocks.clock import utc_now
from blocks.ledger.canonical import content_hash, dumps
from blocks.ledger.database import plain, run
from blocks.ledger.effects import NOTHING, Implied
from blocks.ledger.locking import as_run, lock_run_of_request, tell
from blocks.ledger.states import Happening, Lane, RequestStatus, next_status, statuses_before
from blocks.ledger.tables import Delivery, Request, Run, new_id


@dataclass(frozen=True, kw_only=True)
class RequestSpec:
    """A paid call as it is asked for."""

    step: str
    endpoint: str
    input: Mapping[str, Any]
    estimate_usd: Decimal
    lane: Lane = Lane.INTERACTIVE
    attempt: int = 1
    not_before: datetime | None = None
    account_id: str = "fal"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a request ended at the provider. A success without output is one whose result has yet to be fetched."""

    happening: Happening
    output: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    cost_usd: Decimal | None = None


class Verdict(StrEnum):
    SETTLED = "settled"  # this ended the request
    DUPLICATE = "duplicate"  # it had ended already
    LATE = "late"  # a success after it was given up or cancelled: kept and costed


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A verified webhook."""

    request_id: str
    body_sha256: str


def as_request(row: Row[Any]) -> Request:
    return plain(Request, row, status=RequestStatus(row.status), lane=Lane(row.lane))


def insert_request(connection: Connection, job_id: str, spec: RequestSpec, *, now: datetime) -> None:
    """Writes the row unless this attempt of this step of this job is on record already."""
    run(
        connection,
        "request_insert",
        ref=new_id("req_"),
        job_id=job_id,
        account_id=spec.account_id,
        step=spec.step,
        attempt=spec.attempt,
        endpoint=spec.endpoint,
        input=dumps(dict(spec.input)),
        input_hash=content_hash(spec.endpoint, spec.input),
        lane=int(spec.lane),
        token=secrets.token_hex(16),
        not_before=spec.not_before,
        estimate_usd=spec.estimate_usd,
        now=now,
    )


class Requests:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def reserve(self, job_id: str, spec: RequestSpec) -> Request:
        """The row of this step: a new one, queued, or the one that is on record. Ask for a grant after a new one.

        For a job that was cancelled or has ended, a new one is cancelled from the start: it would be paid for nobody.
        """
        with self._engine.begin() as connection:
            run(connection, "job_lock", job_id=job_id)  # a job that ends meanwhile would leave the new row behind
            insert_request(connection, job_id, spec, now=utc_now())
            return as_request(run(connection, "request_latest", job_id=job_id, step=spec.step).one())

    def get(self, ref: str) -> Request:
        row = self._one("request_get", ref=ref)
        if row is None:
            raise LookupError(f"request {ref} is not on record")
        return row

    def of_job(self, job_id: str) -> list[Request]:
        return self._many("requests_of_job", job_id=job_id)

    def in_flight_of_run(self, run_id: str) -> list[Request]:
        return self._many("requests_of_run_in_flight", run_id=run_id)

    def holding_slots(self) -> list[Request]:
        return self._many("requests_holding_slots")

    def paid_unseen(self, *, since: datetime) -> list[Request]:
        """Successes since then that came without their payload, and that no job will ask for."""
        return self._many("requests_paid_unseen", since=since)

    def by_provider_id(self, request_id: str) -> Request | None:
        return self._one("request_by_provider_id", request_id=request_id)

    def by_token(self, token: str) -> Request | None:
        return self._one("request_by_token", token=token)

    def deliveries(self, ref: str) -> list[Delivery]:
        """The verified webhooks of a request, in the order they came."""
        with self._engine.begin() as connection:
            return [Delivery(**row._mapping) for row in run(connection, "deliveries_of_request", ref=ref)]

    def next_due(self, *, after: datetime) -> datetime | None:
        """When the next queued row that waits for a time after that one may be granted."""
        with self._engine.begin() as connection:
            due: datetime | None = run(connection, "requests_next_due", after=after).scalar()
            return due

    def begin_submit(self, ref: str, *, deadline: timedelta) -> Request | None:
        """Commits that the one POST is about to leave; None if the row is not granted (any more).

        Done by the run itself, and nothing that it waits for: its row need not be locked, and a burst does not queue
        for it. The same holds for `accepted`.
        """
        now = utc_now()
        with self._engine.begin() as connection:
            row = run(
                connection,
                "request_begin_submit",
                ref=ref,
                before=statuses_before(Happening.SUBMIT),
                now=now,
                deadline_at=now + deadline,
            ).one_or_none()
            return None if row is None else as_request(row)

    def accepted(self, ref: str, *, request_id: str) -> Request:
        """Notes the provider's id. After a webhook that came first, this only fills in what is missing."""
        with self._engine.begin() as connection:
            before = statuses_before(Happening.ACCEPT)
            row = run(connection, "request_accepted", ref=ref, before=before, request_id=request_id, now=utc_now())
            return as_request(row.one())

    def adopt(self, ref: str, *, request_id: str) -> bool:
        """Notes the id under which an unknown row was found at the provider; False if it was heard of meanwhile."""
        with self._engine.begin() as connection:
            found = run(connection, "request_adopt", ref=ref, request_id=request_id, now=utc_now())
            return found.one_or_none() is not None

    def known_to_us(self, request_ids: Sequence[str]) -> set[str]:
        """Those of the provider's ids that a row or a delivery of ours bears."""
        with self._engine.begin() as connection:
            return set(run(connection, "requests_known", request_ids=list(request_ids)).scalars())

    def refused(self, ref: str, *, error: dict[str, Any], not_before: datetime | None) -> Implied:
        """Back to the queue, its slot free: the provider surely did not take it. Ends if its cancel was asked for."""
        now = utc_now()
        with self._engine.begin() as connection:
            locked, row = _lock(connection, ref)
            if row.cancel_requested_at is None:
                back = {"not_before": not_before, "granted_at": None, "submitted_at": None, "deadline_at": None}
                return Implied(grant=_write(connection, row, Happening.REFUSE, error=error, **back))
            if not _write(connection, row, Happening.CANCEL, error=error, finished_at=now):
                return NOTHING
            return tell(connection, locked, ref, "fal.job.failed", now=now) + Implied(grant=True)

    def answer_lost(self, ref: str) -> Implied:
        """Notes that the provider may have it. It keeps its slot, so nothing is implied."""
        with self._engine.begin() as connection:
            _, row = _lock(connection, ref)
            _write(connection, row, Happening.LOSE)
            return NOTHING

    def settle(
        self, ref: str, outcome: Outcome, *, via: str | None, arrival: Arrival | None = None
    ) -> tuple[Verdict, Implied]:
        """Ends the request; the first ending wins and the rest are recorded duplicates.

        With an `arrival` the webhook is put on record in the same transaction, and a row without an id adopts it.
        """
        with self._engine.begin() as connection:
            locked, row = _lock(connection, ref)
            return _settle(connection, locked, row, outcome, via=via, arrival=arrival)

    def settle_arrival(
        self, arrival: Arrival, outcome_of: Callable[[Request], Outcome]
    ) -> tuple[Verdict, Implied] | None:
        """Finds the request by the provider's id and settles it in one transaction; None if no row has that id.

        `outcome_of` sees the locked row; what it raises leaves everything as it was.
        """
        with self._engine.begin() as connection:
            found = _lock_by_provider_id(connection, arrival.request_id)
            if found is None:
                return None
            locked, row = found
            return _settle(connection, locked, row, outcome_of(row), via="webhook", arrival=arrival)

    def fill_output(self, ref: str, *, output: dict[str, Any], cost_usd: Decimal | None) -> None:
        """The result of a success that was announced without it."""
        with self._engine.begin() as connection:
            run(connection, "request_output", ref=ref, output=dumps(output), cost_usd=cost_usd)

    def _one(self, name: str, **parameters: Any) -> Request | None:
        with self._engine.begin() as connection:
            row = run(connection, name, **parameters).one_or_none()
            return None if row is None else as_request(row)

    def _many(self, name: str, **parameters: Any) -> list[Request]:
        with self._engine.begin() as connection:
            return [as_request(row) for row in run(connection, name, **parameters)]


def cancel_open(connection: Connection, row: Request, *, now: datetime) -> bool:
    """Ends a row that nothing was paid for; asks for the cancel of one that the provider may have."""
    if row.status in (RequestStatus.QUEUED, RequestStatus.GRANTED):
        return _write(connection, row, Happening.CANCEL, finished_at=now, cancel_requested_at=now)
    if not row.status.terminal:
        _set(connection, row.ref, {"cancel_requested_at": row.cancel_requested_at or now})
    return False


def adopt_late(connection: Connection, row: Request) -> None:
    """The result that came after the row had ended counts as the step's. It is paid, and costed already."""
    _write(connection, row, Happening.ADOPT)


def _lock(connection: Connection, ref: str) -> tuple[Run | None, Request]:
    locked = lock_run_of_request(connection, ref)
    return locked, as_request(run(connection, "request_lock", ref=ref).one())


def _lock_by_provider_id(connection: Connection, request_id: str) -> tuple[Run | None, Request] | None:
    found = run(connection, "run_lock_of_provider_id", request_id=request_id).one_or_none()
    if found is not None and found.closed_at is None:
        return as_run(found), as_request(run(connection, "request_lock_by_provider_id", request_id=request_id).one())
    row = run(connection, "request_by_provider_id", request_id=request_id).one_or_none()
    return None if row is None else _lock(connection, row.ref)


def _settle(
    connection: Connection,
    locked: Run | None,
    row: Request,
    outcome: Outcome,
    *,
    via: str | None,
    arrival: Arrival | None,
) -> tuple[Verdict, Implied]:
    now = utc_now()
    verdict = _verdict(row, outcome, arrival)
    if arrival is not None:
        _record(connection, row, arrival, verdict, outcome.cost_usd, now=now)
    if verdict is Verdict.DUPLICATE:
        return verdict, NOTHING
    result: dict[str, Any] = {"output": outcome.output, "cost_usd": outcome.cost_usd}
    if arrival is not None and row.request_id is None:
        result |= {"request_id": arrival.request_id, "accepted_at": now}
    if verdict is Verdict.LATE:
        _set(connection, row.ref, result)
        return verdict, NOTHING
    ending = {"error": outcome.error, "delivered_via": via, "finished_at": now}
    _write(connection, row, outcome.happening, **result, **ending)
    if _nobody_waits(connection, locked, row):
        return verdict, Implied(grant=True)
    return verdict, tell(connection, locked, row.ref, _event(outcome), now=now) + Implied(grant=True)


def _nobody_waits(connection: Connection, locked: Run | None, row: Request) -> bool:
    """A run that has left is not woken for what is left of a job that is over. One that is there only hears a bell."""
    if locked is None or locked.left_at is None:
        return False
    return run(connection, "job_is_over", job_id=row.job_id).scalar_one() is not None


def _verdict(row: Request, outcome: Outcome, arrival: Arrival | None) -> Verdict:
    if arrival is not None and row.request_id not in (None, arrival.request_id):
        return Verdict.DUPLICATE  # a second job at the provider for one row: paid, and on record
    if next_status(row.status, outcome.happening) is not None:
        return Verdict.SETTLED
    given_up = row.status in (RequestStatus.EXPIRED, RequestStatus.CANCELLED)
    if given_up and outcome.happening is Happening.SUCCEED and row.output is None:
        return Verdict.LATE
    return Verdict.DUPLICATE


def _record(
    connection: Connection, row: Request, arrival: Arrival, verdict: Verdict, cost: Decimal | None, *, now: datetime
) -> None:
    """A duplicate costs something only if it is another job at the provider than the one on record."""
    another = row.request_id not in (None, arrival.request_id)
    run(
        connection,
        "delivery_insert",
        request_id=arrival.request_id,
        ref=row.ref,
        verdict=verdict.value,
        body_sha256=arrival.body_sha256,
        cost_usd=cost if another else None,
        now=now,
    )


def _event(outcome: Outcome) -> str:
    return "fal.job.completed" if outcome.happening is Happening.SUCCEED else "fal.job.failed"


def _write(connection: Connection, row: Request, happening: Happening, **columns: Any) -> bool:
    status = next_status(row.status, happening)
    if status is None:
        return False
    _set(connection, row.ref, {"status": status.value, **columns})
    return True


def _set(connection: Connection, ref: str, columns: Mapping[str, Any]) -> None:
    values = {k: dumps(v) if isinstance(v, dict) else v for k, v in columns.items()}
    assignments = ", ".join(
        f"{k} = CAST(:{k} AS jsonb)" if k in ("output", "error") else f"{k} = :{k}" for k in columns
    )
    connection.execute(text(f"UPDATE request SET {assignments} WHERE ref = :ref"), {"ref": ref, **values})
