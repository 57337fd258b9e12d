"""The steps of a run of one job as Prefect tasks: named in the UI, their tiny results kept as JSON.

A task run costs more than the step it shows, so a run that carries many jobs does without (see `report.py`). The cache
key names job, step and attempt, never the code: a redeploy between suspension and resume must not pay again. The ledger
is the truth; the cache only shows a finished step as finished.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import task
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger

from blocks.errors import Retry
from blocks.ledger import RequestStatus
from blocks.media import RemoteFile
from flows.engine import steps
from flows.engine.resources import current


def _key(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    return f"{context.task.name}/{parameters['key']}"


def _may_pass(task: Any, run: TaskRun, state: State[Any]) -> bool:
    """A plain function: Prefect takes any other callable for "do not retry"."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, Retry | ConnectionError)


_BY_JOB_STEP_ATTEMPT = CacheKeyFnPolicy(cache_key_fn=_key)


@task(name="submit", task_run_name="submit {step}", persist_result=True, cache_policy=_BY_JOB_STEP_ATTEMPT)
def submit(ref: str, *, endpoint: str, step: str, key: str) -> str:
    """Returns the provider's request id, or "unknown" if no answer came. Not retried here, see `steps.submit`."""
    row = steps.submit(current(), ref, endpoint=endpoint)
    if row.status is RequestStatus.UNKNOWN:
        get_run_logger().warning("No answer to the submit of %s: its webhook or reconcile will settle it.", ref)
    return row.request_id or "unknown"


@task(
    name="store",
    task_run_name="store {step} {n}",
    persist_result=True,
    cache_policy=_BY_JOB_STEP_ATTEMPT,
    retries=len(steps.STORE_AGAIN_AFTER_SECONDS),
    retry_delay_seconds=list(steps.STORE_AGAIN_AFTER_SECONDS),
    retry_jitter_factor=1,
    retry_condition_fn=_may_pass,
)
def store(job_id: str, url: str, *, ref: str, step: str, n: int, key: str, collected_at: datetime) -> str:
    """Returns the asset's id."""
    resources = current()
    job = resources.ledger.jobs.get(job_id)
    assert job is not None
    return steps.store(resources, job, RemoteFile(url=url), ref=ref, step=step, n=n, collected_at=collected_at).id
