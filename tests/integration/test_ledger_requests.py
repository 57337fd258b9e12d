"""The life of a paid call on record: the first ending wins, nothing that was paid is lost, the rest is duplicates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from implying import grants, wakes
from interleaving import all_at_once, overlap
from ledger_databases import Db
from ledger_scenes import (
    FAILURE,
    OUTPUT,
    SUCCESS,
    Picture,
    granted_picture,
    picture_in_flight,
    submitting_picture,
    webhook,
)

from darkroom.ledger import Ledger, Outcome, RequestStatus, Transition, Verdict

EXPIRY = Outcome(transition=Transition.EXPIRE)


def deliveries(db: Db, picture: Picture) -> list[tuple[str, str, Any]]:
    """Each webhook on record for the row: its provider id, what became of it, its extra cost."""
    found = db.execute(
        "SELECT request_id, verdict, cost_usd FROM delivery WHERE ref = %s ORDER BY id", [picture.ref]
    ).fetchall()
    return [(each["request_id"], each["verdict"], each["cost_usd"]) for each in found]


def test_a_submit_is_on_record_before_it_leaves(ledger: Ledger, ann: str) -> None:
    """A process that dies with the POST under way leaves a row that says so."""
    picture = granted_picture(ledger, ann)
    picture.submit()
    row = picture.row
    assert row.status is RequestStatus.SUBMITTING
    assert row.submitted_at is not None and row.deadline_at == row.submitted_at + timedelta(hours=1)


def test_of_two_who_submit_one_may(ledger: Ledger, ann: str) -> None:
    """Two processes that carry one run, one of them believed dead: the call is paid once."""
    picture = granted_picture(ledger, ann)
    begun = all_at_once([lambda: ledger.requests.begin_submit(picture.ref, deadline=timedelta(hours=1))] * 4)
    assert sum(row is not None for row in begun) == 1


@pytest.mark.parametrize("run_first", [True, False], ids=["run first", "gateway first"])
def test_of_a_run_and_a_gateway_that_submit_one_may(ledger: Ledger, db: Db, ann: str, run_first: bool) -> None:
    """A run that is later waits for the gateway's commit, and sees that the call is sent; a gateway passes it over."""
    ref = granted_picture(ledger, ann).ref
    begins: list[Callable[[], object]] = [
        lambda: ledger.requests.begin_submit(ref, deadline=timedelta(hours=1)),
        lambda: ledger.requests.begin_ahead({ref: timedelta(hours=1)}, most=1),
    ]
    first, second = overlap(db, *(begins if run_first else reversed(begins)), at="UPDATE ON request")
    assert first and not second


UNPREPARED: dict[str, Callable[[Picture], object]] = {
    "failed": lambda picture: picture.ledger.requests.fail_unsent(picture.ref, FAILURE),
    "requeued": lambda picture: picture.ledger.requests.refused(picture.ref, error={}, not_before=None, unsent=True),
}


@pytest.mark.parametrize("gives_up", UNPREPARED.values(), ids=UNPREPARED)
def test_who_cannot_prepare_a_call_leaves_it_to_who_is_just_sending_it(
    ledger: Ledger, db: Db, ann: str, gives_up: Callable[[Picture], object]
) -> None:
    """Taken for unsent it would be paid for nothing, or once more."""
    picture = granted_picture(ledger, ann)
    overlap(db, picture.submit, lambda: gives_up(picture), at="UPDATE ON request")
    assert picture.row.status is RequestStatus.SUBMITTING


def test_a_submit_that_comes_after_a_cancel_is_not_sent(ledger: Ledger, db: Db, ann: str) -> None:
    """It waits for the cancel's end and sees it."""
    picture = granted_picture(ledger, ann)
    _, begun = overlap(
        db,
        lambda: ledger.jobs.cancel(picture.job_id),
        lambda: ledger.requests.begin_submit(picture.ref, deadline=timedelta(hours=1)),
        at="UPDATE ON request",
    )
    assert (begun, picture.row.status) == (None, RequestStatus.CANCELLED)


