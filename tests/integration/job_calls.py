"""Job functions as the runner calls them, again and again from their top, on a real ledger and without Prefect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import uuid4

import pytest
from implying import creations
from reconciling import resources_of
from support import wait_until

from darkroom import Job, Waiting
from darkroom.engine.calls import Calls
from darkroom.engine.resources import Resources
from darkroom.engine.ui.report import Reports
from darkroom.errors import DarkroomError, NeedsHuman
from darkroom.ledger import Job as JobRow
from darkroom.ledger import JobStatus, Ledger, Listener, Work
from darkroom.orchestrator import Orchestrator, Parameters
from darkroom.orchestrator.api import PrefectApi

DAY = timedelta(days=1)
COMPLETED = "user.profile_completed"
Call = Callable[..., Job]


class Prefect(Orchestrator):
    """Knows one deployment, and is told of nothing."""

    def parameters_of(self, deployment: str) -> Parameters:
        if deployment != "generate-image/on-demand":
            raise NeedsHuman(f"Prefect has no deployment '{deployment}'")
        return Parameters(names=frozenset({"prompt", "seed", "user"}), required=frozenset({"prompt"}))


class Unheard(Reports):
    """There is no Prefect to show anything to."""

    def add(self, job: Job, ended: JobStatus, error: DarkroomError | None) -> None:
        pass


@pytest.fixture
def resources(ledger: Ledger) -> Iterator[Resources]:
    with resources_with(ledger) as resources:
        yield resources


@contextmanager
def resources_with(ledger: Ledger) -> Iterator[Resources]:
    with Prefect(PrefectApi("http://127.0.0.1:9")) as orchestrator:
        yield resources_of(ledger, orchestrator=orchestrator)


@pytest.fixture
def row(ledger: Ledger) -> JobRow:
    """A job under way, in the hands of a run whose process is there."""
    user_id = ledger.users.add("ann", plan="studio").user_id
    job = ledger.jobs.post(user_id=user_id, kind="onboard-user", parameters={}).job
    (start,) = creations(ledger.runs.assign(job.id))
    flow_run_id = uuid4()
    ledger.runs.created(start.run_id, flow_run_id)
    assert ledger.runs.enter(flow_run_id, run_key=start.run_id) is not None
    return job


@pytest.fixture
def call(resources: Resources, row: JobRow) -> Callable[..., Job]:
    """The job as one more call of its function has it."""

    return lambda failures=0: one_call(row.id, resources, failures=failures)


def one_call(job_id: str, resources: Resources, *, failures: int = 0) -> Job:
    (record,) = resources.ledger.jobs.take_up([job_id])
    return Job(record, resources, as_tasks=False, failures=failures)


def waits(saying: Callable[[], object]) -> Waiting:
    with pytest.raises(Waiting) as caught:
        saying()
    return caught.value


@contextmanager
def calling(resources: Resources, function: Callable[[Job], object]) -> Iterator[tuple[Calls, Listener]]:
    calls = Calls(function, resources, Unheard(resources, uuid4()))
    with resources.ledger.listen("fox") as listener, calls.threads(listener):
        yield calls, listener


def called(calls: Calls, job_id: str) -> None:
    calls.start(Work(open=(job_id,), ready=(job_id,), came=frozenset()), as_tasks=False)
    wait_until(lambda: (calls.take_in(), not calls.busy)[1])
