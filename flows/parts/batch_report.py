"""What remains of a batch: its audit trail beside its pictures, and what it came to."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from darkroom import Job
from darkroom.batches.audit import as_csv, as_json_lines, audit_rows
from darkroom.ledger import Asset, BatchPass, JobStatus
from darkroom.media.formats import Kind

MOST_LISTED = 100  # failed rows in the result; the audit trail has all


def audit(job: Job) -> list[Asset]:
    """Write every call of every row, as CSV and as JSON lines. After a replay anew."""
    counts = job.rows.counts().values()
    # It grows with all that a replay does, so that there is another file then.
    version = sum(each.ended for each in counts) + sum(each.calls for each in counts)
    return [
        job.make(f"audit-{version}", lambda: b"".join(as_csv(audit_rows(job.rows.audit()))), kind=Kind.TABLE),
        job.make(
            f"audit-{version}", lambda: b"".join(as_json_lines(audit_rows(job.rows.audit()))), kind=Kind.TABLE, n=1
        ),
    ]


def report(job: Job, *, winners: Sequence[int], pages: Sequence[Asset], trail: Sequence[Asset]) -> dict[str, Any]:
    """Return the job's result: counts, what was spent and saved, what failed, and the files to look at.

    Amounts in USD are numbers.
    """
    counts, batch = job.rows.counts(), job.rows.batch
    assert batch is not None
    spent = sum((each.cost_usd for each in counts.values()), Decimal(0))
    all_at_once = Decimal((batch.forecast or {}).get("final_all", "0"))
    failed = [
        {"row": draft.n, "id": draft.name, "stage": stage.value, "code": draft.error_code, "job_id": draft.job_id}
        for stage in counts
        for draft in job.rows.pictures(stage)
        if draft.status is JobStatus.FAILED
    ]
    return {
        "rows": batch.rows,
        "drafts": _ended(counts, BatchPass.DRAFT),
        "winners": list(winners),
        "finals": _ended(counts, BatchPass.FINAL),
        "failed": failed[:MOST_LISTED],
        "spent_usd": float(spent),
        "all_at_final_quality_usd": float(all_at_once),
        "saved_usd": float(all_at_once - spent),
        "contact_sheet": [page.id for page in pages],
        "audit": {"csv": trail[0].id, "json_lines": trail[1].id},
    }


def _ended(counts: Any, stage: BatchPass) -> dict[str, int]:
    found = counts.get(stage)
    return {status.value: found.statuses.get(status, 0) if found else 0 for status in JobStatus if status.terminal}
