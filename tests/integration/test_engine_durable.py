"""Durable steps of a job function, on a real ledger: what is on record is not done again, what is open is waited for.

A call here is one call from the function's top, as the runner makes it again and again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from implying import assigned, creations
from support import wait_until

from darkroom import ForEvent, Job, Sleep, Waiting
from darkroom.clock import utc_now
from darkroom.engine.calls import Calls
from darkroom.engine.resources import Resources
from darkroom.engine.side_effects import TRIES, StepRetry
from darkroom.engine.signals import Cancelled, RetryLater
from darkroom.engine.ui.report import Reports
from darkroom.errors import BadInput, DarkroomError, NeedsHuman, Park, Permanent, Retry
from darkroom.events import EventIngest, Sender
from darkroom.ledger import WAIT, EffectKind, JobStatus, Ledger, WaitStatus, Work
from darkroom.ledger import Job as JobRow
from darkroom.media.store import MediaStore, make_store_block
from darkroom.orchestrator import Orchestrator, Parameters
from darkroom.orchestrator.api import PrefectApi
from darkroom.orchestrator.dispatch import Dispatcher
from darkroom.providers.registry import Providers
from darkroom.settings import Settings

NOWHERE = "http://127.0.0.1:9"
SIGNED_UP = {"account": "a-1", "email": "ann@example.org"}
COMPLETED = "user.profile_completed"
DAY = timedelta(days=1)
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


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
    with ExitStack() as opened:
        orchestrator = opened.enter_context(Prefect(PrefectApi(NOWHERE)))
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


Call = Callable[..., Job]


def send(ledger: Ledger, row: JobRow, name: str = COMPLETED, **data: Any) -> str:
    sender = Sender(source="test", owner_id=row.user_id, user_id=row.user_id)
    (taken,), _ = EventIngest(ledger).take(sender, [{"name": name, "data": {"account": "a-1"} | data}])
    assert taken.problem is None
    return taken.id


def _raised_here(kind: str, function: Callable[..., object]) -> str:
    return f"{kind} in test_engine_durable.py, line {function.__code__.co_firstlineno + 1}"


def waits(saying: Callable[[], object]) -> Waiting:
    with pytest.raises(Waiting) as caught:
        saying()
    return caught.value


# -- names -----------------------------------------------------------------------------------------------------------


def test_steps_without_a_name_have_the_same_one_in_every_call(call: Call, ledger: Ledger, row: JobRow) -> None:
    """By kind, and by their order in the call."""

    def function(job: Job) -> None:
        job.sleep(timedelta(0))
        job.wait_for_event(COMPLETED, timeout=timedelta(0))
        job.sleep_until(datetime(2020, 1, 1, tzinfo=UTC))
        job.sleep(DAY)

    for _ in range(3):
        waits(lambda: function(call()))
    assert [wait.name for wait in ledger.waits.of_job(row.id)] == ["sleep-1", "wait_for_event-1", "sleep-2", "sleep-3"]


def test_a_name_that_is_used_twice_in_a_call_is_an_error_that_says_so(call: Call) -> None:
    """Whatever kinds of steps they are; in two calls it is one step."""
    for _ in range(2):
        job = call()
        assert job.step("charge", lambda: 1) == 1
        with pytest.raises(Permanent, match="Two steps of the job are named 'charge'"):
            job.sleep(DAY, step="charge")


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb"])
def test_a_name_that_cannot_be_shown_is_refused(call: Call, name: str) -> None:
    with pytest.raises(BadInput, match="name"):
        call().step(name, lambda: 1)


# -- side effects ----------------------------------------------------------------------------------------------------


class _Killed(BaseException):
    """The process ends here."""


def test_a_step_is_carried_out_once_and_gives_its_result_ever_after(call: Call) -> None:
    """As JSON, also in the call that carried it out."""
    done: list[str] = []

    def charge(key: str) -> dict[str, Any]:
        done.append(key)
        return {"charge": "ch_1", "lines": (1, 2)}

    results = [call().step("charge", charge) for _ in range(3)]
    assert results == [{"charge": "ch_1", "lines": [1, 2]}] * 3
    assert len(done) == 1


def test_what_was_begun_and_never_ended_is_done_again_with_the_same_key(
    call: Call, row: JobRow, ledger: Ledger
) -> None:
    """Its process died: nobody knows whether it happened, and the other side knows it by the key."""
    keys: list[str] = []

    def charge(key: str) -> None:
        keys.append(key)
        if len(keys) == 1:
            raise _Killed

    with pytest.raises(_Killed):
        call().step("charge", charge)
    call().step("charge", charge)
    assert keys == [f"{row.id}/charge"] * 2
    step = ledger.steps.get(row.id, "charge")
    assert step is not None and step.attempts == 2 and step.done_at is not None


def test_who_takes_no_key_is_given_none(call: Call) -> None:
    """A value that it brings along is its own."""
    job = call()
    assert job.step("plain", lambda: "plain") == "plain"
    assert job.step("bound", lambda n=7: n) == 7


@pytest.mark.parametrize("error", [Retry("busy"), Park("out"), ConnectionError("reset"), httpx.ReadTimeout("slow")])
def test_what_may_pass_is_tried_again_later_and_fails_the_job_in_the_end(
    row: JobRow, ledger_url: str, error: Exception
) -> None:
    """No thread sleeps meanwhile. Five times, and where nobody is there as often as that is worth it."""

    def fail() -> None:
        raise error

    moved = [NOON]
    with closing(Ledger(ledger_url, clock=lambda: moved[0])) as ledger, resources_with(ledger) as resources:
        tries = len(resources.timing.file_out_again) + 1 if isinstance(error, Park) else TRIES
        for _ in range(tries - 1):
            with pytest.raises(RetryLater):
                one_call(row.id, resources).step("charge", fail)
            moved[0] += DAY
        with pytest.raises(DarkroomError) as caught:
            one_call(row.id, resources).step("charge", fail)
    assert caught.value.step == "charge"


POLICIES = {"none": None, "its own": StepRetry(attempts=3, first=timedelta(0), longest=timedelta(0))}


def die_in_the_pause(ledger_url: str, job_id: str, policy: str) -> None:
    """Fail a step, and be killed before the next attempt is due."""
    with closing(Ledger(ledger_url, clock=lambda: NOON)) as ledger, resources_with(ledger) as resources:
        try:
            one_call(job_id, resources).step("charge", be_busy, retry=POLICIES[policy])
        except RetryLater:
            os.kill(os.getpid(), signal.SIGKILL)


def be_busy() -> None:
    raise Retry("busy", retry_after=timedelta(seconds=4))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_short_pause_and_the_attempts_before_it_outlive_a_killed_process(
    row: JobRow, ledger_url: str, policy: str
) -> None:
    """Whoever calls the job next waits for the rest of the pause, and counts on."""
    child = f"import test_engine_durable as here; here.die_in_the_pause({ledger_url!r}, {row.id!r}, {policy!r})"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", child], env=environment).returncode == -signal.SIGKILL
    retry, moved = POLICIES[policy], [NOON + timedelta(seconds=1)]
    with closing(Ledger(ledger_url, clock=lambda: moved[0])) as ledger, resources_with(ledger) as resources:
        with pytest.raises(RetryLater) as early:
            one_call(row.id, resources).step("charge", be_busy, retry=retry)
        step = ledger.steps.get(row.id, "charge")
        assert step is not None and (step.attempts, early.value.seconds >= 3) == (1, True)
        left = (TRIES if retry is None else retry.attempts) - 1
        for expected in [RetryLater] * (left - 1) + [Retry]:
            moved[0] += DAY
            with pytest.raises(expected):
                one_call(row.id, resources).step("charge", be_busy, retry=retry)


def test_a_step_waits_as_long_as_it_is_told_to(call: Call) -> None:
    """By the other side's Retry-After, before it is tried again."""

    def fail() -> None:
        raise Retry("busy", retry_after=timedelta(seconds=30))

    with pytest.raises(RetryLater) as caught:
        call().step("charge", fail)
    assert caught.value.seconds >= 30


