"""A gateway sends a job's first call as it gets its slot, and the run adopts it: whoever sends it, it is paid once.

The ledger is real; fal is a function behind the client's own transport.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from unittest.mock import MagicMock
from uuid import uuid4

import httpx
import pytest
from batch_scenes import order
from implying import creations, grants
from interleaving import all_at_once
from ledger_databases import Db
from ledger_scenes import SUCCESS, post
from prefect.logging import disable_run_logger
from prefect.states import State
from reconciling import resources_of
from running_gateway import GivenBlocks
from support import wait_until

from darkroom.deployments.gateway.loops.submitter import MOST_WAITING, THREADS, Submitter
from darkroom.engine import submit as sending
from darkroom.engine import tasks
from darkroom.engine.resources import Resources, using
from darkroom.errors import DarkroomError, Park, Permanent, Retry
from darkroom.ledger import Granted, Implied, Ledger, Outcome, Request, RequestStatus, Transition
from darkroom.orchestrator import Orchestrator
from darkroom.orchestrator.dispatch import Dispatcher
from darkroom.providers.base import Provider
from darkroom.providers.fal import Fal
from darkroom.providers.fal.provider import FalProvider
from darkroom.providers.registry import Providers
from darkroom.settings import Settings

ASLEEP = timedelta(hours=1)


def taken() -> httpx.Response:
    return httpx.Response(200, json={"request_id": str(uuid4())})


def nginx() -> httpx.Response:
    return httpx.Response(503, text="<html><center>nginx</center></html>")


def broken_off() -> httpx.Response:
    raise httpx.ReadTimeout("nothing came back")


class FakeFal:
    """Answers every submit as it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answer: Callable[[], httpx.Response] = taken
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.method)
        return self.answer() if request.method == "POST" else httpx.Response(202, json={})

    def hold(self) -> threading.Event:
        """Answer no submit before what is returned is set."""
        go_on = threading.Event()

        def held() -> httpx.Response:
            go_on.wait(20)
            return taken()

        self.answer = held
        return go_on

    @property
    def submits(self) -> int:
        return self.asked.count("POST")


@dataclass(frozen=True, kw_only=True)
class Scene:
    ledger: Ledger
    fal: FakeFal
    blocks: GivenBlocks
    resources: Resources
    ann: str
    implied: list[Implied] = field(default_factory=list)

    def grant(self, **changes: object) -> Granted:
        job = post(self.ledger, self.ann, **changes)
        return next(each for each in self.ledger.grants.grant() if each.job_id == job.id)

    def row(self, granted: Granted) -> Request:
        return self.ledger.requests.get(granted.ref)

    def send_ahead(self, *granted: Granted, blocks: GivenBlocks | None = None, on: bool = True) -> None:
        """As a gateway does with what it has just granted; returns when it has done all it does about it."""
        with self.submitter(blocks=blocks, on=on) as submitter:
            submitter.take(granted)
            until_idle(submitter)

    @contextmanager
    def submitter(self, *, blocks: GivenBlocks | None = None, on: bool = True) -> Iterator[Submitter]:
        settings = Settings(submit_at_grant=on)
        with Submitter(self.ledger, settings, blocks or self.blocks, self.implied.append) as submitter:
            yield submitter

    def send_by_the_run(self, granted: Granted) -> Request:
        with suppress(DarkroomError):
            sending.submit(self.resources, self.row(granted))
        return self.row(granted)


def until_idle(submitter: Submitter) -> None:
    """Until whatever it has taken is done, or left to the run."""
    wait_until(lambda: submitter.idle, what="the submitter's threads")


@pytest.fixture
def scene(ledger: Ledger) -> Iterator[Scene]:
    ledger.users.set_plan("studio", in_flight=200, weight=Decimal(1))
    ledger.users.set_account("fal", slots=200)
    fal = FakeFal()
    with Fal("key", transport=httpx.MockTransport(fal)) as client:
        yield Scene(
            ledger=ledger,
            fal=fal,
            blocks=GivenBlocks(client=client),
            resources=resources_of(ledger, providers=Providers({"fal": lambda: FalProvider(client)})),
            ann=ledger.users.add("ann", plan="studio").user_id,
        )