def test_a_cancel_that_comes_after_a_submit_asks_for_the_end_of_it(ledger: Ledger, db: Db, ann: str) -> None:
    """The provider may have it by then."""
    picture = granted_picture(ledger, ann)
    overlap(db, picture.submit, lambda: ledger.jobs.cancel(picture.job_id), at="UPDATE ON request")
    assert (picture.row.status, picture.row.cancel_requested_at is not None) == (RequestStatus.SUBMITTING, True)


def test_a_submit_and_its_answer_do_not_queue_for_the_run(ledger: Ledger, db: Db, ann: str) -> None:
    """Whoever holds the run's row, e.g. for a webhook of another job, does not hold them up."""
    picture = granted_picture(ledger, ann)
    with db.transaction():
        db.execute("SELECT id FROM run WHERE id = %s FOR UPDATE", [picture.run_id])
        picture.submit()
        picture.accept()
    assert picture.row.status is RequestStatus.IN_FLIGHT


def test_a_webhook_ends_the_row(ledger: Ledger, db: Db, ann: str) -> None:
    """With its output, its cost and the way it came, in one transaction with the delivery."""
    picture = picture_in_flight(ledger, ann)
    verdict, implied = picture.settle(SUCCESS, webhook("fal-1"))
    row = picture.row
    assert (verdict, grants(implied)) == (Verdict.SETTLED, True)
    assert (row.status, row.delivered_via) == (RequestStatus.SUCCEEDED, "webhook")
    assert (row.output, row.cost_usd) == (OUTPUT, Decimal("0.025"))
    assert row.finished_at is not None
    assert deliveries(db, picture) == [("fal-1", "settled", None)]


def test_a_failure_keeps_the_providers_words(ledger: Ledger, ann: str) -> None:
    """They are the job's error later."""
    picture = picture_in_flight(ledger, ann)
    picture.settle(FAILURE, webhook("fal-1"))
    assert (picture.row.status, picture.row.error) == (RequestStatus.FAILED, {"code": "content_policy"})


def test_a_webhook_before_the_answer_ends_the_row_and_the_answer_fills_in_ids(ledger: Ledger, db: Db, ann: str) -> None:
    """fal can be done before its answer to the submit has arrived."""
    picture = submitting_picture(ledger, ann)
    assert picture.settle(SUCCESS, webhook("fal-1"))[0] is Verdict.SETTLED
    ended = picture.row
    assert (ended.status, ended.request_id) == (RequestStatus.SUCCEEDED, "fal-1")
    for answered in ("fal-1", "fal-2"):  # the webhook's id is the one that the result is of
        picture.accept(answered)
        assert picture.row == ended


def test_a_late_answer_fills_in_the_id_that_a_poll_could_not_know(ledger: Ledger, ann: str) -> None:
    """The row stays what it is."""
    picture = submitting_picture(ledger, ann)
    picture.settle(FAILURE)
    picture.accept("fal-1")
    assert (picture.row.status, picture.row.request_id) == (RequestStatus.FAILED, "fal-1")


@pytest.mark.parametrize("answer_first", [True, False], ids=["answer first", "webhook first"])
def test_answer_and_webhook_at_once_end_the_row(ledger: Ledger, db: Db, ann: str, answer_first: bool) -> None:
    """Without a lock the answer would set back to in_flight what has ended."""
    picture = submitting_picture(ledger, ann)
    actions = [picture.accept, lambda: picture.settle(SUCCESS, webhook("fal-1"))]
    first, second = actions if answer_first else reversed(actions)
    overlap(db, first, second, at="UPDATE ON request")
    assert (picture.row.status, picture.row.request_id) == (RequestStatus.SUCCEEDED, "fal-1")
    assert picture.row.accepted_at is not None


