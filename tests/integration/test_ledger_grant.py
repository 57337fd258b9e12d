"""The grant: never more than the slots, the caps and the plan allow, whoever grants at the same time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from implying import grants
from interleaving import all_at_once, overlap
from ledger_databases import Db
from ledger_scenes import DEV, GPT, SUCCESS, granted_picture, post, spec

from darkroom.clock import utc_now
from darkroom.ledger import Granted, JobStatus, Lane, Ledger, Request, RequestStatus


def jobs_of(granted: list[Granted]) -> set[str]:
    return {each.job_id for each in granted}


LIMITS: dict[str, Callable[[Ledger], object]] = {
    "the account's slots": lambda ledger: ledger.users.set_account("fal", slots=1),
    "the endpoint's cap": lambda ledger: ledger.users.set_account("fal", endpoint_caps={DEV: 1}),
    "the plan's number": lambda ledger: ledger.users.set_plan("studio", in_flight=1, weight=Decimal(1)),
}


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS.keys())
def test_two_grants_at_once_do_not_exceed(ledger: Ledger, db: Db, ann: str, limit: Callable[[Ledger], object]) -> None:
    """Without the account's lock, or with the count in the statement that waits for it, both give the last slot.

    While the first is about to commit, a row comes that stands before the one it has picked: the second picks that.
    """
    limit(ledger)
    post(ledger, ann)

    def grant_once_more() -> list[Granted]:
        post(ledger, ann, lane=Lane.CONTINUE)
        return ledger.grants.grant()

    one, two = overlap(db, ledger.grants.grant, grant_once_more, at="UPDATE ON request")
    assert len(one + two) == 1
    assert len(ledger.requests.holding_slots()) == 1


def test_many_grants_at_once_exceed_nothing_at_any_time(ledger: Ledger, db: Db) -> None:
    """Eight threads grant and settle sixty rows of six users: in no committed state is any limit passed."""
    ledger.users.set_account("fal", slots=5, endpoint_caps={GPT: 2})
    users = [ledger.users.add(f"user {n}", plan="free" if n % 2 else "pro").user_id for n in range(6)]
    for n in range(60):
        post(ledger, users[n % 6], endpoint=GPT if n % 4 == 0 else DEV)
    free = set(users[1::2])

    def held() -> list[tuple[str, str]]:
        return [(row.user_id, row.endpoint) for row in ledger.requests.holding_slots()]

    def grant_and_settle() -> None:
        while granted := ledger.grants.grant():
            now = held()
            assert len(now) <= 5
            assert sum(endpoint == GPT for _, endpoint in now) <= 2
            assert all(n <= (1 if user in free else 3) for user, n in Counter(user for user, _ in now).items())
            for each in granted:
                ledger.requests.settle(each.ref, SUCCESS, via="poll")

    all_at_once([grant_and_settle] * 8)
    assert Counter(row["status"] for row in db.execute("SELECT status FROM request")) == {"succeeded": 60}


def test_a_tenth_grant_exceeds_no_plan(ledger: Ledger) -> None:
    """The lowest lane comes first in it, and each of its users has rows in the other lanes, too."""
    ledger.users.set_plan("one", in_flight=1, weight=Decimal(1))
    users = [ledger.users.add(f"user {n}", plan="one").user_id for n in range(3)]
    for user_id in users * 10:
        post(ledger, user_id, lane=Lane.INTERACTIVE)
        post(ledger, user_id, lane=Lane.BATCH)
    for _ in range(15):
        ledger.grants.grant()
        held = ledger.requests.holding_slots()
        assert sorted(row.user_id for row in held) == sorted(users)
        for row in held:
            ledger.requests.settle(row.ref, SUCCESS, via="poll")


def test_a_tenth_grant_exceeds_no_budget(ledger: Ledger, db: Db) -> None:
    """Of two calls, each of which is within it alone, one is granted."""
    ledger.users.set_plan("poor", in_flight=8, weight=Decimal(1), daily_budget_usd=Decimal(1))
    user_id = ledger.users.add("ann", plan="poor").user_id
    post(ledger, user_id, lane=Lane.INTERACTIVE, estimate_usd=Decimal("0.9"))
    batch = post(ledger, user_id, lane=Lane.BATCH, estimate_usd=Decimal("0.9"))
    db.execute("UPDATE account SET grants = 9 WHERE id = 'fal'")
    assert jobs_of(ledger.grants.grant()) == {batch.id}
    assert ledger.grants.grant() == []


def test_a_full_endpoint_holds_up_no_other(ledger: Ledger, ann: str) -> None:
    """Neither the rows of others nor the user's own that stand behind those of the full one."""
    ledger.users.set_account("fal", slots=6, endpoint_caps={GPT: 1})
    for _ in range(8):
        post(ledger, ann, endpoint=GPT)
    behind = {post(ledger, ann).id for _ in range(5)}
    granted = jobs_of(ledger.grants.grant())
    assert behind <= granted
    assert len(granted) == 6


