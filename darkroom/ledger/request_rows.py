"""A request's row: inserted, locked, and changed as `next_status` says."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, text

from darkroom.ledger.canonical_json import content_hash, dumps
from darkroom.ledger.database import plain, run
from darkroom.ledger.locks import lock_run_of_request
from darkroom.ledger.statuses import Lane, RequestStatus, Transition, next_status
from darkroom.ledger.tables import Request, Run, new_id


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
    model_version: int | None = None  # of the card that it was checked by
    reuse_hash: str | None = None  # an answer under this hash that the user has already serves for it


def spec_again(row: Request, *, attempt: int, lane: Lane, not_before: datetime | None = None) -> RequestSpec:
    """Return the call of a row once more, at the price and by the card that it had."""
    return RequestSpec(
        step=row.step,
        endpoint=row.endpoint,
        model_version=row.model_version,
        input=row.input or {},
        estimate_usd=row.estimate_usd,
        lane=lane,
        attempt=attempt,
        not_before=not_before,
        account_id=row.account_id,
        reuse_hash=row.reuse_hash,
    )


def as_request(row: Row[Any]) -> Request:
    return plain(Request, row, status=RequestStatus(row.status), lane=Lane(row.lane))


def insert_request(connection: Connection, job_id: str, spec: RequestSpec, *, now: datetime) -> RequestStatus | None:
    """Write the row and return its status; None if this attempt of this step of this job is on record already."""
    columns = columns_of(spec)
    estimate_usd = columns.pop("call_usd")
    reusable = None
    if spec.reuse_hash is not None:  # in a statement before: one that waits for a lock goes by what was before the wait
        reusable = run(connection, "request_lock_reusable", job_id=job_id, reuse_hash=spec.reuse_hash).scalar()
    status = run(
        connection,
        "request_insert",
        job_id=job_id,
        reuse_hash=spec.reuse_hash,
        reusable=reusable,
        estimate_usd=estimate_usd,
        now=now,
        **columns,
    ).scalar()
    return None if status is None else RequestStatus(status)


def columns_of(spec: RequestSpec) -> dict[str, Any]:
    """Return the columns of a new row for the call."""
    return {
        "ref": new_id("req_"),
        "account_id": spec.account_id,
        "step": spec.step,
        "attempt": spec.attempt,
        "endpoint": spec.endpoint,
        "model_version": spec.model_version,
        "input": dumps(dict(spec.input)),
        "input_hash": content_hash(spec.endpoint, spec.input),
        "lane": int(spec.lane),
        "token": secrets.token_hex(16),
        "not_before": spec.not_before,
        "call_usd": spec.estimate_usd,
    }


def lock_request(connection: Connection, ref: str) -> tuple[Run | None, Request]:
    locked = lock_run_of_request(connection, ref)
    return locked, as_request(run(connection, "request_lock", ref=ref).one())


def write(connection: Connection, row: Request, transition: Transition, **columns: Any) -> bool:
    status = next_status(row.status, transition)
    if status is None:
        return False
    set_columns(connection, row.ref, {"status": status.value, **columns})
    return True


def set_columns(connection: Connection, ref: str, columns: Mapping[str, Any]) -> None:
    values = {k: dumps(v) if isinstance(v, dict) else v for k, v in columns.items()}
    # Names of columns come from our code alone, so they may stand in the text.
    assignments = ", ".join(
        f"{k} = CAST(:{k} AS jsonb)" if k in ("output", "error") else f"{k} = :{k}" for k in columns
    )
    connection.execute(text(f"UPDATE request SET {assignments} WHERE ref = :ref"), {"ref": ref, **values})


def cancel_open(connection: Connection, row: Request, *, now: datetime) -> bool:
    """End a row that nothing was paid for; ask for the cancel of one that the provider may have."""
    if row.status in (RequestStatus.QUEUED, RequestStatus.GRANTED):
        return write(connection, row, Transition.CANCEL, finished_at=now, cancel_requested_at=now)
    if not row.status.terminal:
        set_columns(connection, row.ref, {"cancel_requested_at": row.cancel_requested_at or now})
    return False


def adopt_late(connection: Connection, row: Request) -> None:
    """Count the result that came after the row had ended as the step's. It is paid, and costed already."""
    write(connection, row, Transition.ADOPT)
