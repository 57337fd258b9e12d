"""Whose turn it is, over many grants: shares by weight, nobody starves, no lane stands still."""

from __future__ import annotations

from collections import Counter, deque
from decimal import Decimal
from itertools import pairwise

import pytest
from ledger_scenes import SUCCESS, post

from darkroom.ledger import Granted, Job, Lane, Ledger


@pytest.fixture
def ann(ledger: Ledger) -> str:
    ledger.users.set_plan("studio", in_flight=10, weight=Decimal(1))
    return ledger.users.add("ann", plan="studio").user_id


class Slots:
    """All slots of the account, held; the one held longest is freed first."""

    def __init__(self, ledger: Ledger, *_: Job) -> None:
        self._ledger = ledger
        self._held = deque(ledger.grants.grant())

    def free(self, times: int) -> list[Granted]:
        """What is granted as one slot after the other comes free."""
        granted: list[Granted] = []
        for _ in range(times):
            self._ledger.requests.settle(self._held.popleft().ref, SUCCESS, via="poll")
            new = self._ledger.grants.grant()
            self._held += new
            granted += new
        return granted


def test_a_single_picture_beside_a_batch_gets_one_of_the_next_two_slots(ledger: Ledger, ann: str) -> None:
    """A holds 10 of 10 and has 300 queued, then B asks for one."""
    for _ in range(310):
        post(ledger, ann)
    slots = Slots(ledger)
    slots.free(7)
    single = post(ledger, ledger.users.add("bob", plan="studio").user_id)
    assert single.id in {each.job_id for each in slots.free(2)}


def test_twenty_equal_users_on_ten_slots_all_get_theirs(ledger: Ledger) -> None:
    """By the slots held at the moment, the oldest ten would take turns among themselves and the rest would wait."""
    users = [ledger.users.add(f"user {n}").user_id for n in range(20)]
    owners = {post(ledger, user).id: user for user in users for _ in range(12)}
    granted = Counter(owners[each.job_id] for each in Slots(ledger).free(190))
    assert max(granted.values()) - min(granted.values()) <= 1
    assert len(granted) == 20


def test_twice_the_weight_is_twice_the_slots(ledger: Ledger) -> None:
    """To within one grant, while both have more to do than they get."""
    ledger.users.set_plan("double", in_flight=10, weight=Decimal(2))
    ledger.users.set_plan("single", in_flight=10, weight=Decimal(1))
    owners = {}
    for plan in ("double", "single"):
        user = ledger.users.add(plan, plan=plan).user_id
        owners |= {post(ledger, user).id: plan for _ in range(120)}
    granted = Counter(owners[each.job_id] for each in Slots(ledger).free(120))
    assert abs(granted["double"] - 80) <= 1


def test_a_pause_saves_up_no_turns(ledger: Ledger, ann: str) -> None:
    """Who comes back after others have had a hundred turns does not get the next hundred."""
    bob = ledger.users.add("bob", plan="studio").user_id
    owners = {post(ledger, bob).id: bob}
    owners |= {post(ledger, ann).id: ann for _ in range(160)}
    slots = Slots(ledger)
    slots.free(100)
    owners |= {post(ledger, bob).id: bob for _ in range(30)}
    granted = Counter(owners[each.job_id] for each in slots.free(20))
    assert abs(granted[bob] - 10) <= 1


def test_every_tenth_grant_goes_to_the_lowest_lane_that_waits(ledger: Ledger, ann: str) -> None:
    """A batch moves on though single pictures come faster than slots come free; so does a user's own."""
    bob = ledger.users.add("bob", plan="studio").user_id
    lanes = {post(ledger, bob, lane=Lane.BATCH).id: "batch" for _ in range(20)}
    lanes |= {post(ledger, ann, lane=Lane.TRAINING).id: "training" for _ in range(2)}
    lanes |= {post(ledger, ann).id: "interactive" for _ in range(150)}
    granted = [lanes[each.job_id] for each in Slots(ledger).free(100)]
    assert Counter(granted) == {"interactive": 90, "batch": 9, "training": 1}
    places = [place for place, lane in enumerate(granted) if lane != "interactive"]
    assert {later - earlier for earlier, later in pairwise(places)} == {10}


def test_limits_hold_from_the_next_grant_on(ledger: Ledger, ann: str) -> None:
    """The plan's number, the account's slots, an endpoint's cap, the weight: all read as the grant happens."""
    for _ in range(60):
        post(ledger, ann)
    ledger.users.set_account("fal", slots=3)
    held = ledger.grants.grant()
    assert len(held) == 3
    ledger.users.set_account("fal", slots=9)
    ledger.users.set_plan("studio", in_flight=5, weight=Decimal(1))
    assert len(ledger.grants.grant()) == 2
    ledger.users.set_plan("studio", in_flight=8, weight=Decimal(1))
    ledger.users.set_account("fal", endpoint_caps={"fal-ai/flux/dev": 6})
    assert len(ledger.grants.grant()) == 1


def test_the_place_in_line_is_the_number_of_grants_before_it(ledger: Ledger, ann: str) -> None:
    """By turns, not by age: the first row of a user who comes late stands before most of a batch."""
    ledger.users.set_plan("double", in_flight=10, weight=Decimal(2))
    users = [ann, ledger.users.add("bob", plan="double").user_id, ledger.users.add("eve", plan="studio").user_id]
    lanes = [Lane.INTERACTIVE, Lane.INTERACTIVE, Lane.BATCH]
    slots = Slots(ledger, *(post(ledger, ann) for _ in range(10)))
    jobs = [post(ledger, users[n % 3 if n > 20 else 0], lane=lanes[n % 3]) for n in range(60)]
    places = {job.id: _place(ledger, job) for job in jobs}
    granted = [each.job_id for each in slots.free(59)]
    interactive = [each for each in granted if ledger.requests.of_job(each)[0].lane is Lane.INTERACTIVE]
    in_turn = [places[each] for each in interactive]
    assert in_turn == sorted(in_turn)
    assert all(0 <= n - place <= 1 for n, place in enumerate(in_turn, 1)), "two whose turn is at once share a place"


def _place(ledger: Ledger, job: Job) -> int:
    said = ledger.waiting_for(job, ledger.requests.of_job(job.id))
    assert said is not None
    return int(said.rpartition("place ")[2])
