"""The JSON of the API, as models: what the endpoints answer, and what the documentation shows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from pydantic import Field

from darkroom.deployments.gateway.schemas.base import Document, Usd
from darkroom.deployments.gateway.schemas.batches import BatchDocument, batch_document
from darkroom.deployments.gateway.schemas.orders import shown_order
from darkroom.deployments.gateway.schemas.waits import StepDocument, WaitDocument, step_document, wait_document
from darkroom.ledger import BATCH, Asset, BatchPass, Counts, Job, JobStatus, Ledger, RequestStatus
from darkroom.media.links import asset_url
from darkroom.settings import Settings


class Links(Document):
    job: str = Field(alias="self", examples=["/v1/jobs/job_019aa1f0c5d2"])


class Accepted(Document):
    """The order is on record and will be carried out."""

    job_id: str = Field(examples=["job_019aa1f0c5d2"])
    status: JobStatus
    estimate_usd: Usd | None = Field(None, description="The most it should cost, where it takes several paid calls.")
    links: Links


class RequestDocument(Document):
    """One paid call."""

    ref: str = Field(description="Our id of the call.", examples=["req_019aa1f0c5d3"])
    step: str = Field(examples=["generate"])
    attempt: int = Field(examples=[1])
    endpoint: str = Field(examples=["fal-ai/flux/dev"])
    request_id: str | None = Field(description="The provider's id.")
    status: RequestStatus
    delivered_via: Literal["webhook", "poll"] | None = Field(description="How its end reached us.")
    cost_usd: Usd | None = Field(examples=[0.025])
    price_usd: Usd | None = Field(description="The cost with the plan's mark-up.", examples=[0.0325])
    billed_usd: Usd | None = Field(
        default=None, description="By the provider's bill, which comes later.", examples=[0.0225]
    )
    retried: bool | None = Field(
        default=None,
        description="Whether the provider has tried it again by itself, for nothing; null: it does not say.",
    )
    reused_from: str | None = Field(description="The `ref` of an earlier call of yours whose answer served: it cost 0.")
    created_at: datetime
    submitted_at: datetime | None
    finished_at: datetime | None


class AssetDocument(Document):
    """A file in the media store."""

    id: str = Field(examples=["ast_019aa1f0d8b4"])
    key: str = Field(
        description="Where it lies in the store.", examples=["images/u019a/job_019aa1f0c5d2/generate-0.jpg"]
    )
    url: str | None = Field(description="A link that needs no key and holds for an hour. None for a hidden file.")
    sha256: str
    content_type: str = Field(examples=["image/jpeg"])
    bytes: int
    width: int | None = Field(description="In pixels, of pictures and films.")
    height: int | None
    seconds: float | None = Field(description="Of films and sound.")
    flagged: bool | None = Field(
        default=None, description="Whether its model says that it is not safe for work; null: it says nothing."
    )
    hidden: bool = Field(
        default=False, description="Flagged, and the order says to hide that: it is on record, and not served."
    )


class UploadDocument(AssetDocument):
    """A file that was brought."""

    notes: list[str] = Field(
        [],
        description="What was passed over in it, or changed before it was kept.",
        examples=[["It was HEIC.", "It is kept as JPEG."]],
    )


class ErrorDocument(Document):
    """Why a job failed."""

    code: str = Field(examples=["content_policy_violation"])
    kind: str = Field(alias="class", description="What to do next: retry, park, permanent, needs_human.")
    message: str = Field(description="The provider's words, where they are its.")
    step: str | None
    ref: str | None
    retryable: bool


class PreviewDocument(Document):
    """One file to know a job by."""

    asset_id: str = Field(examples=["ast_019aa1f0d8b4"])
    url: str = Field(description="A link that needs no key and holds for an hour.")
    content_type: str = Field(examples=["image/jpeg"])
    width: int | None = Field(description="In pixels. What has none was not read to its end, and has no small picture.")


class JobSummary(Document):
    id: str = Field(examples=["job_019aa1f0c5d2"])
    kind: str = Field(examples=["generate-image"])
    status: JobStatus
    user_id: str
    order: dict[str, Any] = Field(
        description="What was ordered, without what it left to the defaults; passwords and signatures in it are "
        "hidden. In lists long texts and lists are cut.",
        examples=[{"prompt": "a fox in the snow"}],
    )
    estimate_usd: Usd | None = Field(
        description="The most that the whole should cost, as it was ordered; null where nobody can say.",
        examples=[0.025],
    )
    cost_usd: Usd = Field(description="What was paid for it, as far as is known.", examples=[0.025])
    price_usd: Usd = Field(
        description="The prices of its calls: each one's cost times the mark-up of the plan by which it was ordered, "
        "rounded to the nearest millionth of a dollar. Without a mark-up what its calls cost.",
        examples=[0.0325],
    )
    preview: PreviewDocument | None = Field(description="Its first picture; without one, its first file.")
    error: ErrorDocument | None
    tags: list[str] = Field(examples=[["spring"]])
    metadata: dict[str, Any] | None
    created_at: datetime
    finished_at: datetime | None
    links: Links


class ProgressDocument(Document):
    percent: float = Field(examples=[40])
    text: str = Field(examples=["training: step 400 of 1000"])


class DiscardDocument(Document):
    """That a person has said that nothing more is to become of a failed job."""

    at: datetime
    reason: str = Field(examples=["A test order."])


class JobDocument(JobSummary):
    waiting_for: str | None = Field(
        description="One sentence; null once it has ended.", examples=["slot: 10 of 10 in use, place 37"]
    )
    progress: ProgressDocument | None = Field(
        description="How far it has come; null where nobody tells, and at its end."
    )
    result: dict[str, Any] | None = Field(description="What it came to beside its files, by kind of job.")
    batch: BatchDocument | None = Field(None, description="Of a batch: how far its passes have come.")
    requests: list[RequestDocument]
    waits: list[WaitDocument] = Field(description="What it waits for, and has waited for, beside paid calls.")
    steps: list[StepDocument] = Field(description="Its unpaid side effects.")
    assets: list[AssetDocument]
    discarded: DiscardDocument | None = Field(description="Of a failed job that was put away; a replay takes it back.")


class ChildDocument(JobSummary):
    """A row of a batch, in one pass."""

    row: int = Field(description="Its place in the manifest, from 0.")
    number: int = Field(description="Its number on the contact sheet and in Prefect's form, from 1.")
    stage: BatchPass
    assets: list[AssetDocument]


class ChildPage(Document):
    items: list[ChildDocument]
    next: str | None = Field(description="The `cursor` of the next page; null on the last.")


class JobPage(Document):
    items: list[JobSummary]
    next: str | None = Field(description="The `cursor` of the next page; null on the last.")


def links(job: Job) -> Links:
    return Links(job=f"/v1/jobs/{job.id}")


def accepted(job: Job, *, estimate_usd: Decimal | None = None) -> Accepted:
    return Accepted(job_id=job.id, status=job.status, estimate_usd=estimate_usd, links=links(job))


def summaries(jobs: Sequence[Job], ledger: Ledger, settings: Settings) -> list[JobSummary]:
    """Return the jobs as lists show them."""
    return [JobSummary(**head) for head in _heads(jobs, ledger, settings)]


def job_document(job: Job, ledger: Ledger, settings: Settings) -> JobDocument:
    requests = ledger.requests.of_job(job.id)
    # Counted once for both: three counts of 10,000 rows took a tenth of a second.
    passes = ledger.batches.counts(job.id) if job.kind == BATCH else ()
    (head,) = _heads([job], ledger, settings, whole=True)
    return JobDocument(
        **head,
        waiting_for=ledger.waiting_for(job, requests, passes=passes),
        progress=ProgressDocument.model_validate(job.progress) if job.progress else None,
        result=job.result,
        batch=_batch(job, passes, ledger),
        requests=[RequestDocument.model_validate(row) for row in requests],
        waits=[wait_document(wait) for wait in ledger.waits.of_job(job.id)],
        steps=[step_document(step) for step in ledger.steps.of_job(job.id)],
        assets=[asset_document(asset, settings) for asset in ledger.assets.of_job(job.id)],
        discarded=_discarded(job),
    )


def _discarded(job: Job) -> DiscardDocument | None:
    if job.discarded_at is None:
        return None
    return DiscardDocument(at=job.discarded_at, reason=job.discard_reason or "")


def child_documents(jobs: Sequence[Job], ledger: Ledger, settings: Settings) -> list[ChildDocument]:
    """Return the rows of a batch as jobs."""
    assets = ledger.assets.of_jobs([job.id for job in jobs])
    return [
        ChildDocument(
            **head,
            row=job.manifest_row,
            number=(job.manifest_row or 0) + 1,
            stage=job.stage,
            assets=[asset_document(asset, settings) for asset in assets.get(job.id, [])],
        )
        for job, head in zip(jobs, _heads(jobs, ledger, settings), strict=True)
    ]


def _batch(job: Job, passes: Sequence[Counts], ledger: Ledger) -> BatchDocument | None:
    batch = ledger.batches.get(job.id) if job.kind == BATCH else None
    return None if batch is None else batch_document(batch, passes)


def asset_document(asset: Asset, settings: Settings) -> AssetDocument:
    return AssetDocument(**asset.model_dump(), url=None if asset.hidden else asset_url(asset.id, settings))


def _heads(jobs: Sequence[Job], ledger: Ledger, settings: Settings, *, whole: bool = False) -> list[dict[str, Any]]:
    """Return what every document of a job begins with. `whole`: with the order as long as it is."""
    # For all of them at once: a page has up to 200.
    ids = [job.id for job in jobs]
    figures, files = ledger.jobs.usage(ids), ledger.jobs.first_files(ids)
    return [
        {
            "id": job.id,
            "kind": job.kind,
            "status": job.status,
            "user_id": job.user_id,
            "order": shown_order(job.parameters, whole=whole),
            "estimate_usd": figures[job.id].estimate_usd,
            "cost_usd": figures[job.id].cost_usd,
            "price_usd": figures[job.id].price_usd,
            "preview": _preview(files.get(job.id), settings),
            "error": job.error,
            "tags": job.tags,
            "metadata": job.meta,
            "created_at": job.created_at,
            "finished_at": job.finished_at,
            "links": links(job),
        }
        for job in jobs
    ]


def _preview(asset: Asset | None, settings: Settings) -> PreviewDocument | None:
    if asset is None:
        return None
    url = asset_url(asset.id, settings)
    return PreviewDocument(asset_id=asset.id, url=url, content_type=asset.content_type, width=asset.width)
