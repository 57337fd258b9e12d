"""What happened to a job, step by step: from its rows in the ledger, and from Prefect the states of its run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from darkroom.ledger import Asset, Job, Ledger, Request
from darkroom.orchestrator import Orchestrator

RUN_STATES = {
    "Running": ("running", "the flow, from its top: what it has already comes from the ledger"),
    "Suspended": ("suspended", "nothing of the run is in memory any more: no process, no connection"),
    "Resuming": ("resumed", "as the webhook came; its event is in Prefect's feed"),
}


@dataclass(frozen=True, kw_only=True, order=True)
class Step:
    at: datetime
    name: str
    detail: str = ""


def timeline(ledger: Ledger, orchestrator: Orchestrator, job: Job) -> list[Step]:
    """Tell it in the order it happened."""
    run = ledger.runs.get(job.run_id) if job.run_id else None
    steps = [
        *_of_job(job),
        *(step for row in ledger.requests.of_job(job.id) for step in _of_request(ledger, row)),
        *_of_assets(ledger.assets.of_job(job.id)),
        *(_of_run(orchestrator, run.flow_run_id) if run and run.flow_run_id else ()),
    ]
    # The run may have carried other jobs before: that is no part of this one.
    return sorted(step for step in steps if step.at >= job.created_at)


def _of_job(job: Job) -> Iterator[Step]:
    yield Step(at=job.created_at, name="created", detail=f"{job.kind} {job.id}, before anything is paid")
    if job.finished_at:
        yield Step(at=job.finished_at, name=job.status, detail=_words(job))


def _words(job: Job) -> str:
    return str(job.error["message"]) if job.error else "job, picture and bill are on record"


def _of_request(ledger: Ledger, row: Request) -> Iterator[Step]:
    if row.granted_at:
        yield Step(at=row.granted_at, name="granted", detail=f"a slot of the account, for {row.endpoint}")
    if row.submitted_at:
        yield Step(at=row.submitted_at, name="submitted", detail=f"on record first, then one POST to {row.account_id}")
    if row.accepted_at:
        yield Step(at=row.accepted_at, name="accepted", detail=f"its request {row.request_id} at {row.account_id}")
    for delivery in ledger.requests.deliveries(row.ref):
        yield Step(at=delivery.received_at, name="webhook", detail=f"signature verified: {delivery.verdict}")
    if row.finished_at and row.retried:
        detail = f"by {row.account_id} itself, before it had the answer"
        yield Step(at=row.finished_at, name="tried again", detail=detail)
    if row.finished_at and row.delivered_via == "poll":
        yield Step(at=row.finished_at, name=str(row.status), detail="found by polling")


def _of_assets(assets: Iterable[Asset]) -> Iterator[Step]:
    for asset in assets:
        if asset.collected_at:
            yield Step(at=asset.collected_at, name="collected", detail="the flow has the answer and fetches the file")
        detail = (
            f"{asset.width}×{asset.height} {asset.content_type}, {asset.bytes:,} bytes, SHA-256 {asset.sha256[:12]}…"
        )
        yield Step(at=asset.created_at, name="stored", detail=detail)


def _of_run(orchestrator: Orchestrator, flow_run_id: UUID) -> Iterator[Step]:
    for state in orchestrator.history(flow_run_id):
        if words := RUN_STATES.get(state.name):
            name, detail = words
            yield Step(at=state.timestamp, name=name, detail=detail)
