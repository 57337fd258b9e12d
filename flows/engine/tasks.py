"""The two steps with effects, as Prefect tasks: named in the UI, their tiny results kept as JSON.

The cache key names job, step and attempt, never the code: a redeploy between suspension and resume must not pay again.
The ledger is the truth; the cache only shows a finished step as finished.
"""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.artifacts import create_image_artifact
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger

from blocks.clock import utc_now
from blocks.errors import DarkroomError, Park, Permanent, Retry, SubmitUnknown
from blocks.fal import RemoteFile, fetch_image, find_model
from blocks.ledger import Asset, Happening, Implied, Outcome, Request, StoredFile
from blocks.links import ARTIFACT_LIFETIME, asset_url
from blocks.outcomes import error_document
from flows.engine.backoff import next_try
from flows.engine.resources import Resources, current


def _key(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    return f"{context.task.name}/{parameters['key']}"


def _may_pass(task: Any, run: TaskRun, state: State[Any]) -> bool:
    """A plain function: Prefect takes any other callable for "do not retry"."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, Retry | ConnectionError)


_BY_JOB_STEP_ATTEMPT = CacheKeyFnPolicy(cache_key_fn=_key)


@task(name="submit", task_run_name="submit {step}", persist_result=True, cache_policy=_BY_JOB_STEP_ATTEMPT)
def submit(ref: str, *, step: str, key: str) -> str:
    """Sends the one POST of a granted request. Returns the provider's request id, or "unknown" if no answer came.

    Not retried here: a refusal puts the row back into the ledger's queue, an answer that got lost is not repeated.
    """
    resources = current()
    model = find_model(resources.ledger.requests.get(ref).endpoint)
    row = resources.ledger.requests.begin_submit(ref, deadline=model.deadline)
    if row is None:
        raise Retry("The request is not granted any more: it was cancelled, or another process has it.")
    try:
        submitted = resources.fal.submit(
            row.endpoint, row.input, webhook_url=_webhook_url(resources, row), start_timeout=model.start_timeout
        )
    except SubmitUnknown:
        get_run_logger().warning("No answer to the submit of %s: its webhook or reconcile will settle it.", ref)
        resources.dispatcher.carry_out(resources.ledger.requests.answer_lost(ref))
        return "unknown"
    except DarkroomError as error:
        resources.dispatcher.carry_out(_refused(resources, row, error))
        raise
    resources.ledger.requests.accepted(ref, request_id=submitted.request_id)
    return submitted.request_id


@task(
    name="store",
    task_run_name="store {step} {n}",
    persist_result=True,
    cache_policy=_BY_JOB_STEP_ATTEMPT,
    retries=3,
    retry_delay_seconds=[1, 4, 15],
    retry_jitter_factor=1,
    retry_condition_fn=_may_pass,
)
def store(job_id: str, url: str, *, ref: str, step: str, n: int, key: str) -> str:
    """Fetches the file, verifies it, writes it to the media store. Returns the asset's id."""
    resources = current()
    job = resources.ledger.jobs.get(job_id)
    assert job is not None
    image = fetch_image(url, client=resources.files)
    place = f"images/{job.user_id}/{job.id}/{step}-{n}.{image.extension}"
    resources.store.write(place, image.content)
    file = StoredFile(
        key=place,
        sha256=image.sha256,
        content_type=image.content_type,
        bytes=len(image.content),
        width=image.width,
        height=image.height,
    )
    asset = resources.ledger.jobs.add_asset(job, ref=ref, step=step, n=n, file=file)
    _show(resources, asset)
    return asset.id


def store_file(job_id: str, file: RemoteFile, *, ref: str, attempt: int, step: str, n: int) -> str:
    return store(job_id, file.url, ref=ref, step=step, n=n, key=f"{job_id}/{step}-{n}/{attempt}")


def _refused(resources: Resources, row: Request, error: DarkroomError) -> Implied:
    """A sure refusal: for good, or back to the queue until it may pass."""
    document = error_document(error.of(step=row.step, ref=row.ref))
    if isinstance(error, Permanent) or not isinstance(error, Retry | Park):
        outcome = Outcome(happening=Happening.FAIL, error=document)
        return resources.ledger.requests.settle(row.ref, outcome, via=None)[1]
    refusals = (row.error or {}).get("refusals", 0) + 1
    due = next_try(error, tries=refusals, now=utc_now())
    return resources.ledger.requests.refused(row.ref, error=document | {"refusals": refusals}, not_before=due)


def _webhook_url(resources: Resources, row: Request) -> str | None:
    base = resources.settings.webhook_url
    return f"{base}?token={row.token}" if base else None


def _show(resources: Resources, asset: Asset) -> None:
    """The picture in Prefect's UI, through a link of the gateway: a browser sends no bearer."""
    create_image_artifact(
        image_url=asset_url(asset.id, resources.settings, lifetime=ARTIFACT_LIFETIME),
        key=f"picture-{asset.id.removeprefix('ast_')}",
        description=f"`{asset.key}`: {asset.width} × {asset.height}, {asset.bytes:,} bytes",
    )
