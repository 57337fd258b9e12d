"""What job functions can say, on a real ledger and a real media store, with a provider of the test's own.

Its calls are answered at once (`immediate`), or taken and answered later, as the test says.
"""

from __future__ import annotations

import threading
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import pytest
from echoing import (
    ECHO,
    Echo,
    EchoProvider,
    call,
    echoed,
    new_job,
    picture,
    until_it_has_come,
)
from echoing import resources as resources
from implying import creations
from job_calls import calling
from ledger_databases import Db
from support import SLOW, wait_until

from darkroom import Call, Inference, Waiting
from darkroom import Job as JobCall
from darkroom.engine.resources import Resources
from darkroom.engine.store import inline
from darkroom.errors import DarkroomError, Park, Permanent, Retry
from darkroom.ledger import Job, JobStatus, Ledger, Outcome, Request, RequestStatus, Work
from darkroom.media.formats import Kind, RemoteFile
from darkroom.providers import models as catalogue
from darkroom.providers.base import Accepted


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> EchoProvider:
    known = {**catalogue.all_models(), ECHO: Echo()}
    monkeypatch.setattr(catalogue, "all_models", lambda: known)
    return EchoProvider()


def echo(job: JobCall, *, step: str = "echo", **arguments: Any) -> Inference:
    return job.infer(ECHO, arguments, step=step, reuse=True)


def rows(ledger: Ledger, job: Job) -> list[Request]:
    return ledger.requests.of_job(job.id)


def test_a_file_of_ones_own_is_made_once(resources: Resources, ledger: Ledger, ann: str) -> None:
    """The next call of the function gets what is on record, with the content that was stored."""
    job, made = new_job(ledger, ann), []

    def build() -> bytes:
        made.append("once")
        return picture()

    first = call(resources, job.id).make("grid", build)
    again = call(resources, job.id).make("grid", build)
    assert (again.id, made) == (first.id, ["once"])
    assert (first.key, first.ref, first.width) == (f"images/{ann}/{job.id}/grid-0.png", None, 8)
    assert call(resources, job.id).read(again) == picture()


def test_what_is_made_is_verified_before_it_is_stored(resources: Resources, ledger: Ledger, ann: str) -> None:
    """The failure names the step, and nothing is on record."""
    job = new_job(ledger, ann)
    with pytest.raises(DarkroomError) as failure:
        call(resources, job.id).make("film", lambda: b"no film", kind=Kind.VIDEO)
    assert failure.value.step == "film"
    assert ledger.assets.of_job(job.id) == []


@pytest.mark.parametrize("step", ["front cover", "../up", ".hidden", "a/b", "Titelblatt für Ännchen", 300 * "ä"])
def test_a_step_may_have_any_name(resources: Resources, ledger: Ledger, ann: str, step: str) -> None:
    """The store's keys are narrower, and it would refuse its files when they are paid."""
    asset = call(resources, new_job(ledger, ann).id).make(step, picture)
    assert asset.step == step
    assert resources.store.read(asset.key)


def test_a_file_within_the_answer_is_stored_and_then_kept_once(resources: Resources, ledger: Ledger, ann: str) -> None:
    """The ledger has it from the answer's commit until the media store has it; what else was said stays."""
    job = new_job(ledger, ann)
    inference = until_it_has_come(resources, job.id, echo)
    (row,) = rows(ledger, job)
    assert row.output is not None and row.output["image"]["url"].startswith("data:")
    (asset,) = call(resources, job.id).store(inference)
    (row,) = rows(ledger, job)
    assert row.output == {"image": {"url": f"asset:{asset.id}"}, "said": "echo"}
    assert call(resources, job.id).read(asset) == picture()
    assert call(resources, job.id).store(echo(call(resources, job.id)))[0].id == asset.id


@pytest.mark.parametrize("content", [b"", b"no picture", picture()[:-20]], ids=["empty", "none", "half"])
def test_a_file_within_the_answer_is_verified_like_any_other(content: bytes) -> None:
    """What its provider says of it is not believed either."""
    url = f"data:image/png;base64,{b64encode(content).decode()}"
    with pytest.raises(DarkroomError):
        inline(RemoteFile(url=url, content_type="image/png", width=8, height=8))


