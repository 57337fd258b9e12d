"""The ends of jobs as events: what starts on them, who may send them, and where a loop of them ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from implying import assigned, cancelled, notified
from interleaving import all_at_once
from ledger_databases import Db
from ledger_scenes import post
from reconciling import resources_of, turn
from running_gateway import GivenBlocks, recording_prefect, running_gateway
from support import wait_until

from darkroom.events import EventIngest, Sender, ingest_ends, triggers
from darkroom.events.ingest import DEEPEST
from darkroom.ledger import JobStatus, Labels, Ledger
from darkroom.orchestrator import project_file
from darkroom.settings import Settings

DEPLOYMENTS = """
deployments:
  - {name: on-demand, entrypoint: "flows/clean_up.py:clean_up", starts_on: [
      {event: job.failed, if: "event.data.error_class == 'permanent' && 'spring' in event.data.tags",
       parameters: {of: event.data.job, cost: event.data.cost_usd}}]}
  - {name: on-demand, entrypoint: "flows/never_ending.py:never_ending", starts_on: [
      {event: job.completed, parameters: {of: event.data.job}}]}
  - {name: on-demand, entrypoint: "flows/deliver.py:deliver", cancel_on: [
      {event: order.placed, if: "event.data.total_cents == 0", match: {order: event.data.order}}]}
  - {name: slowly, entrypoint: "flows/deliver.py:deliver", starts_on: [
      {event: user.profile_completed, parameters: {order: event.data.account}}],
     flow_control: {debounce: {key: event.data.account, period: 1h}},
     cancel_on: [{event: order.placed, match: {order: event.data.order}}]}