def test_the_first_call_of_a_job_is_in_flight_before_any_run_is(scene: Scene) -> None:
    """Sent once, and on record as sent by a gateway."""
    granted = scene.grant()
    scene.send_ahead(granted)

    row = scene.row(granted)
    assert (row.status, row.sent_ahead, row.adopted_at) == (RequestStatus.IN_FLIGHT, True, None)
    assert row.request_id is not None
    assert scene.fal.submits == 1


def test_a_call_is_on_record_as_being_sent_before_a_run_is_told_of_its_job(scene: Scene) -> None:
    """Also where the user's run has a process: it would look at the row for nothing, or send it later."""
    first = scene.grant()
    (start,) = creations(scene.ledger.runs.assign(first.job_id))
    assert scene.ledger.runs.enter(uuid4(), run_key=start.run_id)
    job = post(scene.ledger, scene.ann)
    dispatcher = Dispatcher(scene.ledger, MagicMock(spec=Orchestrator))
    statuses: list[RequestStatus] = []

    def assign(*job_ids: str) -> Implied:
        statuses.extend(row.status for job_id in job_ids for row in scene.ledger.requests.of_job(job_id))
        return assigned(*job_ids)

    assigned, scene.ledger.runs.assign = scene.ledger.runs.assign, assign
    go_on = scene.fal.hold()
    with scene.submitter() as submitter:
        dispatcher.hand_out(on_grant=submitter.take)
        go_on.set()
        until_idle(submitter)
    assert statuses == [RequestStatus.SUBMITTING]
    (row,) = scene.ledger.requests.of_job(job.id)
    assert (row.status, row.sent_ahead, scene.fal.submits) == (RequestStatus.IN_FLIGHT, True, 1)
    assert scene.ledger.jobs.get(job.id).run_id == start.run_id


def test_a_run_and_gateways_that_are_after_the_same_row_send_it_once(scene: Scene) -> None:
    """Whoever commits first that it will has it; for the others it is under way."""
    granted = scene.grant()
    row = scene.row(granted)
    with scene.submitter() as one, scene.submitter() as another:

        def ahead(submitter: Submitter) -> Callable[[], object]:
            return lambda: (submitter.take([granted]), until_idle(submitter))

        def by_the_run() -> object:
            with suppress(DarkroomError):
                return sending.submit(scene.resources, row)
            return None

        all_at_once([ahead(one), by_the_run, ahead(another), by_the_run])

    assert scene.fal.submits == 1
    assert scene.row(granted).status is RequestStatus.IN_FLIGHT


def test_a_run_adopts_what_a_gateway_is_sending(scene: Scene) -> None:
    """Also in the midst of it: the row is no error, and nothing is sent again."""
    granted = scene.grant()
    before = scene.row(granted)
    on_its_way, go_on = threading.Event(), threading.Event()

    def held() -> httpx.Response:
        on_its_way.set()
        go_on.wait(20)
        return taken()

    scene.fal.answer = held
    with scene.submitter() as submitter:
        submitter.take([granted])
        on_its_way.wait(20)
        assert sending.submit(scene.resources, before).status is RequestStatus.SUBMITTING
        go_on.set()
        until_idle(submitter)
    assert scene.row(granted).status is RequestStatus.IN_FLIGHT
    assert scene.fal.submits == 1


def test_the_task_of_a_lone_run_says_that_the_gateway_has_submitted_it(scene: Scene) -> None:
    """It ends as completed with the provider's id, sends nothing, and notes that it was shown."""
    granted = scene.grant()
    scene.send_ahead(granted)
    with using(scene.resources), disable_run_logger():
        state = tasks.submit.fn(granted.ref, step="generate", key="key")

    row = scene.row(granted)
    assert isinstance(state, State)
    assert (state.name, state.message, state.data) == ("Completed", tasks.BY_THE_GATEWAY, row.request_id)
    assert row.adopted_at is not None
    assert scene.fal.submits == 1