class _Busy(Exception):
    """An error of the step's own."""


def test_a_policy_counts_the_attempts_on_record_and_not_those_of_a_process(
    call: Call, row: JobRow, ledger: Ledger
) -> None:
    """One whose process died is one of them; after the last the job fails. A person who replays it has all again."""
    policy = StepRetry(attempts=3, first=timedelta(0), longest=timedelta(0))
    outcomes: list[BaseException] = [Retry("busy"), _Killed(), ConnectionError("reset")]

    def fail() -> None:
        raise outcomes.pop(0)

    for expected in (RetryLater, _Killed, Retry):
        with pytest.raises(expected):
            call(failures=0).step("charge", fail, retry=policy)
    step = ledger.steps.get(row.id, "charge")
    assert step is not None and (step.attempts, step.error and step.error["code"]) == (3, "unreachable")
    outcomes += [Retry("busy")] * 3
    for expected in (RetryLater, RetryLater, Retry):
        with pytest.raises(expected):
            call(failures=1000).step("charge", fail, retry=policy)
    assert call().step("charge", lambda: "ch_1", retry=policy) == "ch_1"


def test_a_policy_says_what_is_worth_another_attempt(call: Call) -> None:
    """By class, the step's own exceptions too; anything else fails the job at once."""
    policy = StepRetry(attempts=2, first=timedelta(0), longest=timedelta(0), on=(_Busy, Park))

    def fail(error: Exception) -> None:
        raise error

    for n, error in enumerate([_Busy(), Park("out")]):
        with pytest.raises(RetryLater):
            call().step(f"worth-{n}", lambda error=error: fail(error), retry=policy)
    for n, error in enumerate([Retry("busy"), Permanent("declined"), ValueError()]):
        with pytest.raises(DarkroomError):
            call().step(f"not-{n}", lambda error=error: fail(error), retry=policy)
    with pytest.raises(BadInput, match="attempts"):
        StepRetry(attempts=0)
    with pytest.raises(BadInput, match="longest"):
        StepRetry(first=DAY, longest=timedelta(hours=1))


