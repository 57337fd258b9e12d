"""Scenes for tests of batches on the ledger: one that was ordered, that a run carries, whose first pass is over."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import uuid4

from implying import creations
from ledger_scenes import FAILURE, SUCCESS, spec

from darkroom.ledger import BATCH, Child, Implied, Job, JobStatus, Lane, Ledger, ManifestRow, Posted, Run


def manifest(count: int) -> list[ManifestRow]:
    return [ManifestRow(n=n, name=f"sku-{n}", picture={"prompt": f"a fox, {n}"}) for n in range(count)]


def children(rows: list[ManifestRow]) -> list[Child]:
    return [
        Child(n=row.n, parameters=row.picture, first=spec(input={"prompt": row.picture["prompt"]}, lane=Lane.BATCH))
        for row in rows
    ]


def order(ledger: Ledger, user_id: str, count: int, **changes: Any) -> Posted:
    rows = manifest(count)
    values: dict[str, Any] = {
        "kind": BATCH,
        "parameters": {"rows": count},
        "rows": rows,
        "drafts": children(rows),
        "forecast": {"draft": "0.25"},
        "estimate_usd": Decimal(0),
    }
    return ledger.jobs.post_batch(user_id=user_id, **values | changes)


def rows_of(ledger: Ledger, batch: Job) -> list[Job]:
    return ledger.batches.page(batch.id, limit=10_000)


def hand_out(ledger: Ledger) -> Implied:
    granted = ledger.grants.grant()
    return ledger.runs.assign(*[each.job_id for each in granted if each.run_id is None])


def carried_by(ledger: Ledger, batch: Job) -> Run:
    """The batch in the hands of a run whose process is there."""
    (start,) = creations(ledger.runs.assign(batch.id))
    return entered(ledger, start.run_id)


def entered(ledger: Ledger, run_id: str) -> Run:
    ledger.runs.created(run_id, uuid4())
    run = ledger.runs.get(run_id)
    assert run is not None and run.flow_run_id is not None
    found = ledger.runs.enter(run.flow_run_id, run_key=run_id)
    assert found is not None
    return found[0]


def end_all(ledger: Ledger, batch: Job, *, failed: tuple[int, ...] = ()) -> None:
    """Every row that is open comes to its end, as its run would bring it there."""
    while granted := ledger.grants.grant():
        for each in granted:
            job = ledger.jobs.get(each.job_id)
            assert job is not None
            bad = job.manifest_row in failed
            ledger.requests.settle(each.ref, FAILURE if bad else SUCCESS, via="poll")
            ledger.jobs.finish(job.id, JobStatus.FAILED if bad else JobStatus.COMPLETED)


def drafted(ledger: Ledger, user_id: str, count: int, *, failed: tuple[int, ...] = ()) -> Job:
    """A batch whose first pass is over, and of which a person was asked."""
    batch = order(ledger, user_id, count).job
    end_all(ledger, batch, failed=failed)
    ledger.batches.await_selection(batch.id, patience=None)
    return batch
