"""What a job function sends and starts, on a real ledger: its events, and other jobs, each once."""

from __future__ import annotations

from typing import Any

import pytest
from job_calls import Call, waits
from job_calls import call as call
from job_calls import resources as resources
from job_calls import row as row

from darkroom.errors import BadInput, NeedsHuman, Permanent
from darkroom.ledger import WAIT, JobStatus, Ledger
from darkroom.ledger import Job as JobRow

SIGNED_UP = {"account": "a-1", "email": "ann@example.org"}


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