def test_a_file_of_the_store_is_brought_along_and_recorded_by_its_id(
    resources: Resources, provider: EchoProvider, ledger: Ledger, ann: str
) -> None:
    """So the input can be sent again at any time, when addresses of today are long gone."""
    job = new_job(ledger, ann)
    asset = call(resources, job.id).make("red", picture)
    until_it_has_come(resources, job.id, lambda job: echo(job, image=asset))
    assert rows(ledger, job)[0].input == {"image": f"asset:{asset.id}"}
    assert provider.sent == [{"image": picture()}]


def test_nobody_sends_another_users_file(
    resources: Resources, provider: EchoProvider, ledger: Ledger, ann: str
) -> None:
    """Whoever wrote the input: it is looked at again when it is sent, and nothing is."""
    bob = ledger.users.add("bob").user_id
    asset = call(resources, new_job(ledger, bob).id).make("red", picture)
    job = new_job(ledger, ann)
    with pytest.raises(Permanent, match="no file"):
        until_it_has_come(resources, job.id, lambda job: echo(job, image=f"asset:{asset.id}"))
    with pytest.raises(Permanent, match="no file"):
        call(resources, job.id).asset(asset.id)
    assert provider.sent == []


def test_an_answer_serves_again_for_the_same_call(
    resources: Resources, provider: EchoProvider, ledger: Ledger, ann: str
) -> None:
    """By content: the same picture under another id. It costs nothing, and its file is the job's own."""
    kept = []
    for _ in range(2):
        job = new_job(ledger, ann)
        asset = call(resources, job.id).make("red", picture)
        inference = until_it_has_come(resources, job.id, lambda job, asset=asset: echo(job, image=asset))
        (stored,) = call(resources, job.id).store(inference)
        kept.append((job, stored, rows(ledger, job)[0]))
    (_, first, paid), (job, second, row) = kept
    assert (len(provider.sent), row.status, row.cost_usd, row.reused_from) == (1, "succeeded", 0, paid.ref)
    assert (second.key, second.sha256, second.job_id) == (first.key, first.sha256, job.id)
    assert ledger.jobs.cost(job.id) == 0
    assert call(resources, job.id).store(echo(call(resources, job.id)))[0].id == second.id


@pytest.mark.parametrize("other", ["user", "picture", "arguments", "unstored"])
def test_an_answer_to_another_call_does_not_serve(
    resources: Resources, provider: EchoProvider, ledger: Ledger, ann: str, other: str
) -> None:
    """Nor one whose file never came to the store: its address may be gone."""
    users = [ann, ledger.users.add("bob").user_id if other == "user" else ann]
    for n, user_id in enumerate(users):
        job = new_job(ledger, user_id)
        colour = "blue" if other == "picture" and n else "red"
        asset = call(resources, job.id).make("it", lambda colour=colour: picture(colour))
        more = {"more": n} if other == "arguments" else {}
        inference = until_it_has_come(resources, job.id, lambda job, a=asset, m=more: echo(job, image=a, **m))
        if other != "unstored":
            call(resources, job.id).store(inference)
    assert len(provider.sent) == 2


def test_a_job_whose_first_answer_is_there_already_needs_no_slot(
    resources: Resources, ledger: Ledger, ann: str
) -> None:
    """A run takes it at once; and reconcile finds it if nobody does."""
    job = new_job(ledger, ann)
    assert ledger.jobs.unassigned() == [job.id]
    assert len(creations(ledger.runs.assign(job.id))) == 1
    assert ledger.jobs.unassigned() == []


def test_each_of_many_calls_ends_for_itself(
    resources: Resources, provider: EchoProvider, ledger: Ledger, ann: str
) -> None:
    """What has failed is told beside what has come, and the others go on."""

    def answer(row: Request, input: Mapping[str, Any]) -> Outcome:
        if input["n"] == 1:
            raise Permanent("no such page", code="not_found")
        return echoed(input)

    provider.answer = answer
    job = new_job(ledger, ann)
    calls = [Call(step=f"echo-{n}", endpoint=ECHO, arguments={"n": n}) for n in range(3)]
    told = until_it_has_come(resources, job.id, lambda job: list(job.each(calls)))
    assert [(each.step, getattr(came, "code", "came")) for each, came in told] == [
        ("echo-0", "came"),
        ("echo-1", "not_found"),
        ("echo-2", "came"),
    ]


