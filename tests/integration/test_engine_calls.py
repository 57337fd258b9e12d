"""Calls of job functions side by side, on a real ledger: none holds up another, none happens twice at once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from uuid import uuid4

import httpx
import pytest
from ledger_scenes import DEV, OUTPUT, SUCCESS, picture_in_flight, post, spec
from support import wait_until

from darkroom import Job, Waiting
from darkroom.engine.calls import SIDE_BY_SIDE, Calls
from darkroom.engine.resources import Resources
from darkroom.engine.signals import RetryLater
from darkroom.engine.ui.report import Reports
from darkroom.errors import DarkroomError
from darkroom.ledger import JobStatus, Ledger, Listener, Outcome, Transition, Work
from darkroom.media.store import MediaStore, make_store_block
from darkroom.orchestrator import Orchestrator
from darkroom.orchestrator.api import PrefectApi
from darkroom.orchestrator.dispatch import Dispatcher
from darkroom.providers.registry import Providers
from darkroom.settings import Settings

NOWHERE = "http://127.0.0.1:9"


class Unheard(Reports):
    """There is no Prefect to show anything to."""

    def add(self, job: Job, ended: JobStatus, error: DarkroomError | None) -> None:
        pass


@pytest.fixture
def resources(ledger: Ledger) -> Iterator[Resources]:
    """The ledger is real; nothing else is asked for anything."""
    with ExitStack() as opened:
        orchestrator = opened.enter_context(Orchestrator(PrefectApi(NOWHERE)))
        yield Resources(
            settings=Settings(),
            ledger=ledger,
            orchestrator=orchestrator,
            dispatcher=Dispatcher(ledger, orchestrator),
            providers=Providers({}),
            files=opened.enter_context(httpx.Client()),
            store=MediaStore(make_store_block("/nowhere")),
        )


@pytest.fixture
def jobs(ledger: Ledger) -> list[str]:
    """As many as may be called at once, and two more. What is called does not depend on the run that carries it."""
    user_id = ledger.users.add("ann").user_id
    return [post(ledger, user_id).id for _ in range(SIDE_BY_SIDE + 2)]


@contextmanager
def calling(resources: Resources, function: Callable[[Job], object]) -> Iterator[tuple[Calls, Listener]]:
    calls = Calls(function, resources, Unheard(resources, uuid4()))
    with resources.ledger.listen("fox") as listener, calls.threads(listener):
        yield calls, listener


def work(ready: list[str], *, came: Collection[str] = ()) -> Work:
    return Work(open=tuple(ready), ready=tuple(ready), came=frozenset(came))


def status(resources: Resources, job_id: str) -> str:
    job = resources.ledger.jobs.get(job_id)
    assert job is not None
    return job.status.value


def test_a_slow_call_does_not_hold_up_the_others(resources: Resources, jobs: list[str]) -> None:
    """The second is called, ends and is called again while the first is still under way."""
    slow, quick = pair = jobs[:2]
    go_on = threading.Event()
    called: Counter[str] = Counter()

    def function(job: Job) -> None:
        called[job.id] += 1
        if job.id == slow:
            go_on.wait(20)
        elif called[quick] == 1:
            raise Waiting(["something"])

    with calling(resources, function) as (calls, _):
        calls.start(work(pair), as_tasks=False)
        wait_until(lambda: (calls.take_in(), quick in calls.waits)[1])
        calls.start(work(pair), as_tasks=False)
        wait_until(lambda: status(resources, quick) == "completed")
        assert calls.busy
        go_on.set()
    assert called == {slow: 1, quick: 2}


def test_a_job_is_not_called_again_before_the_end_of_its_call_was_taken_in(
    resources: Resources, jobs: list[str]
) -> None:
    """What it waits for is not known before: it would be taken for one that can go on."""
    called: Counter[str] = Counter()

    def function(job: Job) -> None:
        called[job.id] += 1
        raise Waiting(["something"])

    with calling(resources, function) as (calls, listener):
        calls.start(work(jobs[:1]), as_tasks=False)
        assert listener.wait(20), "the bell rings at the end of a call"
        calls.start(work(jobs[:1]), as_tasks=False)
        calls.take_in()
        assert calls.waits == {jobs[0]: {"something", jobs[0]}}
    assert called == {jobs[0]: 1}


def test_no_more_are_called_than_there_is_room_for(resources: Resources, jobs: list[str]) -> None:
    """Those further back in line are read when their turn comes."""
    go_on = threading.Event()
    called: Counter[str] = Counter()

    def function(job: Job) -> None:
        called[job.id] += 1
        go_on.wait(20)

    with calling(resources, function) as (calls, _):
        calls.start(work(jobs), as_tasks=False)
        wait_until(lambda: len(called) == SIDE_BY_SIDE)
        calls.start(work(jobs), as_tasks=False)
        go_on.set()
    assert called == dict.fromkeys(jobs[:SIDE_BY_SIDE], 1)


def test_a_file_that_could_not_be_had_is_tried_again_when_it_is_due(resources: Resources, jobs: list[str]) -> None:
    """The run stays for it, and no thread sleeps meanwhile."""
    called: Counter[str] = Counter()

    def function(job: Job) -> None:
        called[job.id] += 1
        if called[job.id] == 1:
            raise RetryLater(0.2)

    with calling(resources, function) as (calls, listener):
        calls.start(work(jobs[:1]), as_tasks=False)
        assert listener.wait(20)
        calls.take_in()
        calls.start(work(jobs[:1]), as_tasks=False)
        assert called == {jobs[0]: 1}
        assert calls.busy and 0 < calls.next_due <= 0.2
        wait_until(lambda: (calls.start(work(jobs[:1]), as_tasks=False), called[jobs[0]] == 2)[1])


def test_a_job_that_ended_elsewhere_is_not_waited_for(resources: Resources, jobs: list[str]) -> None:
    """E.g. its run was ended in Prefect while its file was to be tried again: the run would never close."""

    def function(job: Job) -> None:
        raise RetryLater(60)

    with calling(resources, function) as (calls, listener):
        calls.start(work(jobs[:1]), as_tasks=False)
        assert listener.wait(20)
        calls.take_in()
        assert calls.busy
        calls.start(work([]), as_tasks=False)
        assert not calls.busy


def test_a_job_that_has_ended_is_not_called(resources: Resources, ledger: Ledger, jobs: list[str]) -> None:
    """It was open when the run looked."""
    ledger.jobs.finish(jobs[0], JobStatus.CANCELLED)
    called: list[str] = []
    with calling(resources, lambda job: called.append(job.id)) as (calls, _):
        calls.start(work(jobs[:2]), as_tasks=False)
    assert called == [jobs[1]]


def test_what_came_is_not_held_back_by_the_pace_of_submits(
    resources: Resources, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that may submit only some go at once; the loop is told when the next may."""
    monkeypatch.setattr("darkroom.engine.calls.SUBMITS_AT_ONCE", 2)
    monkeypatch.setattr("darkroom.engine.calls.SUBMITS_PER_SECOND", 0.01)
    called: list[str] = []
    with calling(resources, lambda job: called.append(job.id)) as (calls, _):
        calls.start(work(jobs[:5], came=jobs[:2]), as_tasks=False)
        wait_until(lambda: len(called) == 4)
        assert calls.next_due > 10
    assert set(called) == set(jobs[:4])


def test_a_success_that_came_late_is_used_though_another_attempt_followed_it(
    resources: Resources, ledger: Ledger
) -> None:
    """The first attempt was given up and the second failed; then the first one's result came, and it is paid."""
    picture = picture_in_flight(ledger, ledger.users.add("ann").user_id)
    picture.settle(Outcome(transition=Transition.EXPIRE))
    second = ledger.requests.reserve(picture.job_id, spec(attempt=2))
    ledger.requests.settle(second.ref, Outcome(transition=Transition.FAIL, error={"class": "permanent"}), via="webhook")
    ledger.jobs.finish(picture.job_id, JobStatus.FAILED)
    picture.settle(SUCCESS)
    ledger.jobs.replay(picture.job_id)
    (record,) = ledger.jobs.take_up([picture.job_id])
    inference = Job(record, resources, as_tasks=False).infer(DEV, {"prompt": "a fox"}, step="generate")
    assert (inference.ref, inference.output) == (picture.ref, OUTPUT)