def with_a_process(scene: Scene, db: Db, granted: Granted) -> None:
    (start,) = creations(scene.ledger.runs.assign(granted.job_id))
    flow_run_id = uuid4()
    scene.ledger.runs.created(start.run_id, flow_run_id)
    assert scene.ledger.runs.enter(flow_run_id, run_key=start.run_id)
    db.execute("UPDATE request SET granted_at = now()")  # it had the process by then


def cancelled(scene: Scene, db: Db, granted: Granted) -> None:
    db.execute("UPDATE job SET cancel_requested_at = now()")


def replayed(scene: Scene, db: Db, granted: Granted) -> None:
    db.execute("UPDATE job SET replayed_at = now()")


def refused_before(scene: Scene, db: Db, granted: Granted) -> None:
    scene.ledger.requests.begin_submit(granted.ref, deadline=ASLEEP)
    scene.ledger.requests.refused(granted.ref, error={"code": "transient"}, not_before=None)
    scene.ledger.grants.grant()


def a_later_attempt(scene: Scene, db: Db, granted: Granted) -> None:
    db.execute("UPDATE request SET attempt = 2")


@pytest.mark.parametrize("left", [with_a_process, cancelled, replayed, refused_before, a_later_attempt])
def test_what_a_run_may_do_otherwise_is_left_to_it(
    scene: Scene, db: Db, left: Callable[[Scene, Db, Granted], None]
) -> None:
    """A job with a process, a cancelled one, one put back after a failure, what the provider refused, a second try."""
    granted = scene.grant()
    left(scene, db, granted)
    scene.send_ahead(granted)
    assert scene.row(granted).status is RequestStatus.GRANTED
    assert scene.fal.submits == 0


def test_a_row_of_a_batch_is_left_to_its_run(scene: Scene) -> None:
    """Which sends its rows at its own pace, and is there as the first of them is granted."""
    order(scene.ledger, scene.ann, 1)
    (granted,) = scene.ledger.grants.grant()
    scene.send_ahead(granted)
    assert scene.row(granted).status is RequestStatus.GRANTED
    assert scene.fal.submits == 0


@pytest.mark.parametrize(
    "names", [{"image_url": "asset:ast_1"}, {"image_urls": ["asset:ast_1"]}, {"loras": [{"path": "asset:ast_2"}]}]
)
def test_a_call_with_the_users_files_is_left_to_its_run(scene: Scene, names: dict[str, object]) -> None:
    """Which brings them to the provider; wherever in the input they are named."""
    granted = scene.grant(input={"prompt": "a fox", **names})
    scene.send_ahead(granted)
    assert scene.row(granted).status is RequestStatus.GRANTED


def test_a_call_that_only_speaks_of_files_is_sent_ahead(scene: Scene) -> None:
    granted = scene.grant(input={"prompt": "my asset: a fox", "loras": [{"path": "https://fal.example/x"}]})
    scene.send_ahead(granted)
    assert scene.row(granted).status is RequestStatus.IN_FLIGHT


def test_nothing_is_sent_ahead_while_the_block_is_unread_or_it_is_switched_off(scene: Scene) -> None:
    """The run does it as before."""
    granted = scene.grant()
    scene.send_ahead(granted, blocks=GivenBlocks())
    scene.send_ahead(granted, on=False)
    assert scene.row(granted).status is RequestStatus.GRANTED
    assert scene.send_by_the_run(granted).status is RequestStatus.IN_FLIGHT
    assert not scene.row(granted).sent_ahead


class Broken(GivenBlocks):
    """Blocks that fail in our own code."""

    def provider(self, account_id: str) -> Provider:
        raise RuntimeError("nobody has foreseen this")


def test_who_grants_goes_on_whatever_fails_here(scene: Scene) -> None:
    granted = scene.grant()
    scene.send_ahead(granted, blocks=Broken())
    assert scene.row(granted).status is RequestStatus.GRANTED


