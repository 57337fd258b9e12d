"""Durable steps of a job function, on a real ledger: what is on record is not done again, and keeps its name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from job_calls import COMPLETED, DAY, Call, called, calling, one_call, resources_with, waits
from job_calls import call as call
from job_calls import resources as resources
from job_calls import row as row

from darkroom import Job
from darkroom.engine.resources import Resources
from darkroom.engine.side_effects import TRIES, StepRetry
from darkroom.engine.signals import Cancelled, RetryLater
from darkroom.errors import BadInput, DarkroomError, Park, Permanent, Retry
from darkroom.ledger import Job as JobRow
from darkroom.ledger import Ledger

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def _raised_here(kind: str, function: Callable[..., object]) -> str:
    return f"{kind} in {Path(__file__).name}, line {function.__code__.co_firstlineno + 1}"


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


@pytest.mark.parametrize(
    "error",
    [
        *(Retry("busy"), Park("out"), ConnectionError("reset"), httpx.ReadTimeout("slow")),
        psycopg.OperationalError("a database of the step's own is out"),
    ],
)
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
    child = f"import test_engine_durable_steps as here; here.die_in_the_pause({ledger_url!r}, {row.id!r}, {policy!r})"
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


def test_a_job_whose_step_fails_names_it_in_its_error(resources: Resources, ledger: Ledger, row: JobRow) -> None:
    def function(job: Job) -> None:
        job.step("charge", lambda: 1 / 0)

    with calling(resources, function) as (calls, _):
        called(calls, row.id)
    job = ledger.jobs.get(row.id)
    assert job is not None and job.error is not None
    assert (job.status, job.error["step"]) == ("failed", "charge")
    assert job.error["message"].startswith(f"ZeroDivisionError in {Path(__file__).name}, line ")
