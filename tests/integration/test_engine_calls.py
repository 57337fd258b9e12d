"""Calls of job functions side by side, on a real ledger: none holds up another, none happens twice at once."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Collection

import pytest
from job_calls import calling, one_call, waits
from job_calls import resources as resources
from ledger_scenes import DEV, OUTPUT, SUCCESS, Picture, picture_in_flight, post, spec
from picture_files import noise, saved
from prefect.exceptions import TerminationSignal
from prefect.logging import disable_run_logger
from support import wait_until

from darkroom import Inference, Job, RetryPolicy, Waiting
from darkroom.engine import calls as calling_module
from darkroom.engine.calls import SIDE_BY_SIDE
from darkroom.engine.paid_calls import PaidCalls
from darkroom.engine.resources import Resources
from darkroom.engine.signals import RetryLater
from darkroom.errors import DarkroomError, NeedsHuman, Permanent, Refused, Retry
from darkroom.ledger import JobStatus, Ledger, Outcome, Transition, Work
from darkroom.timing import UNSCALED


@pytest.fixture
def jobs(ledger: Ledger) -> list[str]:
    """As many as may be called at once, and two more. What is called does not depend on the run that carries it."""
    user_id = ledger.users.add("ann").user_id
    return [post(ledger, user_id).id for _ in range(SIDE_BY_SIDE + 2)]


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


def test_what_has_ended_is_told_from_what_goes_on(resources: Resources, ledger: Ledger, jobs: list[str]) -> None:
    """The run does not ask the ledger for the end of a job that it has put on record itself."""
    fails, waits, again, done = jobs[:4]

    def function(job: Job) -> None:
        if job.id == fails:
            raise Refused("no", code="no")
        if job.id == waits:
            raise Waiting(["something"])
        if job.id == again:
            raise RetryLater(60)

    with calling(resources, function) as (calls, _):
        calls.start(work(jobs[:4]), as_tasks=False)
        moved, ended = set[str](), set[str]()
        while moved | ended != set(jobs[:4]):
            for seen, more in zip((moved, ended), calls.take_in(), strict=True):
                seen |= more
        assert (moved, ended) == ({waits, again}, {fails, done})
    assert {job_id for job_id in jobs[:4] if ledger.jobs.get(job_id).status.terminal} == ended


def test_a_call_beside_that_fails_of_itself_fails_no_other_job(resources: Resources, jobs: list[str]) -> None:
    """Its call is settled by reconcile; the run goes on with the others."""

    def breaks() -> None:
        raise KeyError("the whole prompt")

    with calling(resources, lambda job: job._background("req_1", breaks)) as (calls, _), disable_run_logger():
        calls.start(work(jobs[:1]), as_tasks=False)
        wait_until(lambda: (calls.take_in(), not calls.busy)[1])


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


def test_results_reach_their_next_lines_while_files_of_others_are_stored(resources: Resources, jobs: list[str]) -> None:
    """A burst's results come within a second, and their files take longer than that: what follows need not wait."""
    go_on = threading.Event()
    next_lines: list[str] = []

    def picture() -> bytes:
        assert go_on.wait(20)
        return saved(noise())

    def function(job: Job) -> None:
        next_lines.append(job.id)
        job.make("final", picture)

    with calling(resources, function) as (calls, listener):
        while len(next_lines) < len(jobs):
            calls.start(work(jobs, came=jobs), as_tasks=False)
            assert listener.wait(20)
        go_on.set()
        wait_until(lambda: (calls.take_in(), not calls.busy)[1])
    assert Counter(next_lines) == dict.fromkeys(jobs, 1)
    assert {status(resources, job_id) for job_id in jobs} == {"completed"}


def test_what_a_gateway_has_sent_is_called_when_its_result_is_there(resources: Resources, jobs: list[str]) -> None:
    """One call takes note of both. What lasts longer than a moment is called before, to be shown as running."""
    soon, late, unsent = jobs[:3]
    called: list[str] = []

    def found(ready: list[str], *, came: Collection[str] = (), sent: Collection[str]) -> Work:
        return Work(open=tuple(ready), ready=tuple(ready), came=frozenset(came), sent=frozenset(sent))

    with calling(resources, lambda job: called.append(job.id)) as (calls, _):
        calls.start(found([unsent, soon, late], sent=[soon, late]), as_tasks=False)
        wait_until(lambda: (calls.take_in(), called)[1] == [unsent])
        assert calls.busy and 0.5 < calls.next_due <= UNSCALED.sent_shown.total_seconds(), "the run stays for them"
        calls.start(found([soon, late], came=[soon], sent=[late]), as_tasks=False)
        wait_until(lambda: (calls.take_in(), called)[1] == [unsent, soon])
        again = found([late], sent=[late])
        wait_until(lambda: (calls.start(again, as_tasks=False), called)[1] == [unsent, soon, late])