def test_threads_whose_look_for_more_calls_fails_are_free_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the gateway would send fewer ahead from then on, and at last none."""
    granted = [scene.grant() for _ in range(THREADS + 1)]
    go_on = scene.fal.hold()

    def broken(*_: object, **__: object) -> list[Request]:
        raise RuntimeError("nobody has foreseen this")

    with scene.submitter() as submitter:
        submitter.take(granted)
        wait_until(lambda: scene.fal.submits == THREADS, what="as many under way as there are threads")
        monkeypatch.setattr(scene.ledger.requests, "begin_ahead", broken)
        go_on.set()
        until_idle(submitter)
        monkeypatch.undo()
        submitter.take(granted[THREADS:])
        until_idle(submitter)
    assert {scene.row(each).status for each in granted} == {RequestStatus.IN_FLIGHT}


def test_of_a_burst_only_as_many_are_sent_ahead_as_there_is_room_for(scene: Scene) -> None:
    """The gateway's threads are few, and it has others to answer: their run sends the rest."""
    granted = [scene.grant() for _ in range(THREADS + MOST_WAITING + 15)]
    go_on = scene.fal.hold()
    with scene.submitter() as submitter:
        submitter.take(granted)
        wait_until(lambda: scene.fal.submits == THREADS, what="as many under way as there are threads")
        go_on.set()
        until_idle(submitter)
    rows = [scene.row(each) for each in granted]
    assert sum(row.status is RequestStatus.GRANTED for row in rows) >= 15
    assert all(row.status in (RequestStatus.GRANTED, RequestStatus.IN_FLIGHT) for row in rows)


def test_an_outage_opens_the_breaker_as_if_the_run_had_met_it(scene: Scene) -> None:
    """The row is back in the queue with its attempt, and asks for a grant."""
    granted = scene.grant()
    scene.fal.answer = nginx
    scene.send_ahead(granted)
    row = scene.row(granted)
    assert (row.status, row.attempt, row.sent_ahead) == (RequestStatus.QUEUED, 1, False)
    assert scene.ledger.users.account("fal").down_since is not None
    assert any(grants(each) for each in scene.implied)


def test_a_429_halves_the_slots_and_the_row_waits_for_its_retry_after(scene: Scene) -> None:
    granted = scene.grant()
    scene.fal.answer = lambda: httpx.Response(429, json={"detail": "slower"}, headers={"Retry-After": "3"})
    scene.send_ahead(granted)
    row = scene.row(granted)
    assert row.status is RequestStatus.QUEUED
    assert row.not_before is not None
    assert scene.ledger.users.account("fal").halvings == 1


def test_an_exhausted_balance_is_told_with_its_reason(scene: Scene) -> None:
    granted = scene.grant()
    scene.fal.answer = lambda: httpx.Response(403, json={"detail": "User is locked. Reason: Exhausted balance."})
    scene.send_ahead(granted)
    assert scene.row(granted).status is RequestStatus.QUEUED
    assert len(scene.ledger.accounts.to_notify()) == 1


def test_an_input_that_the_provider_refuses_fails_the_call_for_good(scene: Scene) -> None:
    """Its run, on its way, finds why."""
    granted = scene.grant()
    body = {"detail": [{"loc": ["body", "prompt"], "msg": "too long", "type": "value_error"}]}
    scene.fal.answer = lambda: httpx.Response(422, json=body)
    scene.send_ahead(granted)
    row = scene.row(granted)
    assert row.status is RequestStatus.FAILED
    assert row.error is not None
    assert "too long" in row.error["message"]


def test_a_key_that_is_refused_is_tried_again_by_the_run(scene: Scene) -> None:
    """A gateway's copy of the block may be a minute old; what the run's own key says is final."""
    granted = scene.grant()
    scene.fal.answer = lambda: httpx.Response(401, json={"detail": "no such key"})
    scene.send_ahead(granted)
    assert scene.row(granted).status is RequestStatus.QUEUED
    assert not scene.row(granted).sent_ahead


@dataclass(frozen=True, kw_only=True)
class Unprepared(GivenBlocks):
    """Blocks whose provider cannot prepare a call."""

    error: DarkroomError

    def provider(self, account_id: str) -> Provider:
        provider = super().provider(account_id)
        provider.prepare = MagicMock(side_effect=self.error)
        return provider