def test_a_long_pause_is_a_wait_that_outlives_the_process(
    call: Call, row: JobRow, ledger: Ledger, resources: Resources
) -> None:
    """With its time on record: nothing is tried before, whoever calls the job; and a person may end it."""
    policy = StepRetry(attempts=2, first=DAY, longest=DAY)
    tried: list[str] = []

    def fail(key: str) -> None:
        tried.append(key)
        raise Retry("busy", retry_after=timedelta(hours=1))

    waiting = waits(lambda: call().step("charge", fail, retry=policy))
    assert waiting.due is not None and waiting.due - resources.clock() > timedelta(minutes=59)
    for _ in range(2):
        assert waits(lambda: call().step("charge", fail, retry=policy)).due == waiting.due
    assert len(tried) == 1
    (wait,) = ledger.waits.of_job(row.id)
    assert wait.name == "charge: try 2"
    ledger.waits.wake(wait.id)
    with pytest.raises(Retry):
        call().step("charge", fail, retry=policy)
    assert len(tried) == 2


def test_any_other_failure_names_the_step_and_none_of_the_data(call: Call, row: JobRow, ledger: Ledger) -> None:
    """It is on record with the step, too."""

    def decline() -> None:
        raise Permanent("The card was declined.", code="declined")

    def stumble() -> None:
        raise KeyError("ann@example.org")

    job = call()
    with pytest.raises(Permanent) as declined:
        job.step("charge", decline)
    with pytest.raises(Permanent) as stumbled:
        job.step("confirm", stumble)
    assert (declined.value.step, declined.value.code) == ("charge", "declined")
    assert (stumbled.value.step, stumbled.value.message) == ("confirm", _raised_here("KeyError", stumble))
    assert [step.error and step.error["code"] for step in ledger.steps.of_job(row.id)] == ["declined", "step_failed"]


@pytest.mark.parametrize("result", [object(), float("nan"), {1, 2}, "x" * 300_000])
def test_a_result_that_cannot_be_kept_fails_the_job_and_says_that_it_happened(call: Call, result: object) -> None:
    with pytest.raises(Permanent, match="It was carried out, but what it returned is"):
        call().step("charge", lambda: result)


def test_a_cancelled_job_does_nothing_more(call: Call, row: JobRow, ledger: Ledger) -> None:
    """Also where it is cancelled while its function is called: nothing is begun for it, and no child started."""
    job = call()
    ledger.jobs.cancel(row.id)
    with pytest.raises(Cancelled):
        job.sleep(DAY)
    with pytest.raises(Cancelled):
        job.wait_for_event(COMPLETED)
    with pytest.raises(Cancelled):
        job.invoke("generate-image", prompt="a fox")
    assert ledger.waits.of_job(row.id) == []
    assert [each.id for each in ledger.jobs.page(row.user_id, limit=5)] == [row.id]


# -- time and events -------------------------------------------------------------------------------------------------


