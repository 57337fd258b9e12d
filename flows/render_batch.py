"""A campaign is rendered in two passes: everything as a cheap draft, then what a person chose from the contact sheet.

Triggered by `POST /v1/batches`, the Prefect UI, or `prefect deployment run render-batch/on-demand -p manifest=…`.
Needs the blocks `fal-account/default` and the media store. Each row is its own job in the fair queue, driven by
this one run; between the passes the run is suspended for a person, who answers in Prefect's form or by
`POST /v1/batches/{id}/selection`. A row that fails stops nothing: it is listed, and a replay renders only such rows.
Fails where no draft came at all.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from prefect.logging import get_run_logger

from darkroom import Job, Order, field, pipeline
from darkroom.engine.resources import current
from darkroom.flows.parts.batch_order import BatchOptions, finals, plan_batch
from darkroom.flows.parts.batch_report import audit, report
from darkroom.flows.parts.batch_review import ask_for_winners, contact_pages
from darkroom.flows.parts.trained_style import TRIAL, Style, find_style
from darkroom.ledger import BatchPass, Child

# Between two results of a slow model: a suspension for each of them would cost more than to stay does.
PATIENCE = timedelta(seconds=60)


class _Manifest(Order):
    manifest: str = field(
        "Manifest", "CSV with a header, or JSON lines: a column `prompt`, or what else the rows' models take.", ""
    )


class Batch(BatchOptions, _Manifest):
    """A batch as its job has it: one that came by the API has its manifest on record already."""

    manifest_sha256: str = field("Hash", "Of a manifest that is on record already: leave it empty.", "")

    def check(self) -> None:
        if not self.manifest_sha256:
            plan_batch(self.manifest, self, style=lambda _: TRIAL)


# A row is a job of its own, and none of them is a task of this one.
@pipeline(Batch, as_tasks=False, patience=PATIENCE)
def render_batch(job: Job, order: Batch) -> dict[str, Any]:
    """Everything as a cheap draft, then the winners as they were asked for."""
    if job.rows.batch is None:  # else the run has come by here before
        _begin(job, order)
    job.rows.wait()
    job.require_going_on()
    pages = contact_pages(job)
    winners = ask_for_winners(job, order, pages)
    job.rows.add(BatchPass.FINAL, _second_pass(job, order, winners))
    job.rows.wait()
    job.require_going_on()
    return report(job, winners=winners, pages=pages, trail=audit(job))


def _begin(job: Job, order: Batch) -> None:
    plan = plan_batch(order.manifest, order, style=_styles(job))
    for warning in plan.warnings:
        get_run_logger().warning("The manifest: %s", warning)
    job.rows.open(plan.rows, plan.drafts, forecast=plan.forecast.document())


def _second_pass(job: Job, order: Batch, winners: list[int]) -> list[Child]:
    return finals(job.rows.manifest(of=winners), order, style=_styles(job))


def _styles(job: Job) -> Any:
    def style(name: str) -> Style:
        return find_style(current().ledger, job.user_id, name)

    return style