AHEAD: dict[str, dict[str, Any]] = {
    "of another provider": {"account_id": "gemini"},
    "of an endpoint that is full": {"endpoint": GPT},
    "that waits for its time": {"not_before": utc_now() + timedelta(hours=1)},
}


@pytest.mark.parametrize("first", AHEAD.values(), ids=AHEAD)
def test_who_is_first_with_a_row_that_cannot_go_takes_nobodys_place(
    ledger: Ledger, ann: str, first: dict[str, Any]
) -> None:
    """As many users are looked at as slots are free: the slot would stay empty for as long as that row waits."""
    ledger.users.set_account("fal", slots=1, endpoint_caps={GPT: 0})
    post(ledger, ann, **first)
    job = post(ledger, ledger.users.add("bob").user_id)
    assert job.id in jobs_of(ledger.grants.grant())


def test_a_grant_does_not_hold_up_a_post(ledger: Ledger, db: Db, ann: str) -> None:
    """A new row's foreign key looks at the account: `FOR UPDATE` there would make every post wait for the grant."""
    post(ledger, ann)

    def post_and_look() -> list[Request]:
        post(ledger, ann)
        return ledger.requests.holding_slots()

    granted, seen = overlap(db, ledger.grants.grant, post_and_look, at="UPDATE ON request")
    assert granted
    assert seen == [], "the post waited until the grant had committed"


def test_nobody_but_a_grant_waits_for_the_account(ledger: Ledger, db: Db, ann: str) -> None:
    """Whoever holds a run or a request and wants the account could wait for a grant that wants the request."""
    refused, settled = (granted_picture(ledger, ledger.users.add(name).user_id) for name in ("bob", "eve"))
    with db.transaction():
        db.execute("SELECT FROM account FOR NO KEY UPDATE")  # as the grant does
        refused.submit()
        ledger.requests.refused(refused.ref, error={}, not_before=None)
        ledger.requests.reserve_all(settled.job_id, [spec(step="upscale")])
        settled.submit()
        settled.accept()
        settled.settle()
        ledger.jobs.cancel(settled.job_id)
        ledger.jobs.finish(settled.job_id, JobStatus.COMPLETED)
        ledger.runs.assign(post(ledger, ann).id)


def test_users_take_turns(ledger: Ledger, ann: str) -> None:
    """One user's batch does not delay another's single picture: the first of each comes before the second of any."""
    ledger.users.set_account("fal", slots=3)
    batch = [post(ledger, ann).id for _ in range(8)]
    single = post(ledger, ledger.users.add("bob").user_id).id
    assert jobs_of(ledger.grants.grant()) == {*batch[:2], single}