def test_a_sleep_counts_from_the_moment_it_was_first_come_to(call: Call, ledger: Ledger, row: JobRow) -> None:
    """Nothing is expected meanwhile, so no process need stay for it."""
    first = waits(lambda: call().sleep(DAY))
    again = waits(lambda: call().sleep(DAY))
    (wait,) = ledger.waits.of_job(row.id)
    assert first.due == again.due == wait.until
    assert (first.refs, first.expected) == ({WAIT + wait.id}, False)
    ledger.waits.wake(wait.id)
    call().sleep(DAY)


@pytest.mark.parametrize("duration", [timedelta(days=366 * 101), timedelta.max])
def test_a_sleep_that_nobody_can_mean_is_refused(call: Call, duration: timedelta) -> None:
    with pytest.raises(BadInput, match="hundred years"):
        call().sleep(duration)
    with pytest.raises(BadInput, match="time zone"):
        call().sleep_until(datetime(2030, 1, 1))  # noqa: DTZ001


def test_an_event_is_found_back_to_the_start_of_the_job(call: Call, ledger: Ledger, row: JobRow) -> None:
    """The first that matches, by any way to say what matches."""
    send(ledger, row, account="b-2")
    event_id = send(ledger, row)
    for match in ({"account": "a-1"}, "event.data.account == 'a-1'"):
        found = call().wait_for_event(COMPLETED, match=match, timeout=DAY, step="completed")
        assert found is not None
        assert (found.id, found.name, found.data) == (event_id, COMPLETED, {"account": "a-1"})


def test_an_event_that_comes_later_wakes_it_and_one_that_does_not_is_none(
    call: Call, ledger: Ledger, row: JobRow
) -> None:
    def say() -> object:
        return call().wait_for_event(COMPLETED, timeout=DAY, step="completed")

    waits(say)
    event_id = send(ledger, row)
    found = say()
    assert getattr(found, "id", None) == event_id
    assert call().wait_for_event("order.placed", timeout=timedelta(0)) is None


def test_each_wait_of_a_job_takes_an_event_of_its_own(call: Call, ledger: Ledger, row: JobRow) -> None:
    """In the order in which they came: a job can follow what happens, one after the other."""
    sent = [send(ledger, row) for _ in range(2)]

    def follow() -> list[str]:
        job, found = call(), []
        while (event := job.wait_for_event(COMPLETED, timeout=DAY)) is not None:
            found.append(event.id)
        return found

    waits(follow)
    *taken, last = ledger.waits.of_job(row.id)
    assert [wait.event_id for wait in taken] == sent
    assert last.status == WaitStatus.OPEN


def test_the_event_that_started_a_job_is_not_one_it_waits_for(
    call: Call, ledger: Ledger, row: JobRow, resources: Resources
) -> None:
    """Or a flow that an order starts could not wait for the next one."""
    from darkroom.ledger import EventStart, NewEvent

    start = EventStart(deployment="process-order/on-demand")
    event = NewEvent(name="order.placed", user_id=row.user_id, owner_id=row.user_id, data={}, starts=[start])
    _, implied = ledger.events.receive("test", [event], matches=lambda *_: True)
    (record,) = ledger.jobs.take_up(assigned(implied))
    waits(lambda: Job(record, resources, as_tasks=False).wait_for_event("order.placed"))


@pytest.mark.parametrize(
    "value", ["it's", 'say "x"', "a\\b", "a\nb\u2028c\x01", "' || true || '", "🦊", "", True, None, 7, -1.5]
)
def test_what_a_user_typed_is_compared_and_never_read_as_a_condition(value: Any) -> None:
    from darkroom.engine.conditions import as_text
    from darkroom.events import matches

    text = as_text({"field": value})
    assert text is not None
    assert matches(text, {"field": value}) is True
    assert matches(text, {"field": "another"}) is not True


@pytest.mark.parametrize("match", ["event.data.", "account == 'a'", {"a b": 1}, {"account": ["a"]}, {"a": 2**70}])
def test_a_condition_that_cannot_be_read_is_refused_at_once(call: Call, match: Any) -> None:
    """It would be waited for in vain. So would an event that nobody can send."""
    with pytest.raises(BadInput) as caught:
        call().wait_for_event(COMPLETED, match=match)
    assert (caught.value.field, caught.value.step) == ("match", None)
    with pytest.raises(BadInput, match="registered"):
        call().wait_for_event("user.profile_compleeted")