def test_a_store_that_is_out_before_the_call_is_no_outage_of_the_provider(
    resources: Resources, provider: EchoProvider, ledger: Ledger, db: Db, ann: str
) -> None:
    """The row waits in the queue, nothing was sent, and everybody else's calls go on."""
    job = new_job(ledger, ann)
    asset = call(resources, job.id).make("red", picture)

    def out(*_: object, **__: object) -> bytes:
        raise Park("the media store is out", code="store_unavailable")

    resources.store.read = out  # type: ignore[method-assign]
    with pytest.raises(Waiting):
        echo(call(resources, job.id), image=asset)
    (row,) = rows(ledger, job)
    # Back in the queue until its pause is over; a random share of a second, after which it is granted again.
    assert (row.attempt, row.submitted_at, row.error and row.error["code"]) == (1, None, "store_unavailable")
    assert row.not_before is not None
    assert provider.sent == []
    assert db.execute("SELECT down_since FROM account WHERE id = 'gemini'").fetchone() == {"down_since": None}


@pytest.mark.parametrize("delivered", [True, False])
def test_what_has_yet_to_be_brought_is_brought_once_the_id_is_on_record(
    resources: Resources, provider: EchoProvider, ledger: Ledger, ann: str, delivered: bool
) -> None:
    """If it cannot be, the call has failed, and may be tried again."""
    provider.immediate = False
    job = new_job(ledger, ann)
    seen: list[Request] = []

    def deliver() -> None:
        seen.extend(rows(ledger, job))
        if not delivered:
            raise Retry("the upload broke")

    provider.answer = lambda *_: Accepted(request_id="upload-1", deliver=deliver)
    with pytest.raises(Waiting):
        echo(call(resources, job.id))
    assert [(row.request_id, row.status) for row in seen] == [("upload-1", RequestStatus.IN_FLIGHT)]
    now = rows(ledger, job)
    assert now[0].status is (RequestStatus.IN_FLIGHT if delivered else RequestStatus.FAILED)
    assert len(now) == (1 if delivered else 2), "a new attempt"


def test_calls_that_last_do_not_hold_up_the_job(
    resources: Resources, provider: EchoProvider, ledger: Ledger, ann: str
) -> None:
    """Both are under way at once, the function is called again at the end of each, and once each was sent."""
    go_on, under_way = threading.Event(), threading.Barrier(2, timeout=SLOW * 20)

    def answer(row: Request, input: Mapping[str, Any]) -> Outcome:
        under_way.wait()
        go_on.wait(20)
        return echoed(input)

    provider.answer = answer
    job = new_job(ledger, ann)

    def function(job: JobCall) -> dict[str, Any]:
        job.start(ECHO, {"n": 1}, step="one")
        job.start(ECHO, {"n": 2}, step="two")
        return {"files": len([*map(job.store, job.wait_all("one", "two"))])}

    with calling(resources, function) as (calls, _):
        work = Work(open=(job.id,), ready=(job.id,), came=frozenset())
        calls.start(work, as_tasks=False)
        wait_until(lambda: under_way.n_waiting == 0 and len(provider.sent) == 2)
        wait_until(lambda: (calls.take_in(), job.id in calls.waits)[1])
        assert calls.busy, "so the run stays for them"
        go_on.set()
        wait_until(lambda: (calls.take_in(), calls.start(work, as_tasks=False), _ended(ledger, job))[-1])
        # The end is on record a moment before the call that wrote it has returned.
        wait_until(lambda: (calls.take_in(), not calls.busy)[-1], what="the last call's return")
    ended = ledger.jobs.get(job.id)
    assert ended is not None and ended.result == {"files": 2}
    assert len(provider.sent) == 2


def _ended(ledger: Ledger, job: Job) -> bool:
    row = ledger.jobs.get(job.id)
    return row is not None and row.status.terminal


def test_how_far_a_job_has_come_is_on_record_until_it_ends(resources: Resources, ledger: Ledger, ann: str) -> None:
    """The same news twice is no news."""
    job = new_job(ledger, ann)
    assert ledger.jobs.progress(job.id, 40, "step 400 of 1000")
    assert not ledger.jobs.progress(job.id, 40.0, "step 400 of 1000")
    found = ledger.jobs.get(job.id)
    assert found is not None and found.progress == {"percent": 40, "text": "step 400 of 1000"}
    ledger.jobs.finish(job.id, JobStatus.COMPLETED)
    assert not ledger.jobs.progress(job.id, 41, "late")
    found = ledger.jobs.get(job.id)
    assert found is not None and found.progress is None
