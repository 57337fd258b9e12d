"""Failed jobs as letters: what they have cost, what another try would cost, and who has put them away."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from implying import assigned, grants
from interleaving import all_at_once
from ledger_scenes import DEV, FAILURE, GPT, SUCCESS, picture_in_flight, spec, submitting_picture, webhook

from darkroom.clock import utc_now
from darkroom.errors import BadInput
from darkroom.ledger import (
    BATCH,
    BatchPass,
    Child,
    DeadLetterFilter,
    Done,
    Implied,
    JobStatus,
    Lane,
    Ledger,
    ManifestRow,
    Outcome,
    RequestStatus,
    Transition,
)

PRICE = Decimal("0.025")


@pytest.fixture
def bob(ledger: Ledger) -> str:
    return ledger.users.add("bob", plan="studio").user_id


def dead(
    ledger: Ledger,
    user_id: str,
    *,
    code: str = "content_policy",
    kind: str = "permanent",
    generated: bool = False,
    **changes: Any,
) -> str:
    """A job that failed at its one step; or, with `generated`, at a second one after the first was paid."""
    picture = submitting_picture(ledger, user_id, **changes)
    picture.accept(f"fal-{picture.job_id}")
    picture.settle(SUCCESS if generated else FAILURE)
    ref, step = picture.ref, "generate"
    if generated:
        second = ledger.requests.reserve_all(picture.job_id, [spec(step="upscale", endpoint=GPT)])[0]
        ledger.requests.settle(second.ref, FAILURE, via="webhook")
        ref, step = second.ref, "upscale"
    error = {"code": code, "class": kind, "message": "No.", "step": step, "ref": ref, "retryable": False}
    ledger.jobs.finish(picture.job_id, JobStatus.FAILED, error=error)
    assert ledger.runs.close(picture.run_id)
    return picture.job_id


def found(ledger: Ledger, **given: Any) -> list[str]:
    """By both ways to ask for them, which name the same: a page, and all at once."""
    which = DeadLetterFilter(**given)
    paged = [letter.job_id for letter in ledger.dead_letters.page(which, limit=100)]
    assert sorted(ledger.dead_letters.job_ids(which)) == sorted(paged)
    assert ledger.dead_letters.price(which).matching == len(paged)
    return paged


def test_a_letter_says_what_failed_what_was_paid_and_what_another_try_costs(ledger: Ledger, ann: str) -> None:
    """The step that has succeeded serves again; the one that failed is what a replay would queue."""
    job_id = dead(ledger, ann, generated=True)
    (letter,) = ledger.dead_letters.page(DeadLetterFilter(), limit=10)
    assert (letter.job_id, letter.code, letter.error_class, letter.step) == (
        job_id,
        "content_policy",
        "permanent",
        "upscale",
    )
    assert (letter.endpoint, letter.message, letter.paid_usd) == (GPT, "No.", PRICE)
    assert [(each.step, each.endpoint, each.cost_usd) for each in letter.reusable] == [("generate", DEV, PRICE)]
    assert [(each.step, each.endpoint, each.estimate_usd) for each in letter.replay] == [("upscale", GPT, PRICE)]
    assert (letter.replay_usd, letter.replayable) == (PRICE, True)


def test_letters_are_found_by_what_is_asked_of_them(ledger: Ledger, ann: str, bob: str) -> None:
    """All that is asked must hold; a job that did not fail is none."""
    refused = dead(ledger, ann)
    later = dead(ledger, ann, code="expired", kind="retry", generated=True)
    of_bob = dead(ledger, bob, code="expired", kind="needs_human")
    picture_in_flight(ledger, ann)
    now = utc_now()
    assert found(ledger) == [of_bob, later, refused]
    assert found(ledger, user_id=ann) == [later, refused]
    assert found(ledger, code="expired") == [of_bob, later]
    assert found(ledger, code="expired", user_id=ann) == [later]
    assert found(ledger, error_class="permanent") == [refused]
    assert found(ledger, endpoint=GPT) == [later]
    assert found(ledger, kind="generate-image", endpoint=DEV) == [of_bob, refused]
    assert found(ledger, kind="train-lora") == []
    assert found(ledger, job_ids=(refused, of_bob)) == [of_bob, refused]
    assert found(ledger, until=now - timedelta(hours=1)) == found(ledger, since=now) == []
    assert len(found(ledger, since=now - timedelta(hours=1), until=now)) == 3


# -- put away --------------------------------------------------------------------------------------------------------


def discard(ledger: Ledger, *job_ids: str, reason: str = "no use") -> list[str]:
    which = DeadLetterFilter(job_ids=job_ids, discarded=None)
    done = ledger.dead_letters.discard(which, reason=reason)
    assert {*done.job_ids, *done.refused} == set(job_ids)
    return list(done.job_ids)


def test_a_discarded_job_is_out_of_sight_until_somebody_replays_it_by_its_id(ledger: Ledger, ann: str) -> None:
    """It is told with the reason where it is asked for; whoever names it in a replay means it all the same."""
    put_away, other = dead(ledger, ann), dead(ledger, ann)
    assert discard(ledger, put_away, "job_nonesuch", reason="test order") == [put_away]
    assert found(ledger) == [other]
    assert found(ledger, discarded=None) == [other, put_away]
    (letter,) = ledger.dead_letters.page(DeadLetterFilter(discarded=True), limit=10)
    assert (letter.job_id, letter.discard_reason) == (put_away, "test order")

    ledger.jobs.replay(put_away)

    job = ledger.jobs.get(put_away)
    assert job is not None
    assert (job.status, job.discarded_at, job.discard_reason) == (JobStatus.PENDING, None, None)


def test_only_what_failed_is_discarded(ledger: Ledger, ann: str) -> None:
    """A job under way, or one that goes on again, is nobody's dead letter."""
    replayed, going_on = dead(ledger, ann), picture_in_flight(ledger, ann).job_id
    ledger.jobs.replay(replayed)
    assert discard(ledger, going_on, replayed) == []


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_a_discard_says_why(ledger: Ledger, ann: str, reason: str) -> None:
    """In a sentence."""
    dead(ledger, ann)
    with pytest.raises(BadInput, match="500"):
        ledger.dead_letters.discard(DeadLetterFilter(), reason=reason)
    assert len(found(ledger)) == 1


