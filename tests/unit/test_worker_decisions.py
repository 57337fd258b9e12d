"""What the warm worker decides without asking anybody: how an end reads, whose code is preloaded, what is news."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from prefect.client.schemas.objects import Flow, FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events import Event
from prefect.events.schemas.events import RelatedResource, Resource
from prefect.exceptions import ObjectNotFound
from pydantic import ValidationError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from darkroom.deployments.worker import listeners, pool, warm
from darkroom.deployments.worker.__main__ import is_there
from darkroom.deployments.worker.children import explain, explain_error
from darkroom.deployments.worker.configuration import PROJECT, SET_FOLDER, Recipe, WarmJobConfiguration
from darkroom.deployments.worker.listeners import LedgerListener, _told_by_the_ledger, hear_prefect
from darkroom.deployments.worker.pool import pool_is_there
from darkroom.deployments.worker.warm import WarmWorker
from darkroom.ledger import Ledger
from darkroom.timing import Timing

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (-signal.SIGKILL, ["SIGKILL", "memory"]),
        (-signal.SIGSEGV, ["SIGSEGV"]),
        (-signal.SIGTERM, ["SIGTERM"]),
        (3, ["status 3"]),
        (255, ["status 255"]),
    ],
)
def test_an_end_is_explained(status: int, words: list[str]) -> None:
    """In words that an operator can look for."""
    assert all(word in explain(status) for word in words)


def test_what_kept_a_run_from_its_process_is_told_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    """They may repeat an order's prompt, and states and logs are for others: its class and place are told."""
    worker, told, prompt = WarmWorker(work_pool_name="darkroom"), list[str](), "a secret prompt"

    async def fail(*_: object, **__: object) -> None:
        raise OSError(prompt)

    async def crash(_: FlowRun, message: str) -> None:
        told.append(message)

    worker._ready_to_run, worker._propose_crashed_state = fail, crash  # type: ignore[method-assign,assignment]
    worker._release_limit_slot = lambda _: None  # type: ignore[method-assign]
    # Prefect's own would send its lines.
    worker.get_flow_run_logger = lambda _: logging.getLogger("of the run")  # type: ignore[method-assign,assignment,return-value]
    asyncio.run(worker._submit_run(FlowRun(id=uuid4(), flow_id=uuid4())))
    assert "OSError in test_worker_decisions.py, line" in told[0]
    assert "test_worker_decisions.py" in caplog.text
    assert "secret" not in told[0] + caplog.text


def test_a_variable_that_is_wrong_is_told_with_its_name_and_remedy() -> None:
    """And without its value."""
    with pytest.raises(ValidationError) as caught:
        WarmJobConfiguration(command="a secret")
    said = explain_error(caught.value)
    assert "command" in said
    assert "pool of type `process`" in said
    assert "secret" not in said


def recipe(entrypoint: str | None, *, pull_steps: list[dict[str, Any]] | None) -> Recipe:
    deployment = DeploymentResponse(id=uuid4(), name="d", flow_id=uuid4(), entrypoint=entrypoint, pull_steps=pull_steps)
    return Recipe(flow=Flow(id=deployment.flow_id, name="f"), deployment=deployment, result_storage=None)


def go_to(folder: Path | str) -> list[dict[str, Any]]:
    return [{SET_FOLDER: {"directory": str(folder)}}]


def test_our_own_flows_need_no_loading() -> None:
    """They are what the forkserver has imported."""
    found = recipe("flows/reconcile.py:reconcile", pull_steps=go_to(PROJECT)).preloaded()
    assert found == ("darkroom.flows.reconcile:reconcile", PROJECT)


@pytest.mark.parametrize(
    ("entrypoint", "pull_steps"),
    [
        ("flows/reconcile.py:reconcile", go_to("/somewhere/else")),
        ("flows/reconcile.py:reconcile", None),
        ("flows/reconcile.py:reconcile", [*go_to(PROJECT), *go_to(PROJECT)]),
        ("flows/reconcile.py:reconcile", [{"prefect.deployments.steps.git_clone": {"repository": "r"}}]),
        ("flows/reconcile.py", go_to(PROJECT)),
        ("tests/other.py:flow", go_to(PROJECT)),
        ("darkroom.flows.reconcile.reconcile", go_to(PROJECT)),
        (None, go_to(PROJECT)),
    ],
)
def test_other_code_is_left_to_prefect(entrypoint: str | None, pull_steps: list[dict[str, Any]] | None) -> None:
    """Whatever is not for sure the same file."""
    assert recipe(entrypoint, pull_steps=pull_steps).preloaded() is None