@pytest.mark.parametrize(
    "error, status",
    [
        (Retry("not now"), RequestStatus.QUEUED),
        (Park("out"), RequestStatus.QUEUED),
        (Permanent("never"), RequestStatus.FAILED),
    ],
)
def test_a_call_that_a_gateway_cannot_prepare_is_not_taken_for_one_that_was_sent(
    scene: Scene, error: DarkroomError, status: RequestStatus
) -> None:
    """It is on record as being sent by then, and surely was not: it is tried again, or fails, as in a run."""
    granted = scene.grant()
    scene.send_ahead(granted, blocks=Unprepared(client=scene.blocks.client, error=error))
    row = scene.row(granted)
    assert (row.status, row.attempt, row.sent_ahead) == (status, 1, status is RequestStatus.FAILED)
    assert scene.fal.submits == 0
    assert scene.ledger.users.account("fal").down_since is None


def test_what_waits_for_a_thread_is_left_to_a_run_that_had_a_process_at_its_grant(scene: Scene, db: Db) -> None:
    """In a burst the run sends at its pace what comes from then on; what was there before keeps its turn here."""
    granted = [scene.grant() for _ in range(THREADS + 3)]
    go_on = scene.fal.hold()
    with scene.submitter() as submitter:
        submitter.take(granted)
        wait_until(lambda: scene.fal.submits == THREADS, what="as many under way as there are threads")
        (start,) = creations(scene.ledger.runs.assign(*(each.job_id for each in granted)))
        assert scene.ledger.runs.enter(uuid4(), run_key=start.run_id)
        db.execute("UPDATE request SET granted_at = now() WHERE ref = %s", [granted[-1].ref])
        go_on.set()
        until_idle(submitter)
    statuses = [scene.row(each).status for each in granted]
    assert statuses == [RequestStatus.IN_FLIGHT] * (THREADS + 2) + [RequestStatus.GRANTED]


def test_a_lost_answer_keeps_its_slot_as_unknown(scene: Scene) -> None:
    """As for a run: neither repeated nor given up, and no run sends it either."""
    granted = scene.grant()
    scene.fal.answer = broken_off
    scene.send_ahead(granted)
    assert scene.row(granted).status is RequestStatus.UNKNOWN
    scene.fal.answer = taken
    assert scene.send_by_the_run(granted).status is RequestStatus.UNKNOWN
    assert scene.fal.submits == 1


def test_a_run_that_cannot_prepare_a_call_leaves_alone_what_a_gateway_has_sent(scene: Scene) -> None:
    """Its account's block may be gone just now: put back into the queue, the call would be paid twice."""
    granted = scene.grant()
    before = scene.row(granted)
    scene.send_ahead(granted)
    without = resources_of(scene.ledger, providers=Providers({}))
    with pytest.raises(DarkroomError):
        sending.submit(without, before)
    assert scene.row(granted).status is RequestStatus.IN_FLIGHT


def test_a_job_that_is_cancelled_during_its_submit_is_cancelled_at_the_provider(scene: Scene) -> None:
    """The run may have looked before the provider's id was known."""
    granted = scene.grant()

    def cancelled_meanwhile() -> httpx.Response:
        scene.ledger.jobs.cancel(granted.job_id)
        return taken()

    scene.fal.answer = cancelled_meanwhile
    scene.send_ahead(granted)
    assert scene.row(granted).status is RequestStatus.IN_FLIGHT
    assert scene.fal.asked == ["POST", "PUT"]


def test_a_result_that_comes_before_the_answer_is_kept(scene: Scene) -> None:
    """The answer only fills in the provider's id."""
    granted = scene.grant()

    def came_already() -> httpx.Response:
        scene.ledger.requests.settle(granted.ref, SUCCESS, via="webhook")
        return taken()

    scene.fal.answer = came_already
    scene.send_ahead(granted)
    row = scene.row(granted)
    assert row.status is RequestStatus.SUCCEEDED
    assert row.request_id is not None
    late = Outcome(transition=Transition.FAIL, error={"code": "late"})
    scene.ledger.requests.settle(granted.ref, late, via="poll")
    assert scene.row(granted).status is RequestStatus.SUCCEEDED
