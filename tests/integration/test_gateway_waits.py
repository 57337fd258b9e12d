"""What jobs wait for, over HTTP: seen, ended and extended by hand; and runs that sleep woken in time by the gateway."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from gateway_and_prefect import gateway as gateway
from implying import assigned, creations
from running_gateway import (
    Customer,
    RecordingPrefect,
    RunningGateway,
)
from support import wait_until

from darkroom.clock import utc_now
from darkroom.deployments.cli.waits import duration
from darkroom.errors import BadInput
from darkroom.ledger import WAIT, Job, JobStatus, Ledger, Wait

DAY = timedelta(days=1)


@pytest.fixture
def ann(gateway: RunningGateway, ledger: Ledger) -> Customer:
    return gateway.as_user(ledger.users.add("ann", plan="studio"))


@pytest.fixture
def job(ann: Customer, ledger: Ledger) -> Job:
    """Ann's, in the hands of a run."""
    return job_in_a_run(ledger, next(user.id for user in ledger.users.all() if user.name == "ann"))


def job_in_a_run(ledger: Ledger, user_id: str) -> Job:
    posted = ledger.jobs.post(user_id=user_id, kind="onboard-user", parameters={}).job
    (start,) = creations(ledger.runs.assign(posted.id))
    ledger.runs.created(start.run_id, uuid4())
    job = ledger.jobs.get(posted.id)
    assert job is not None
    return job


def asleep(ledger: Ledger, job: Job, *, seconds: float = 86_400) -> Wait:
    """Its run has left for it."""
    wait = ledger.waits.sleep(job, "sleep-1", until=utc_now() + timedelta(seconds=seconds))
    leave(ledger, job, wait)
    return wait


def leave(ledger: Ledger, job: Job, wait: Wait) -> None:
    assert job.run_id is not None
    assert ledger.runs.on_suspended(job.run_id, {job.id: {WAIT + wait.id}})


def was_woken(prefect_calls: RecordingPrefect, job: Job, ledger: Ledger) -> None:
    """Prefect was told to resume the job's run."""
    flow_run_id = ledger.runs.flow_run_of(job.id)
    wait_until(
        lambda: any(
            str(flow_run_id) in related["prefect.resource.id"]
            for events in prefect_calls.bodies("/events$")
            for event in events
            for related in event["related"]
        ),
        timeout=10,
        what="the wake",
    )


def test_a_job_tells_what_it_waits_for_and_what_it_has_done(ann: Customer, ledger: Ledger, job: Job) -> None:
    """Each wait with its step, and the sentence of `waiting_for` with the id by which it is ended."""
    wait = asleep(ledger, job)
    ledger.steps.begin(job.id, "charge")
    ledger.steps.done(job.id, "charge", {"secret": "of the other side"})
    document = ann.get(f"/v1/jobs/{job.id}").json()
    (shown,) = document["waits"]
    assert (shown["id"], shown["step"], shown["kind"], shown["status"]) == (wait.id, "sleep-1", "sleep", "open")
    assert datetime.fromisoformat(shown["until"]) == wait.until
    assert wait.id in document["waiting_for"]
    (step,) = document["steps"]
    assert (step["name"], step["attempts"]) == ("charge", 1) and step["done_at"] is not None
    assert "secret" not in str(document)


def test_a_wait_is_ended_by_hand_and_its_run_is_woken(
    ann: Customer, ledger: Ledger, job: Job, prefect_calls: RecordingPrefect
) -> None:
    """Once: what is over is not ended again."""
    wait = asleep(ledger, job)
    answer = ann.post(f"/v1/waits/{wait.id}/wake")
    assert answer.status_code == 200
    assert (answer.json()["state"], answer.json()["settled_by"]) == ("timed_out", "hand")
    assert answer.json()["status"] == "over"  # the word of 0.1
    was_woken(prefect_calls, job, ledger)
    assert ann.post(f"/v1/waits/{wait.id}/wake").status_code == 409


