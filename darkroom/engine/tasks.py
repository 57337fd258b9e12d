"""The steps of a run of one job as Prefect tasks: named in the UI, their tiny results kept as JSON.

A task run costs more than the step it shows, so a run that carries many jobs does without (see `report.py`). The cache
key names job, step and attempt. The ledger is the truth; the cache only shows a finished step as finished.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE, CacheKeyFnPolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger
from prefect.states import Completed

from darkroom.engine import store as storing
from darkroom.engine import submit as sending
from darkroom.engine.resources import Resources, current
from darkroom.errors import Retry
from darkroom.ledger import Job, RequestStatus
from darkroom.media.formats import Kind
from darkroom.timing import UNSCALED, Timing

P = ParamSpec("P")
R = TypeVar("R")


BY_THE_GATEWAY = "Submitted by the gateway"


def _key(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    # Never of the code, as by default: a redeploy between suspension and resume would have the step done again.
    return f"{context.task.name}/{parameters['key']}"


def _may_pass(task: Any, run: TaskRun, state: State[Any]) -> bool:
    """Return whether another try of the task may succeed."""
    # A plain function: Prefect takes any other callable for "do not retry".
    error = state.result(raise_on_failure=False)
    return isinstance(error, Retry | ConnectionError)


def paced(of: Task[P, R], timing: Timing) -> Task[P, R]:
    """Return the task with the pauses between its tries, which Prefect takes where a task is defined."""
    return of.with_options(retry_delay_seconds=[each.total_seconds() for each in timing.file_again])


_BY_JOB_STEP_ATTEMPT = CacheKeyFnPolicy(cache_key_fn=_key)


# Prefect persists no result unless it is told to, and without one it calls the task again after each resume.
@task(name="submit", task_run_name="submit {step}", persist_result=True, cache_policy=_BY_JOB_STEP_ATTEMPT)
def submit(ref: str, *, step: str, key: str) -> str | State[str]:
    """Send a granted call. Return the provider's request id, else the status that the row reached.

    Not retried here, see `sending.submit`. A call that a gateway has sent is adopted, and shown as such.
    """
    resources = current()
    row = resources.ledger.requests.get(ref)
    if not row.sent_ahead:
        row = sending.submit(resources, row)
    if row.sent_ahead:
        resources.ledger.requests.adopted(ref)
        get_run_logger().info("%s was submitted by the gateway as it got its slot.", ref)
        return Completed(message=BY_THE_GATEWAY, data=row.request_id or row.status.value)
    if row.status is RequestStatus.UNKNOWN:
        get_run_logger().warning("No answer to the submit of %s: its webhook or reconcile will settle it.", ref)
    return row.request_id or row.status.value


@task(
    name="store",
    task_run_name="store {step} {n}",
    persist_result=True,
    cache_policy=_BY_JOB_STEP_ATTEMPT,
    retries=len(UNSCALED.file_again),  # how many hangs on no scale; `paced` gives the pauses
    retry_jitter_factor=1,
    retry_condition_fn=_may_pass,
)
def store(job_id: str, ref: str, *, step: str, n: int, key: str, collected_at: datetime) -> str:
    """Store the n-th file of a finished call. Return the asset's id."""
    resources = current()
    row = resources.ledger.requests.get(ref)
    file = storing.files_of_call(row, row.output or {})[n]
    job = _job(resources, job_id)
    return storing.store(resources, job, file, ref=ref, step=step, n=n, collected_at=collected_at).id


@task(
    name="make",
    task_run_name="make {step}",
    persist_result=True,
    cache_policy=_BY_JOB_STEP_ATTEMPT,
    retries=len(UNSCALED.file_again),
    retry_jitter_factor=1,
    retry_condition_fn=_may_pass,
)
def make(job_id: str, build: Callable[[], bytes], *, step: str, n: int, kind: Kind, key: str) -> str:
    """Make and store our own file. Return the asset's id."""
    resources = current()
    return storing.make(resources, _job(resources, job_id), build, step=step, n=n, kind=kind).id


# Without a policy Prefect would make a key of the parameters, and log that it cannot make one of a function.
@task(name="step", task_run_name="{step}", cache_policy=NO_CACHE)
def step(carry_out: Callable[[], None], *, step: str) -> None:
    """Carry out an unpaid side effect."""
    carry_out()  # its result is on record in the ledger alone: it may be what nobody else is to read


def _job(resources: Resources, job_id: str) -> Job:
    job = resources.ledger.jobs.get(job_id)
    assert job is not None
    return job