def test_a_retry_of_its_run_leaves_a_discarded_job_where_it_is(ledger: Ledger, ann: str) -> None:
    """The retry is about the run; nobody has named the job."""
    job_id = dead(ledger, ann)
    job = ledger.jobs.get(job_id)
    assert job is not None and job.run_id is not None
    discard(ledger, job_id)
    assert ledger.runs.reopen(job.run_id) is None


# -- together, under a budget ----------------------------------------------------------------------------------------


def queued(ledger: Ledger, job_ids: Iterable[str]) -> int:
    rows = [row for job_id in job_ids for row in ledger.requests.of_job(job_id)]
    return sum(row.status is RequestStatus.QUEUED for row in rows)


def replay(ledger: Ledger, budget: Decimal, **given: Any) -> Done:
    return ledger.dead_letters.replay(DeadLetterFilter(**given), budget_usd=budget)


def test_as_many_go_back_as_the_budget_has_room_for(ledger: Ledger, ann: str) -> None:
    """Oldest failure first. The others stay letters, and are told with the remedy."""
    jobs = [dead(ledger, ann) for _ in range(4)]
    assert ledger.dead_letters.price(DeadLetterFilter()).replay_usd == 4 * PRICE
    replayed = replay(ledger, 2 * PRICE)
    assert (replayed.job_ids, set(replayed.refused)) == (tuple(jobs[:2]), set(jobs[2:]))
    assert all("larger budget" in why for why in replayed.refused.values())
    assert grants(replayed.implied) and queued(ledger, jobs) == 2
    assert found(ledger) == jobs[:1:-1]


def test_what_costs_nothing_goes_back_whatever_the_budget(ledger: Ledger, ann: str) -> None:
    """A picture that is paid and was not stored, say."""
    picture = picture_in_flight(ledger, ann)
    picture.settle(SUCCESS)
    ledger.jobs.finish(picture.job_id, JobStatus.FAILED, error={"code": "file_unverified", "class": "retry"})
    replayed = replay(ledger, Decimal(0))
    assert (replayed.job_ids, assigned(replayed.implied)) == ((picture.job_id,),) * 2