def test_a_success_that_came_late_is_used_though_another_attempt_followed_it(
    resources: Resources, ledger: Ledger
) -> None:
    """The first attempt was given up and the second failed; then the first one's result came, and it is paid."""
    picture = picture_in_flight(ledger, ledger.users.add("ann").user_id)
    picture.settle(Outcome(transition=Transition.EXPIRE))
    second = ledger.requests.reserve_all(picture.job_id, [spec(attempt=2)])[0]
    ledger.requests.settle(second.ref, Outcome(transition=Transition.FAIL, error={"class": "permanent"}), via="webhook")
    ledger.jobs.finish(picture.job_id, JobStatus.FAILED)
    picture.settle(SUCCESS)
    ledger.jobs.replay(picture.job_id)
    (record,) = ledger.jobs.take_up([picture.job_id])
    inference = Job(record, resources, as_tasks=False).infer(DEV, {"prompt": "a fox"}, step="generate")
    assert (inference.ref, inference.output) == (picture.ref, OUTPUT)


def failed(kind: str) -> Outcome:
    return Outcome(transition=Transition.FAIL, error={"class": kind, "message": "No."})


def infer(resources: Resources, picture: Picture, retry: RetryPolicy) -> Inference:
    return one_call(picture.job_id, resources).infer(DEV, {"prompt": "a fox"}, step="generate", retry=retry)


@pytest.mark.parametrize(
    ("ending", "retry", "error"),
    [
        (failed("permanent"), RetryPolicy(), Permanent),
        (failed("retry"), RetryPolicy(attempts=1), Retry),
        (Outcome(transition=Transition.EXPIRE), RetryPolicy(resubmit_expired=False), NeedsHuman),
    ],
    ids=["for good", "the last attempt", "perhaps paid"],
)
def test_what_is_not_to_be_tried_again_gets_no_other_attempt(
    resources: Resources, ledger: Ledger, ending: Outcome, retry: RetryPolicy, error: type[DarkroomError]
) -> None:
    """Each is a paid call of its own."""
    picture = picture_in_flight(ledger, ledger.users.add("ann").user_id)
    picture.settle(ending)
    with pytest.raises(error):
        infer(resources, picture, retry)
    assert [row.attempt for row in ledger.requests.of_job(picture.job_id)] == [1]


def test_a_replay_has_all_attempts_of_a_step_anew(resources: Resources, ledger: Ledger) -> None:
    """Those before it have failed by what was mended since."""
    picture = picture_in_flight(ledger, ledger.users.add("ann").user_id)
    picture.settle(failed("retry"))
    ledger.jobs.finish(picture.job_id, JobStatus.FAILED)
    ledger.jobs.replay(picture.job_id)
    ledger.requests.settle(ledger.requests.of_job(picture.job_id)[-1].ref, failed("retry"), via="webhook")
    waits(lambda: infer(resources, picture, RetryPolicy(attempts=2)))
    assert [row.attempt for row in ledger.requests.of_job(picture.job_id)] == [1, 2, 3]


def test_a_process_that_gets_sigterm_begins_no_more_paid_calls(
    resources: Resources, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under any worker: what is under way is waited for; what it would still pay for is left to the next process."""
    paid_calls, begun, refused = PaidCalls(), threading.Event(), threading.Event()
    monkeypatch.setattr(calling_module, "PAID_CALLS", paid_calls)

    def is_refused() -> bool:
        try:
            with paid_calls.one():
                begun.set()
                return False
        except Retry:
            return True

    def function(job: Job) -> None:
        wait_until(is_refused)
        refused.set()

    with pytest.raises(TerminationSignal), calling(resources, function) as (calls, _):
        calls.start(work(jobs[:1]), as_tasks=False)
        assert begun.wait(20), "until it is told to end, it pays"
        raise TerminationSignal(signal.SIGTERM)  # as Prefect's engine does, in the thread of the runner
    assert refused.is_set()