def test_a_runs_own_variables_are_over_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a variable that is set to nothing is not there at all."""
    monkeypatch.setenv("OF_THE_WORKER", "worker")
    monkeypatch.setenv("OF_BOTH", "worker")
    monkeypatch.setenv("UNWANTED", "worker")
    configuration = WarmJobConfiguration(env={"OF_BOTH": "run", "UNWANTED": None})
    configuration.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4()))
    environment = configuration.environment
    assert (environment["OF_THE_WORKER"], environment["OF_BOTH"]) == ("worker", "run")
    assert "UNWANTED" not in environment


def test_a_command_is_refused() -> None:
    """Nothing would start it."""
    with pytest.raises(ValidationError, match="process"):
        WarmJobConfiguration(command="python -m prefect.engine")


def test_of_two_renewals_in_quick_succession_the_later_code_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the earlier takes longer to import; what it replaces is let go."""
    retired, first_goes_on, made = list[int](), threading.Event(), count(1)

    class Imported:
        def __init__(self) -> None:
            self.generation = next(made)
            if self.generation == 1:
                assert first_goes_on.wait(20)

        def retire(self) -> None:
            retired.append(self.generation)

    async def renew_twice() -> object:
        worker = WarmWorker(work_pool_name="darkroom")
        worker._renew()
        worker._renew()
        await asyncio.wait(worker._tasks[1:], timeout=0.2)  # it would be done, were it not to wait for the first
        first_goes_on.set()
        await asyncio.gather(*worker._tasks)
        return worker._forkserver

    monkeypatch.setattr(warm, "ForkServer", Imported)
    forkserver = asyncio.run(renew_twice())
    assert isinstance(forkserver, Imported) and forkserver.generation == 2
    assert retired == [1]


# -- what the worker hears ---------------------------------------------------------------------------------------------


def test_a_file_is_waited_for_until_somebody_makes_it(tmp_path: Path) -> None:
    """A worker that began before would find the pool and the runs of the version before."""

    async def wait() -> None:
        waiting = asyncio.create_task(is_there(tmp_path / "provisioned"))
        assert not (await asyncio.wait([waiting], timeout=0.05))[0]
        (tmp_path / "provisioned").touch()
        await waiting

    asyncio.run(wait())


class Told:
    """A child that writes down what it is told."""

    since = NOW

    def __init__(self) -> None:
        self.words: list[str] = []

    def cancel(self, *, grace: timedelta) -> None:
        self.words.append("cancel")

    def send(self, message: object) -> None:
        self.words.append(type(message).__name__)


def worker_with(child: Told, flow_run: UUID) -> WarmWorker:
    worker = WarmWorker(work_pool_name="darkroom")
    worker._children[flow_run] = child  # type: ignore[assignment]
    return worker


LATER = NOW + timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("state", "when", "told"),
    [
        ("Cancelling", LATER, ["cancel"]),
        ("Suspended", LATER, ["Suspended"]),
        # of a former process of the run; heard again when the stream was out
        ("Cancelling", NOW, []),
        ("Suspended", NOW - timedelta(seconds=30), []),
    ],
)
def test_a_child_is_told_what_became_of_its_run_since_it_has_it(state: str, when: datetime, told: list[str]) -> None:
    """Not what came before: a resumed run would stop for the suspension it was resumed from."""
    run, child = uuid4(), Told()
    worker = worker_with(child, run)
    worker._heard(state, run, when)
    worker._heard(state, uuid4(), when)  # somebody else's
    assert child.words == told
    assert not worker._notified.is_set()


@pytest.mark.parametrize("state", ["Scheduled", "Resuming", "Recovering", "AwaitingRetry", "Late"])
def test_a_run_that_is_ready_is_asked_for_unless_its_child_still_ends(state: str) -> None:
    """Then it is asked for as soon as that has ended."""
    ending = uuid4()
    worker = worker_with(Told(), ending)
    worker._submitting_flow_run_ids.add(ending)
    worker._heard(state, ending, LATER)
    assert not worker._notified.is_set()
    assert worker._ready_too_soon == {ending}
    worker._heard(state, uuid4(), LATER)
    assert worker._notified.is_set()


def test_a_run_that_the_last_poll_has_brought_is_not_asked_for_again() -> None:
    """The ledger tells of it before Prefect's stream does: that word is no reason to poll, and none at its end."""
    taken, resumed_again, other = uuid4(), uuid4(), uuid4()
    worker = WarmWorker(work_pool_name="darkroom")
    for run in (taken, resumed_again):
        worker._heard("Resuming", run, NOW)
        worker._submitting_flow_run_ids.add(run)
        worker._taken_up[run] = NOW
        worker._heard("Resuming", run, NOW)
    assert not worker._is_wanted()
    assert not worker._ready_too_soon
    worker._heard("Resuming", resumed_again, LATER)
    assert worker._ready_too_soon == {resumed_again}
    worker._heard("Resuming", taken, NOW)
    worker._heard("Resuming", other, NOW)
    assert worker._is_wanted()
    assert not worker._is_wanted()
    worker._ring()
    assert worker._is_wanted()