def test_a_step_that_comes_later_is_within_the_budget_or_is_not_asked_for(ledger: Ledger, ann: str) -> None:
    """Another attempt of one job takes what is left; the next of another says what to do, and nothing is on record."""
    one, other = dead(ledger, ann), dead(ledger, ann)
    replay(ledger, 3 * PRICE)
    assert ledger.requests.reserve_all(one, [spec(step="upscale")])[0].status is RequestStatus.QUEUED
    with pytest.raises(BadInput, match="larger budget") as refused:
        ledger.requests.reserve_all(other, [spec(step="upscale")])
    assert (refused.value.code, refused.value.step) == ("over_budget", "upscale")
    assert [row.step for row in ledger.requests.of_job(other)] == ["generate", "generate"]
    free = spec(step="note", estimate_usd=Decimal(0))
    assert ledger.requests.reserve_all(other, [free])[0].status is RequestStatus.QUEUED, "it costs nothing"


@pytest.mark.parametrize(
    ("ending", "left"),
    [
        (SUCCESS, 0),
        (Outcome(transition=Transition.SUCCEED, output={}, cost_usd=Decimal("0.005")), 1),
        (FAILURE, 1),
        (Outcome(transition=Transition.EXPIRE), 0),
        (Outcome(transition=Transition.SUCCEED), 0),
    ],
    ids=["paid", "paid less", "refused", "given up: perhaps paid", "paid, its bill to come"],
)
def test_a_budget_counts_what_was_paid_and_what_may_have_been(
    ledger: Ledger, ann: str, ending: Outcome, left: int
) -> None:
    """What the provider has refused is free again; what nobody knows is not."""
    job_id = dead(ledger, ann)
    replay(ledger, PRICE + Decimal("0.01"))
    (granted,) = ledger.grants.grant()
    assert ledger.requests.begin_submit(granted.ref, deadline=timedelta(hours=1)) is not None
    ledger.requests.settle(granted.ref, ending, via="webhook")
    try:
        ledger.requests.reserve_all(job_id, [spec(step="more")])
    except BadInput:
        assert left == 0
    else:
        assert left == 1


def test_a_duplicate_that_was_paid_counts_against_the_budget(ledger: Ledger, ann: str) -> None:
    """It was paid for this replay, wanted or not."""
    job_id = dead(ledger, ann)
    replay(ledger, 2 * PRICE)
    (granted,) = ledger.grants.grant()
    assert ledger.requests.begin_submit(granted.ref, deadline=timedelta(hours=1)) is not None
    ledger.requests.accepted(granted.ref, request_id="fal-wanted")
    for request_id in ("fal-wanted", "fal-again"):
        ledger.requests.settle(granted.ref, SUCCESS, via="webhook", arrival=webhook(request_id))
    with pytest.raises(BadInput):
        ledger.requests.reserve_all(job_id, [spec(step="more")])


def test_a_job_that_leaves_a_replay_leaves_what_it_has_paid_there(ledger: Ledger, ann: str) -> None:
    """It is replayed on its own, without a budget; the others of its replay have no more for that."""
    one, other = dead(ledger, ann), dead(ledger, ann)
    replay(ledger, 2 * PRICE)
    ref = ledger.requests.of_job(one)[-1].ref
    ledger.requests.settle(ref, SUCCESS, via="webhook")
    ledger.jobs.finish(one, JobStatus.FAILED, error={"code": "file_unverified", "class": "retry"})
    ledger.jobs.replay(one)
    assert ledger.requests.reserve_all(one, [spec(step="more")])[0].status is RequestStatus.QUEUED
    with pytest.raises(BadInput):
        ledger.requests.reserve_all(other, [spec(step="more")])


def test_what_a_job_starts_has_the_budget_of_its_replay(ledger: Ledger, ann: str) -> None:
    """A job of another kind that it waits for is a part of what it costs."""
    parent = dead(ledger, ann)
    replay(ledger, PRICE)
    job = ledger.jobs.get(parent)
    assert job is not None
    wait, _ = ledger.waits.for_child(job, "child", kind="generate-image", parameters={})
    assert wait.child_job_id is not None
    with pytest.raises(BadInput):
        ledger.requests.reserve_all(wait.child_job_id, [spec()])