def test_the_second_of_two_webhooks_at_once_is_a_duplicate(ledger: Ledger, db: Db, ann: str) -> None:
    """fal repeats what it believes was not heard. The same job is not paid twice, so it costs nothing more."""
    picture = picture_in_flight(ledger, ann)
    (one, _), (two, implied) = overlap(
        db,
        lambda: picture.settle(SUCCESS, webhook("fal-1")),
        lambda: picture.settle(FAILURE, webhook("fal-1")),
        at="UPDATE ON request",
    )
    assert (one, two) == (Verdict.SETTLED, Verdict.DUPLICATE)
    assert not grants(implied) and not wakes(implied)
    assert (picture.row.status, picture.row.error) == (RequestStatus.SUCCEEDED, None)
    assert deliveries(db, picture) == [("fal-1", "settled", None), ("fal-1", "duplicate", None)]


def test_the_very_same_webhook_is_one_row_of_duplicates_and_a_count(ledger: Ledger, db: Db, ann: str) -> None:
    """However often it comes; another body is another row."""
    picture = picture_in_flight(ledger, ann)
    for _ in range(50):
        picture.settle(SUCCESS, webhook("fal-1"))
    assert [(each.verdict, each.times) for each in ledger.requests.deliveries(picture.ref)] == [
        ("settled", 1),
        ("duplicate", 49),
    ]


def test_a_second_job_at_the_provider_is_a_duplicate_with_its_cost(ledger: Ledger, db: Db, ann: str) -> None:
    """Somebody between us and fal repeated the POST: it is paid, and nobody's result is replaced."""
    picture = picture_in_flight(ledger, ann)
    assert picture.settle(SUCCESS, webhook("fal-2"))[0] is Verdict.DUPLICATE
    assert picture.row.status is RequestStatus.IN_FLIGHT
    picture.settle(SUCCESS, webhook("fal-1"))
    assert deliveries(db, picture) == [("fal-2", "duplicate", Decimal("0.025")), ("fal-1", "settled", None)]


def test_a_second_job_at_the_provider_costs_once_though_it_is_told_in_other_words(ledger: Ledger, ann: str) -> None:
    """fal's repetitions of one webhook differ; a third job is paid as the second was."""
    picture = picture_in_flight(ledger, ann)
    picture.settle(SUCCESS, webhook("fal-1"))
    for request_id, body in (("fal-2", "0"), ("fal-2", "1"), ("fal-3", "2"), ("fal-2", "3")):
        picture.settle(SUCCESS, replace(webhook(request_id), body_sha256=body))
    told = [(each.request_id, each.cost_usd) for each in ledger.requests.deliveries(picture.ref)]
    cost = SUCCESS.cost_usd
    assert told == [("fal-1", None), ("fal-2", cost), ("fal-2", None), ("fal-3", cost), ("fal-2", None)]


def test_an_unknown_row_is_ended_by_its_webhook(ledger: Ledger, ann: str) -> None:
    """Found by its token: it adopts the id it never learned."""
    picture = submitting_picture(ledger, ann)
    ledger.requests.answer_lost(picture.ref)
    found = ledger.requests.by_token(picture.row.token)
    assert found is not None and found.ref == picture.ref
    assert picture.settle(SUCCESS, webhook("fal-1"))[0] is Verdict.SETTLED
    adopted = ledger.requests.by_provider_id("fal-1")
    assert adopted is not None and adopted.ref == picture.ref


def test_an_unknown_row_that_is_found_at_the_provider_goes_on(ledger: Ledger, ann: str) -> None:
    """As if its answer had come."""
    picture = submitting_picture(ledger, ann)
    ledger.requests.answer_lost(picture.ref)
    picture.accept("fal-1")
    assert (picture.row.status, picture.row.request_id) == (RequestStatus.IN_FLIGHT, "fal-1")


def found_as_anothers(picture: Picture) -> None:
    submitting_picture(picture.ledger, picture.ledger.users.add("bob").user_id).accept("fal-2")


MEANWHILE: dict[str, Callable[[Picture], object]] = {
    "given up": lambda picture: picture.settle(EXPIRY),
    "told its id": lambda picture: picture.accept("fal-1"),
    "ended by its webhook": lambda picture: picture.settle(SUCCESS, webhook("fal-1")),
    "found as another's": found_as_anothers,
}