def test_a_weight_moves_a_user_forward(ledger: Ledger, ann: str) -> None:
    """With weight 3 a user has three slots where others have one."""
    ledger.users.set_plan("studio", in_flight=8, weight=Decimal(3))
    ledger.users.set_account("fal", slots=4)
    bob = ledger.users.add("bob").user_id
    hers = [post(ledger, ann).id for _ in range(8)]
    his = [post(ledger, bob).id for _ in range(3)]
    assert jobs_of(ledger.grants.grant()) == {*hers[:3], his[0]}


def test_a_job_under_way_comes_before_a_new_one(ledger: Ledger, ann: str) -> None:
    """Whatever came first: a half-finished job holds files and a run."""
    ledger.users.set_account("fal", slots=1)
    lanes = [Lane.TRAINING, Lane.BATCH, Lane.INTERACTIVE, Lane.CONTINUE]
    jobs = {lane: post(ledger, ann, lane=lane).id for lane in lanes}
    order = []
    for _ in lanes:
        (granted,) = ledger.grants.grant()
        order.append(granted.job_id)
        ledger.requests.settle(granted.ref, SUCCESS, via="poll")
    assert order == [jobs[lane] for lane in sorted(lanes)]


def test_a_row_waits_for_its_time(ledger: Ledger, ann: str) -> None:
    """And the granter knows when to come again."""
    soon = utc_now() + timedelta(minutes=5)
    later = soon + timedelta(minutes=5)
    post(ledger, ann, not_before=later)
    post(ledger, ann, not_before=soon)
    due = post(ledger, ann, not_before=utc_now() - timedelta(seconds=1))
    assert ledger.grants.outlook().due == soon
    assert jobs_of(ledger.grants.grant()) == {due.id}


def test_an_account_that_was_made_smaller_grants_nothing_until_it_fits(ledger: Ledger, ann: str) -> None:
    """What is held is not taken back."""
    for _ in range(3):
        post(ledger, ann)
    held = ledger.grants.grant()
    waiting = post(ledger, ann)
    ledger.users.set_account("fal", slots=2)
    settled = [ledger.requests.settle(each.ref, SUCCESS, via="poll") and ledger.grants.grant() for each in held]
    assert [jobs_of(granted) for granted in settled] == [set(), {waiting.id}, set()]


def test_a_slot_is_held_until_the_end(ledger: Ledger, ann: str) -> None:
    """Granted, submitting, in flight: one slot, given back by whatever ends it."""
    ledger.users.set_account("fal", slots=1)
    picture = granted_picture(ledger, ann)
    waiting = post(ledger, ann)
    for step in (lambda: None, picture.submit, picture.accept):
        step()
        assert ledger.grants.grant() == []
    assert grants(picture.settle()[1])
    assert jobs_of(ledger.grants.grant()) == {waiting.id}


def test_a_refusal_gives_the_slot_back(ledger: Ledger, ann: str) -> None:
    """The row is in the queue again, in its old place once its time has come."""
    ledger.users.set_account("fal", slots=1)
    picture = granted_picture(ledger, ann)
    waiting = post(ledger, ann)
    picture.submit()
    due = utc_now() + timedelta(minutes=1)
    assert grants(ledger.requests.refused(picture.ref, error={"code": "rate_limited"}, not_before=due))
    row = picture.row
    assert (row.status, row.granted_at, row.submitted_at, row.deadline_at) == (RequestStatus.QUEUED, None, None, None)
    assert (row.error, row.not_before) == ({"code": "rate_limited"}, due)
    assert jobs_of(ledger.grants.grant()) == {waiting.id}


def test_a_lost_answer_keeps_the_slot(ledger: Ledger, ann: str) -> None:
    """The provider may be at work on it: a slot given away would be one more than it allows."""
    ledger.users.set_account("fal", slots=1)
    picture = granted_picture(ledger, ann)
    post(ledger, ann)
    picture.submit()
    assert not grants(ledger.requests.answer_lost(picture.ref))
    assert picture.row.status is RequestStatus.UNKNOWN
    assert ledger.grants.grant() == []