# -- one of several --------------------------------------------------------------------------------------------------

EITHER: Mapping[str, Sleep | ForEvent] = {"done": ForEvent(COMPLETED), "late": Sleep(DAY)}


def test_the_first_of_several_is_the_one_for_ever(call: Call, ledger: Ledger, row: JobRow) -> None:
    """The others have passed: their time wakes nobody, and a later wait may take their event."""
    waiting = waits(lambda: call().wait_any(EITHER))
    by_name = {wait.name: wait for wait in ledger.waits.of_job(row.id)}
    assert waiting.due == by_name["wait_any-1:late"].until
    assert waiting.refs == {WAIT + wait.id for wait in by_name.values()}
    ledger.waits.wake(by_name["wait_any-1:late"].id)
    event_id = send(ledger, row)
    for _ in range(2):
        job = call()
        assert job.wait_any(EITHER) == ("late", None)
        found = job.wait_for_event(COMPLETED)
        assert found is not None and found.id == event_id
    assert ledger.waits.take(by_name["wait_any-1:done"].id).status == WaitStatus.SUPERSEDED


def test_an_event_before_the_time_is_the_one_of_several(call: Call, ledger: Ledger, row: JobRow) -> None:
    """With what it brought, and the time over or not."""
    event_id = send(ledger, row)
    key, event = call().wait_any({"late": Sleep(timedelta(milliseconds=1)), "done": ForEvent(COMPLETED)})
    assert key == "done" and event is not None and event.id == event_id


def test_nothing_to_wait_for_is_refused(call: Call) -> None:
    with pytest.raises(BadInput, match="at least one"):
        call().wait_any({})


# -- events out, and other jobs --------------------------------------------------------------------------------------


def test_an_event_is_sent_once_about_the_jobs_user(call: Call, ledger: Ledger, row: JobRow) -> None:
    """The job itself may wait for it."""
    ids = {call().send_event("user.signed_up", SIGNED_UP) for _ in range(2)}
    (event_id,) = ids
    event = ledger.events.get(event_id)
    assert event is not None and event.user_id == row.user_id
    found = call().wait_for_event("user.signed_up")
    assert found is not None and found.id == event_id
    with pytest.raises(BadInput) as caught:
        call().send_event("user.signed_up", {"account": "a-1"}, step="wrong")
    assert (caught.value.field, caught.value.step) == ("data.email", "wrong")


def child_of(ledger: Ledger, row: JobRow) -> str:
    (wait,) = ledger.waits.of_job(row.id)
    assert wait.child_job_id is not None
    return wait.child_job_id


def test_a_child_is_started_once_and_gives_its_result(call: Call, ledger: Ledger, row: JobRow) -> None:
    """As a job of the same user; its end may come any moment, so it is worth a process for a while."""

    def invoke() -> Any:
        return call().invoke("generate-image", prompt="a fox")

    assert waits(invoke).expected
    waits(invoke)
    child = ledger.jobs.get(child_of(ledger, row))
    assert child is not None and (child.kind, child.user_id) == ("generate-image", row.user_id)
    assert child.parameters == {"prompt": "a fox"}
    ledger.jobs.finish(child.id, JobStatus.COMPLETED, result={"seed": 7})
    invoked = invoke()
    assert (invoked.job_id, invoked.result, invoked.assets) == (child.id, {"seed": 7}, ())


@pytest.mark.parametrize("end", [JobStatus.FAILED, JobStatus.CANCELLED])
def test_a_childs_failure_is_raised_and_names_it(call: Call, ledger: Ledger, row: JobRow, end: JobStatus) -> None:
    """Its words, its id, and the step of the parent."""

    def invoke() -> object:
        return call().invoke("generate-image/on-demand", step="picture", prompt="a fox")

    waits(invoke)
    child = child_of(ledger, row)
    error = {"code": "refused", "class": "permanent", "message": "Not that."} if end is JobStatus.FAILED else None
    ledger.jobs.finish(child, end, error=error)
    with pytest.raises(Permanent) as caught:
        invoke()
    assert child in caught.value.message and end.value in caught.value.message
    assert ("Not that." in caught.value.message) is (error is not None)
    assert (caught.value.step, caught.value.code) == ("picture", f"child_{end}")