@pytest.mark.parametrize("comes", MEANWHILE.values(), ids=MEANWHILE)
def test_an_unknown_row_that_was_heard_of_meanwhile_is_left_as_it_is(
    ledger: Ledger, ann: str, comes: Callable[[Picture], object]
) -> None:
    """The provider's list was read before; and no call there is two rows'."""
    picture = submitting_picture(ledger, ann)
    ledger.requests.answer_lost(picture.ref)
    comes(picture)
    before = picture.row
    assert not ledger.requests.adopt(picture.ref, request_id="fal-2")
    assert picture.row == before


def test_a_lost_answer_does_not_set_back_what_has_ended(ledger: Ledger, ann: str) -> None:
    """The webhook came while the answer was waited for."""
    picture = submitting_picture(ledger, ann)
    picture.settle(SUCCESS, webhook("fal-1"))
    ledger.requests.answer_lost(picture.ref)
    assert picture.row.status is RequestStatus.SUCCEEDED


def test_a_success_after_it_was_given_up_is_kept_and_costed(ledger: Ledger, db: Db, ann: str) -> None:
    """The row stays expired, because a new attempt has taken its place; what was paid for is not thrown away."""
    picture = submitting_picture(ledger, ann)
    ledger.requests.answer_lost(picture.ref)
    assert grants(picture.settle(EXPIRY)[1])
    given_up = picture.row.finished_at
    verdict, implied = picture.settle(SUCCESS, webhook("fal-1"))
    row = picture.row
    assert (verdict, grants(implied)) == (Verdict.LATE, False)
    assert (row.status, row.finished_at, row.request_id) == (RequestStatus.EXPIRED, given_up, "fal-1")
    assert (row.output, row.cost_usd) == (OUTPUT, Decimal("0.025"))
    assert picture.settle(SUCCESS, webhook("fal-1"))[0] is Verdict.DUPLICATE
    assert deliveries(db, picture) == [("fal-1", "late", None), ("fal-1", "duplicate", None)]


def test_a_failure_after_it_was_given_up_is_a_duplicate(ledger: Ledger, ann: str) -> None:
    """There is nothing to keep."""
    picture = picture_in_flight(ledger, ann)
    picture.settle(EXPIRY)
    assert picture.settle(FAILURE, webhook("fal-1"))[0] is Verdict.DUPLICATE
    assert picture.row.status is RequestStatus.EXPIRED


def test_a_success_after_a_refusal_that_was_none_is_kept(ledger: Ledger, ann: str) -> None:
    """Thrown away, the row would be submitted and paid a second time."""
    picture = submitting_picture(ledger, ann)
    ledger.requests.refused(picture.ref, error={"code": "provider_down"}, not_before=None)
    assert picture.settle(SUCCESS, webhook("fal-1"))[0] is Verdict.SETTLED
    assert (picture.row.status, picture.row.request_id, picture.row.output) == (
        RequestStatus.SUCCEEDED,
        "fal-1",
        OUTPUT,
    )
    assert ledger.grants.grant() == []


def test_a_result_that_was_too_large_for_the_webhook_is_filled_in(ledger: Ledger, ann: str) -> None:
    """The success is on record without it, and its cost is known with it."""
    picture = picture_in_flight(ledger, ann)
    picture.settle(Outcome(transition=Transition.SUCCEED), webhook("fal-1"))
    assert (picture.row.status, picture.row.output) == (RequestStatus.SUCCEEDED, None)
    ledger.requests.fill_output(picture.ref, output=OUTPUT, cost_usd=Decimal("0.03"))
    assert (picture.row.output, picture.row.cost_usd) == (OUTPUT, Decimal("0.03"))


def test_a_row_that_is_not_on_record_is_said_so(ledger: Ledger) -> None:
    """By its name."""
    with pytest.raises(LookupError, match="req_none"):
        ledger.requests.get("req_none")
    assert ledger.requests.by_token("none") is None
    assert ledger.requests.by_provider_id("none") is None