def extend(who: Customer, wait: Wait, until: object) -> httpx.Response:
    return who.post(f"/v1/waits/{wait.id}/extend", json={"until": until})


def test_a_wait_is_given_another_time(ann: Customer, ledger: Ledger, job: Job, prefect_calls: RecordingPrefect) -> None:
    """Its run is told: how long it may stay suspended is of before."""
    wait = asleep(ledger, job)
    later = utc_now() + 30 * DAY
    answer = extend(ann, wait, later.isoformat())
    assert answer.status_code == 200 and datetime.fromisoformat(answer.json()["until"]) == later
    was_woken(prefect_calls, job, ledger)


@pytest.mark.parametrize("until", ["soon", "2030-01-01T12:00:00", "9999-01-01T00:00:00Z", None])
def test_a_time_that_nobody_can_mean_is_refused_with_its_field(
    ann: Customer, ledger: Ledger, job: Job, until: object
) -> None:
    answer = extend(ann, asleep(ledger, job), until)
    assert (answer.status_code, answer.json()["field"]) == (422, "until")


def test_another_users_wait_is_not_there(gateway: RunningGateway, ann: Customer, ledger: Ledger, job: Job) -> None:
    """Neither seen, ended nor extended; nor is one that does not exist."""
    bob = gateway.as_user(ledger.users.add("bob"))
    wait = asleep(ledger, job)
    assert bob.get(f"/v1/waits/{wait.id}").status_code == 404
    assert bob.post(f"/v1/waits/{wait.id}/wake").status_code == 404
    assert extend(bob, wait, (utc_now() + DAY).isoformat()).status_code == 404
    assert ann.post("/v1/waits/wait_nonesuch/wake").status_code == 404
    assert ann.get(f"/v1/waits/{wait.id}").json()["status"] == "open"


def test_a_wait_for_another_job_lasts_as_long_as_that(ann: Customer, ledger: Ledger, job: Job) -> None:
    """Its end is that job's, which is named."""
    wait, _ = ledger.waits.for_child(job, "picture", kind="generate-image", parameters={"prompt": "a fox"})
    answer = ann.post(f"/v1/waits/{wait.id}/wake")
    assert answer.status_code == 409 and str(wait.child_job_id) in answer.json()["detail"]


def test_a_run_is_woken_when_the_time_of_its_wait_has_come(
    ann: Customer, ledger: Ledger, job: Job, prefect_calls: RecordingPrefect
) -> None:
    """By the gateway: there is no process of it, and reconcile comes every minute only."""
    asleep(ledger, job, seconds=0.5)
    was_woken(prefect_calls, job, ledger)


def test_a_cancelled_job_that_only_waits_ends_at_once_and_so_does_its_child(
    ann: Customer, ledger: Ledger, job: Job, prefect_calls: RecordingPrefect
) -> None:
    """Its run is told, and closes."""
    wait, implied = ledger.waits.for_child(job, "picture", kind="generate-image", parameters={"prompt": "a fox"})
    leave(ledger, job, wait)
    answer = ann.post(f"/v1/jobs/{job.id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    was_woken(prefect_calls, job, ledger)
    (child_id,) = assigned(implied)

    def child_has_ended() -> bool:
        child = ledger.jobs.get(child_id)
        return child is not None and child.status is JobStatus.CANCELLED

    wait_until(child_has_ended, timeout=10, what="the end of the child")
    assert [each["state"] for each in ann.get(f"/v1/jobs/{job.id}").json()["waits"]] == ["cancelled"]


@pytest.mark.parametrize(
    ("text", "meant"), [("2d", 2 * DAY), ("1h30m", timedelta(minutes=90)), ("90 s", timedelta(seconds=90))]
)
def test_a_duration_is_written_as_people_do(text: str, meant: timedelta) -> None:
    assert duration(text) == meant


@pytest.mark.parametrize("text", ["", "2", "d", "2d and more", "-2d", "99999999999999w"])
def test_what_is_no_duration_is_told(text: str) -> None:
    with pytest.raises(BadInput, match=r"no duration|hundred years"):
        duration(text)