def test_children_side_by_side_are_so_many_at_a_time(call: Call, ledger: Ledger, row: JobRow) -> None:
    """The next starts where one has ended; what came of them is in their order, a failure beside the others."""
    heard: list[int] = []
    prompts = [{"prompt": f"fox {n}"} for n in range(3)]

    def invoke_all() -> list[Any]:
        return call().invoke_all("generate-image", prompts, step="fox", at_once=2, heard=heard.append)

    def child(n: int) -> str:
        (wait,) = [wait for wait in ledger.waits.of_job(row.id) if wait.name == f"fox-{n:04}"]
        assert wait.child_job_id is not None
        return wait.child_job_id

    assert len(waits(invoke_all).refs) == len(waits(invoke_all).refs) == len(ledger.waits.of_job(row.id)) == 2
    ledger.jobs.finish(child(2), JobStatus.FAILED, error={"message": "Not that."})
    assert waits(invoke_all).refs == {WAIT + wait.id for wait in ledger.waits.of_job(row.id) if wait.status == "open"}
    ledger.jobs.finish(child(3), JobStatus.COMPLETED)
    ledger.jobs.finish(child(1), JobStatus.COMPLETED)
    first, second, third = invoke_all()
    assert [first.job_id, third.job_id] == [child(1), child(3)]
    assert isinstance(second, Permanent) and "Not that." in second.message
    assert heard == [0, 0, 1, 3]


@pytest.mark.parametrize("deployment", ["no-such-flow", "reconcile/every-minute", ""])
def test_what_cannot_be_invoked_is_told_at_once(call: Call, deployment: str) -> None:
    """A child that no run takes would be waited for without an end."""
    with pytest.raises((NeedsHuman, BadInput), match=r"deployment|invoked"):
        call().invoke(deployment)


@pytest.mark.parametrize(
    ("parameters", "field"),
    [({"prompt": "a fox", "sead": 7}, "sead"), ({"seed": 7}, "prompt"), ({"user": "eve"}, "user")],
)
def test_a_child_that_could_not_begin_is_not_started(call: Call, parameters: dict[str, Any], field: str) -> None:
    """Its parameters are held against its form; whose it is, is not for them to say."""
    with pytest.raises(BadInput) as caught:
        call().invoke("generate-image", step="picture", **parameters)
    assert (caught.value.field, caught.value.step) == (field, "picture")


# -- calls -----------------------------------------------------------------------------------------------------------


@contextmanager
def calling(resources: Resources, function: Callable[[Job], object]) -> Iterator[Calls]:
    calls = Calls(function, resources, Unheard(resources, uuid4()))
    with resources.ledger.listen("fox") as listener, calls.threads(listener):
        yield calls


def called(calls: Calls, job_id: str) -> None:
    calls.start(Work(open=(job_id,), ready=(job_id,), came=frozenset()), as_tasks=False)
    wait_until(lambda: (calls.take_in(), not calls.busy)[1])


def test_a_run_knows_when_it_is_worth_to_stay(resources: Resources, row: JobRow) -> None:
    """Not for what has its time; until then nothing is expected."""
    with calling(resources, lambda job: job.sleep(DAY)) as calls:
        called(calls, row.id)
        assert calls.sleep([row.id]) and not calls.sleep([row.id, "another"])
        assert calls.next_time is not None and calls.next_time > utc_now() + DAY / 2
    with calling(resources, lambda job: job.invoke("generate-image", prompt="a fox")) as calls:
        called(calls, row.id)
        assert not calls.sleep([row.id]) and calls.next_time is None


def test_a_job_whose_step_fails_names_it_in_its_error(resources: Resources, ledger: Ledger, row: JobRow) -> None:
    def function(job: Job) -> None:
        job.step("charge", lambda: 1 / 0)

    with calling(resources, function) as calls:
        called(calls, row.id)
    job = ledger.jobs.get(row.id)
    assert job is not None and job.error is not None
    assert (job.status, job.error["step"]) == ("failed", "charge")
    assert job.error["message"].startswith("ZeroDivisionError in test_engine_durable.py, line ")


def test_an_event_says_that_it_came_before_the_wait(call: Call, ledger: Ledger, row: JobRow) -> None:
    """On its own record, for whoever looks at what it did."""
    event_id = send(ledger, row)
    call().wait_for_event(COMPLETED)
    assert [effect.what for effect in ledger.events.effects(event_id)] == [EffectKind.WOKE]