"""
ERROR = {"class": "permanent", "code": "content_policy", "step": "generate"}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "prefect.yaml"
    file.write_text(DEPLOYMENTS)
    for module in (triggers, project_file):
        monkeypatch.setattr(module, "project_files", lambda: [file])


@pytest.fixture
def ingest(ledger: Ledger) -> Iterator[EventIngest]:
    yield EventIngest(ledger)


def failed(ledger: Ledger, ann: str, **labels: Any) -> str:
    posted = ledger.jobs.post(user_id=ann, kind="generate-image", parameters={}, labels=Labels(**labels))
    ledger.jobs.finish(posted.job.id, JobStatus.FAILED, error=ERROR)
    return posted.job.id


def jobs(db: Db, kind: str) -> list[dict[str, Any]]:
    return db.execute("SELECT id, user_id, parameters, depth FROM job WHERE kind = %s ORDER BY id", [kind]).fetchall()


def test_a_flow_starts_on_a_failure(ledger: Ledger, db: Db, ann: str, ingest: EventIngest) -> None:
    """By its class and tags, for the user whose job it was; once, also where many make events of it at once."""
    job = failed(ledger, ann, tags=["spring"])
    failed(ledger, ann, tags=["autumn"])
    found = all_at_once([lambda: ingest_ends(ledger, ingest)] * 4)
    assert any(assigned(implied) for _, implied in found)
    (started,) = jobs(db, "clean-up")
    assert (started["user_id"], started["parameters"]) == (ann, {"of": job, "cost": 0.0})
    assert ingest_ends(ledger, ingest)[0] == 0
    assert db.execute("SELECT told_at IS NOT NULL AS told FROM event").fetchall() == [{"told": True}] * 2


def test_reconcile_does_it_where_no_gateway_has(ledger: Ledger, db: Db, ann: str) -> None:
    """In its next turn."""
    failed(ledger, ann, tags=["spring"])
    turn(resources_of(ledger))
    assert len(jobs(db, "clean-up")) == 1


def test_a_job_waits_for_the_end_of_another(ledger: Ledger, ann: str, ingest: EventIngest) -> None:
    """Of the same user, also where it has ended before."""
    waiting = post(ledger, ann)
    for name, early in (("first", True), ("second", False)):
        if early:
            failed(ledger, ann)
            ingest_ends(ledger, ingest)
        given = {"event": "job.failed", "match": None, "test": lambda data: True, "until": None}
        wait = ledger.waits.for_event(waiting, name, **given)
        if not early:
            failed(ledger, ann)
            assert waiting.id in notified(ingest_ends(ledger, ingest)[1])
        wait = ledger.waits.take(wait.id)
        assert wait.status == "came"


def test_a_loop_of_ends_comes_to_its_own(ledger: Ledger, db: Db, ann: str, ingest: EventIngest) -> None:
    """Eight deep it is refused, by name of what it is; whatever else happens goes on."""
    first = post(ledger, ann)
    ledger.jobs.finish(first.id, JobStatus.COMPLETED)
    while ingest_ends(ledger, ingest)[0]:
        for job in jobs(db, "never-ending"):
            ledger.jobs.finish(job["id"], JobStatus.COMPLETED)
    assert [job["depth"] for job in jobs(db, "never-ending")] == list(range(1, DEEPEST + 1))
    refused = db.execute("SELECT name, problem FROM event WHERE status = 'refused'").fetchall()
    assert [(each["name"], each["problem"]["code"]) for each in refused] == [("job.completed", "loop")]
    ledger.jobs.finish(post(ledger, ann).id, JobStatus.COMPLETED)
    ingest_ends(ledger, ingest)
    assert len(jobs(db, "never-ending")) == DEEPEST + 1


def deliver(ledger: Ledger, user_id: str, order: str) -> str:
    return ledger.jobs.post(user_id=user_id, kind="deliver", parameters={"order": order, "how": "by hand"}).job.id


def send(ledger: Ledger, user_id: str, name: str = "order.placed", **data: Any) -> tuple[str, Any]:
    sender = Sender(source=user_id, owner_id=user_id, user_id=user_id)
    (taken,), implied = EventIngest(ledger).take(sender, [{"name": name, "data": data}])
    assert taken.problem is None, taken.problem
    return taken.id, implied


def test_an_event_cancels_the_jobs_that_it_matches(ledger: Ledger, ann: str) -> None:
    """Those of its user and deployment that are not over; it says which, and why it cancels none."""
    first, second, over = (deliver(ledger, ann, order) for order in ("o-1", "o-2", "o-1"))
    deliver(ledger, ledger.users.add("bob").user_id, "o-1")
    ledger.jobs.finish(over, JobStatus.COMPLETED)
    id, implied = send(ledger, ann, order="o-1", total_cents=0)
    assert cancelled(implied) == (first,)
    told = [(each.what, each.deployment, each.job_id) for each in ledger.events.effects(id)]
    assert told == [
        ("cancels", "deliver/on-demand", None),
        ("cancelled", "deliver/on-demand", first),
        ("cancels", "deliver/slowly", None),
    ]
    id, implied = send(ledger, ann, order="o-2", total_cents=5)
    assert cancelled(implied) == () and ledger.events.effects(id)[0].what == "not_cancelled"
    job = ledger.jobs.get(second)
    assert job is not None and job.cancel_requested_at is None


def test_a_cancel_is_done_by_reconcile_where_it_was_not(ledger: Ledger, ann: str) -> None:
    """Whoever took the event may have died; a job that was put back since then stays."""
    job_id = deliver(ledger, ann, "o-1")
    send(ledger, ann, order="o-1", total_cents=0)
    turn(resources_of(ledger))
    job = ledger.jobs.get(job_id)
    assert job is not None and job.status is JobStatus.CANCELLED
    ledger.jobs.replay(job_id)
    turn(resources_of(ledger))
    job = ledger.jobs.get(job_id)
    assert job is not None and job.status is JobStatus.PENDING


def test_what_is_pending_is_dropped_when_its_turn_comes(ledger: Ledger, db: Db, ann: str) -> None:
    """An order that was withdrawn before its run had begun is not delivered after all; one that came later is."""
    send(ledger, ann, "user.profile_completed", account="o-1")
    id, _ = send(ledger, ann, order="o-1", total_cents=0)
    send(ledger, ann, "user.profile_completed", account="o-2")
    (one, other) = db.execute("SELECT id FROM start ORDER BY id").fetchall()
    ledger.pending_runs.release_now([one["id"], other["id"]])
    ledger.pending_runs.begin("deliver/slowly")
    found = ledger.pending_runs.get([one["id"], other["id"]])
    assert (found[one["id"]].status, found[one["id"]].reason) == ("dropped", f"the event {id} cancels it")
    assert found[other["id"]].status == "begun"


def test_nobody_else_sends_such_events(ledger: Ledger, db: Db, ann: str, ingest: EventIngest) -> None:
    """Whoever could would start flows on failures that never were."""
    sent = {"name": "job.failed", "data": {"job": "j", "kind": "k", "deployment": "d", "cost_usd": 0}}
    (taken,), _ = ingest.take(Sender(source=ann, owner_id=ann, user_id=ann), [sent])
    assert taken.problem is not None and taken.problem.field == "name"
    assert jobs(db, "clean-up") == []


def test_a_gateway_starts_them_as_they_come(
    ledger: Ledger, ledger_url: str, db: Db, ann: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And has the run made at Prefect."""
    settings = Settings(ledger_url=ledger_url, home=tmp_path, signing_key="a long random text")  # type: ignore[arg-type]
    with recording_prefect() as prefect:
        monkeypatch.setenv("PREFECT_API_URL", prefect.url)
        with running_gateway(settings, blocks=GivenBlocks()):
            failed(ledger, ann, tags=["spring"])
            wait_until(lambda: jobs(db, "clean-up"), what="the job")
            wait_until(lambda: prefect.bodies("create_flow_run"), what="its run")
