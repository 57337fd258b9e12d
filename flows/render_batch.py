"""A campaign is rendered in two passes: everything as a cheap draft, then what a person chose from the contact sheet.

Triggered by `POST /v1/batches`, the Prefect UI, or `prefect deployment run render-batch/on-demand -p manifest=…`.
Needs the blocks `fal-account/default` and the media store. Each row is a job of its own in the fair queue, driven by
this one run; between the passes the run is suspended for a person, who answers in Prefect's form or by
`POST /v1/batches/{id}/selection`. A row that fails stops nothing: it is listed, and a replay renders only such rows.
Fails where no draft came at all.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from darkroom import Job, drive
from darkroom.engine.resources import current
from darkroom.flows.generate_image import generate
from darkroom.flows.orders.picture import KIND as PICTURE
from darkroom.flows.parts.batch_order import (
    DEDUPLICATE,
    DEFAULTS,
    DRAFT,
    FINAL,
    HOURS,
    IF_NOBODY,
    BatchOptions,
    IfNobody,
    PassOrder,
    finals,
    plan_batch,
)
from darkroom.flows.parts.batch_report import audit, report
from darkroom.flows.parts.batch_review import ask_for_winners, contact_pages
from darkroom.flows.parts.form import shown
from darkroom.flows.parts.trained_style import TRIAL, Style, find_style
from darkroom.ledger import BATCH, OPERATOR, Child, Stage

KIND = BATCH
# Between two results of a slow model: a suspension for each of them would cost more than to stay does.
PATIENCE = timedelta(seconds=60)
MANIFEST = shown("Manifest", "CSV with a header, or JSON lines: a column `prompt`, and what else a picture takes.", "")
ON_RECORD = shown("Hash", "Of a manifest that is on record already: leave it empty.", "")
USER = shown("User", "Who it is for: a user's name or id.", OPERATOR)


class Batch(BatchOptions):
    """A batch as its job has it: one that came by the API has its manifest on record already."""

    manifest: str = MANIFEST
    manifest_sha256: str = ON_RECORD


def render(job: Job) -> dict[str, Any]:
    order = Batch.model_validate(job.parameters)
    if job.rows.batch is None:
        _begin(job, order)
    job.rows.wait()
    job.require_going_on()
    pages = contact_pages(job)
    winners = ask_for_winners(job, order, pages)
    job.rows.add(Stage.FINAL, _second_pass(job, order, winners))
    job.rows.wait()
    job.require_going_on()
    return report(job, winners=winners, pages=pages, trail=audit(job))


def _begin(job: Job, order: Batch) -> None:
    plan = plan_batch(order.manifest, order, style=_styles(job))
    job.rows.open(plan.rows, plan.drafts, forecast=plan.forecast.document())


def _second_pass(job: Job, order: Batch, winners: list[int]) -> list[Child]:
    return finals(job.rows.manifest(of=winners), order, style=_styles(job))


def _styles(job: Job) -> Any:
    def style(name: str) -> Style:
        return find_style(current().ledger, job.user_id, name)

    return style


@flow(name=KIND, retries=0, log_prints=False)
def render_batch(
    manifest: str = MANIFEST,
    defaults: dict[str, Any] = DEFAULTS,
    draft: PassOrder | None = DRAFT,
    final: PassOrder | None = FINAL,
    deduplicate: bool = DEDUPLICATE,
    answer_within_hours: float | None = HOURS,
    if_nobody_answers: IfNobody = IF_NOBODY,
    manifest_sha256: str = ON_RECORD,
    user: str = USER,
) -> State[Any]:
    """Everything as a cheap draft, then the winners as they were asked for."""
    order = Batch(
        manifest=manifest,
        defaults=defaults,
        draft=draft,
        final=final,
        deduplicate=deduplicate,
        answer_within_hours=answer_within_hours,
        if_nobody_answers=if_nobody_answers,
        manifest_sha256=manifest_sha256,
    )
    if not manifest_sha256:  # wrong input ends here, before anything is on record
        plan_batch(manifest, order, style=lambda _: TRIAL)
    functions = {KIND: render, PICTURE: generate}
    return drive(
        lambda job: functions[job.kind](job),
        parameters=order.model_dump(mode="json", exclude_defaults=True),
        user=user,
        step_by_step=False,
        patience=PATIENCE,
    )