def test_calls_at_once_do_not_both_have_the_last_of_the_budget(ledger: Ledger, ann: str) -> None:
    """Of six jobs that ask for one more call at the same time, as many get it as there is room for."""
    jobs = [dead(ledger, ann) for _ in range(6)]
    replay(ledger, 8 * PRICE)

    def one_more(job_id: str) -> bool:
        try:
            ledger.requests.reserve_all(job_id, [spec(step="more")])
        except BadInput:
            return False
        return True

    assert sum(all_at_once([partial(one_more, job_id) for job_id in jobs])) == 2
    assert queued(ledger, jobs) == 8


def test_replays_of_the_same_letters_at_once_put_each_back_once(ledger: Ledger, ann: str) -> None:
    """Each within its own budget, and no job under two."""
    jobs = [dead(ledger, ann) for _ in range(6)]
    answers = all_at_once([lambda: replay(ledger, 2 * PRICE)] * 2)
    put_back = [job_id for answer in answers for job_id in answer.job_ids]
    assert len(put_back) == len(set(put_back)) == queued(ledger, jobs)
    assert all(len(answer.job_ids) <= 2 for answer in answers)


def test_a_replay_that_is_cut_short_leaves_the_rest_as_it_was(
    ledger: Ledger, ann: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was put back is on record with its budget; another replay takes the others."""
    jobs = [dead(ledger, ann) for _ in range(3)]
    put_back = ledger.jobs.replay

    def dies_at_the_second(job_id: str, **given: Any) -> Implied:
        if job_id == jobs[1]:
            raise KeyboardInterrupt
        return put_back(job_id, **given)

    monkeypatch.setattr(ledger.jobs, "replay", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        replay(ledger, 3 * PRICE)
    monkeypatch.undo()
    assert (queued(ledger, jobs), found(ledger)) == (1, jobs[:0:-1])
    assert replay(ledger, 3 * PRICE).job_ids == tuple(jobs[1:])
    with pytest.raises(BadInput):
        ledger.requests.reserve_all(jobs[0], [spec(step=f"more-{n}") for n in range(3)])


def test_what_is_discarded_while_a_replay_goes_on_is_not_put_back(
    ledger: Ledger, ann: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand letters take some seconds; a person may have looked meanwhile."""
    jobs = [dead(ledger, ann) for _ in range(2)]
    put_back = ledger.jobs.replay

    def somebody_looks(job_id: str, **given: Any) -> Implied:
        discard(ledger, jobs[1])
        return put_back(job_id, **given)

    monkeypatch.setattr(ledger.jobs, "replay", somebody_looks)
    done = replay(ledger, 2 * PRICE)
    assert (done.job_ids, list(done.refused)) == ((jobs[0],), [jobs[1]])
    assert found(ledger, discarded=True) == [jobs[1]]


def test_a_replay_that_is_sent_again_goes_on_under_the_same_budget(ledger: Ledger, ann: str) -> None:
    """Its answer was lost. Another budget under the same key is another replay, and refused."""
    jobs = [dead(ledger, ann) for _ in range(3)]
    which = DeadLetterFilter(job_ids=tuple(jobs))
    for _ in range(2):
        done = ledger.dead_letters.replay(which, budget_usd=2 * PRICE, key="ann k-1")
        assert (set(done.job_ids), set(done.refused)) == (set(jobs[:2]), {jobs[2]})
    with pytest.raises(BadInput, match="another budget"):
        ledger.dead_letters.replay(which, budget_usd=3 * PRICE, key="ann k-1")
    assert queued(ledger, jobs) == 2


# -- batches ---------------------------------------------------------------------------------------------------------


def failed_batch(ledger: Ledger, user_id: str, count: int) -> tuple[str, list[str]]:
    """It failed as a whole, and all of its rows but the first. Returns it and those rows."""
    rows = [ManifestRow(n=n, name=None, picture={"prompt": f"a fox, {n}"}) for n in range(count)]
    drafts = [Child(n=row.n, parameters=row.picture, first=spec(lane=Lane.BATCH)) for row in rows]
    batch = ledger.jobs.post_batch(
        user_id=user_id,
        kind=BATCH,
        parameters={},
        rows=rows,
        drafts=drafts,
        forecast={"draft": "0.25"},
        estimate_usd=Decimal(0),
    ).job
    for child in ledger.batches.page(batch.id, limit=count):
        (call,) = ledger.requests.of_job(child.id)
        ledger.requests.settle(call.ref, FAILURE if child.manifest_row else SUCCESS, via="poll")
        ledger.jobs.finish(child.id, JobStatus.FAILED if child.manifest_row else JobStatus.COMPLETED)
    ledger.jobs.finish(batch.id, JobStatus.FAILED, error={"code": "run_ended", "class": "error", "message": "Lost."})
    return batch.id, [child.id for child in ledger.batches.page(batch.id, limit=count) if child.manifest_row]


def test_a_batch_is_a_letter_with_the_price_of_its_rows_and_they_are_counted_once(ledger: Ledger, ann: str) -> None:
    """Each row that failed is a letter, too: what goes back with its batch is not put back twice."""
    batch, rows = failed_batch(ledger, ann, 4)
    letters = {letter.job_id: letter for letter in ledger.dead_letters.page(DeadLetterFilter(), limit=10)}
    assert set(letters) == {batch, *rows}
    assert (letters[batch].rows, letters[batch].replay_usd, letters[batch].paid_usd) == (3, 3 * PRICE, PRICE)
    assert {letters[row].parent_id for row in rows} == {batch}
    price = ledger.dead_letters.price(DeadLetterFilter())
    assert (price.matching, price.replay_usd) == (4, 3 * PRICE)

    done = replay(ledger, 3 * PRICE)

    assert (set(done.job_ids), done.refused, queued(ledger, rows)) == ({batch, *rows}, {}, 3)


def test_a_row_that_went_with_its_batch_and_failed_again_meanwhile_is_not_put_back_once_more(
    ledger: Ledger, ann: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal takes a moment, the letters behind it some seconds. It went, and is a letter again."""
    batch, rows = failed_batch(ledger, ann, 3)
    put_back = ledger.jobs.replay

    def rows_fail_at_once(job_id: str, **given: Any) -> Implied:
        implied = put_back(job_id, **given)
        for row in rows if job_id == batch else ():
            ledger.requests.settle(ledger.requests.of_job(row)[-1].ref, FAILURE, via="poll")
            ledger.jobs.finish(row, JobStatus.FAILED, error={"code": "content_policy", "class": "permanent"})
        return implied

    monkeypatch.setattr(ledger.jobs, "replay", rows_fail_at_once)
    done = replay(ledger, 2 * PRICE)
    assert (set(done.job_ids), done.refused) == ({batch, *rows}, {})
    assert {len(ledger.requests.of_job(row)) for row in rows} == {2}, "one attempt more, not two"


def test_a_row_that_was_discarded_stays_behind_when_its_batch_goes_back(ledger: Ledger, ann: str) -> None:
    """The picture that nobody wants any more is not paid."""
    batch, rows = failed_batch(ledger, ann, 3)
    discard(ledger, rows[0])
    ledger.jobs.replay(batch)
    assert [len(ledger.requests.of_job(row)) for row in rows] == [1, 2]


def test_another_pass_of_a_batch_is_within_the_budget_of_its_replay(ledger: Ledger, ann: str) -> None:
    """All of the pass, or nothing of it is on record."""
    batch, _ = failed_batch(ledger, ann, 3)
    replay(ledger, 3 * PRICE, job_ids=(batch,))
    job = ledger.jobs.get(batch)
    assert job is not None
    finals = [Child(n=n, parameters={}, first=spec(lane=Lane.BATCH)) for n in range(2)]
    with pytest.raises(BadInput, match="larger budget"):
        ledger.batches.add(job, BatchPass.FINAL, finals)
    ledger.batches.add(job, BatchPass.FINAL, finals[:1])
    assert [each.stage for each in ledger.batches.page(batch, limit=10)].count(BatchPass.FINAL) == 1