def test_whatever_is_answered_in_prefects_place_it_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of a proxy's is no JSON: without the next poll no cancel would reach a run any more."""
    polled = asyncio.Queue[None]()

    def out(**_: object) -> None:
        raise OSError

    async def poll() -> None:
        polled.put_nowait(None)
        raise ValueError("no JSON")

    async def listen() -> None:
        hearing = asyncio.create_task(hear_prefect(uuid4(), lambda *_: None, poll=poll, again=timedelta(0)))
        for _ in range(2):
            next_poll = asyncio.create_task(polled.get())
            await asyncio.wait([next_poll, hearing], return_when=asyncio.FIRST_COMPLETED)
            assert next_poll.done()
        hearing.cancel()
        await asyncio.wait([hearing])

    monkeypatch.setattr(listeners, "get_events_subscriber", out)
    asyncio.run(listen())


class Heard(Ledger):
    """A ledger that cannot be heard at first, for each of these reasons in turn; then it rings."""

    def __init__(self, *reasons: Exception) -> None:
        self.reasons = list(reasons)

    @contextmanager
    def listen(self, channel: str) -> Iterator[Any]:
        if self.reasons:
            raise self.reasons.pop(0)
        yield SimpleNamespace(wait=lambda _: not time.sleep(0.01))


def test_the_ledger_is_heard_again_after_any_outage() -> None:
    """However many there were, one after the other."""
    ledger = Heard(psycopg.errors.AdminShutdown(), PoolTimeout(), psycopg.errors.CannotConnectNow())

    async def listen() -> None:
        rung = asyncio.Event()
        with closing(LedgerListener(ledger, rung.set, timing=Timing(listen_again=timedelta(0)))):
            await asyncio.wait_for(rung.wait(), 20)

    asyncio.run(listen())


def test_a_ledger_that_refuses_the_worker_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """Polling goes on; nobody need look for a traceback of a thread."""

    async def listen() -> LedgerListener:
        with closing(LedgerListener(Heard(psycopg.errors.InsufficientPrivilege("no")), print, timing=Timing())) as ear:
            await asyncio.to_thread(ear._thread.join, 20)
            return ear

    assert not asyncio.run(listen())._thread.is_alive()
    (line,) = [record.message for record in caplog.records if record.name == listeners.__name__]
    assert "heard no more" in line and "InsufficientPrivilege" in line


class Prefect:
    """Answers a question for the pool with each of these in turn, then with the pool."""

    def __init__(self, *answers: Exception) -> None:
        self.answers = list(answers)

    async def __aenter__(self) -> Prefect:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def read_work_pool(self, name: str) -> None:
        if self.answers:
            raise self.answers.pop(0)


def answered(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://prefect/work_pools/darkroom")
    return httpx.HTTPStatusError(str(status), request=request, response=httpx.Response(status, request=request))


def test_the_pool_is_waited_for_whatever_answers_in_prefects_place(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A page of a proxy's is no JSON. What it waits for is told once for each reason."""
    caplog.set_level(logging.INFO)
    out = httpx.ConnectError("no")
    prefect = Prefect(out, out, answered(502), ValueError("no JSON"), ObjectNotFound(http_exc=answered(404)))
    monkeypatch.setattr(pool, "get_client", lambda: prefect)
    asyncio.run(pool_is_there("darkroom"))
    assert not prefect.answers
    told = [record.message for record in caplog.records if record.name == pool.__name__]
    assert [line.partition("(")[2] for line in told] == [
        "ConnectError)",
        "Prefect answers 502)",
        "ValueError)",
        "nobody has made it yet)",
    ]


@pytest.mark.parametrize("status", [401, 403])
def test_a_worker_that_prefect_refuses_does_not_wait(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """It would wait for ever, and say nothing."""
    monkeypatch.setattr(pool, "get_client", lambda: Prefect(answered(status)))
    with pytest.raises(httpx.HTTPStatusError):
        asyncio.run(asyncio.wait_for(pool_is_there("darkroom"), 5))


def event(name: str, *, tag: str) -> Event:
    run = Resource({"prefect.resource.id": f"prefect.flow-run.{uuid4()}"})
    related = RelatedResource({"prefect.resource.id": tag, "prefect.resource.role": "tag"})
    return Event(event=f"prefect.flow-run.{name}", resource=run, related=[related])


@pytest.mark.parametrize(
    ("name", "tag", "left"),
    [
        ("Scheduled", "prefect.tag.user:u_1", True),
        ("Scheduled", "prefect.tag.darkroom", False),
        ("Resuming", "prefect.tag.user:u_1", False),
        ("Cancelling", "prefect.tag.user:u_1", False),
    ],
)
def test_only_the_making_of_our_runs_is_left_to_the_ledger(name: str, tag: str, left: bool) -> None:
    """It tells after the commit, so that the poll finds the run."""
    assert _told_by_the_ledger(event(name, tag=tag)) is left
