"""A submit whose answer was lost is found in fal's own list, with a real ledger and the simulated fal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import uuid4

import pytest
from ledger_databases import Db
from ledger_scenes import DEV, SUCCESS, Picture, granted_picture, submitting_picture, webhook
from simulated_fal import SimulatedFal
from support import wait_until

from darkroom.errors import SubmitUnknown
from darkroom.ledger import Ledger, RequestStatus
from darkroom.providers.fal import Fal
from darkroom.providers.fal.lost_submits import adopt_lost_submits


@pytest.fixture
def client(simulator: SimulatedFal) -> Iterator[Fal]:
    with Fal("sim:key") as fal:
        yield fal


@pytest.fixture
def lose(ledger: Ledger, client: Fal, db: Db, simulator: SimulatedFal) -> Callable[[str], Picture]:
    """A picture that the provider has, though nobody heard its answer, as it stands after eleven seconds."""

    def lose(prompt: str) -> Picture:
        simulator.rule(match=prompt, submit="cut", hold=True)
        picture = granted_picture(ledger, a_user(ledger), input={"prompt": prompt})
        picture.submit()
        with pytest.raises(SubmitUnknown):
            client.submit(DEV, picture.row.input, webhook_url=None, start_timeout=timedelta(minutes=5))
        ledger.requests.answer_lost(picture.ref)
        db.execute("UPDATE request SET submitted_at = submitted_at - interval '11 s' WHERE ref = %s", [picture.ref])
        return picture

    return lose


def a_user(ledger: Ledger) -> str:
    """Each picture's own, so that each has a run of its own."""
    return ledger.users.add(uuid4().hex).user_id


def adopt(ledger: Ledger, client: Fal) -> list[str]:
    return adopt_lost_submits(ledger, client, ledger.requests.holding_slots())


def test_a_lost_submit_is_in_flight_once_it_is_found(
    ledger: Ledger, client: Fal, simulator: SimulatedFal, lose: Callable[[str], Picture]
) -> None:
    """Under the provider's own id, so that it can be polled and cancelled; found once."""
    picture = lose("a lost fox")
    assert adopt(ledger, client) == [picture.ref]
    (there,) = simulator.requests("a lost fox")
    assert (picture.row.status, picture.row.request_id) == (RequestStatus.IN_FLIGHT, there["request_id"])
    assert adopt(ledger, client) == []


def test_a_lost_submit_that_runs_for_long_is_found_when_it_ends(
    ledger: Ledger, client: Fal, db: Db, simulator: SimulatedFal, lose: Callable[[str], Picture]
) -> None:
    """Where the list shows a request only then, and by its end: long after the seconds of its POST."""
    simulator.platform(request_list="ended")
    picture = lose("a slow fox")
    db.execute("UPDATE request SET submitted_at = submitted_at - interval '18 s' WHERE ref = %s", [picture.ref])
    (there,) = simulator.requests("a slow fox")
    assert adopt(ledger, client) == []
    simulator.release(there["request_id"])
    wait_until(lambda: simulator.requests("a slow fox")[0]["status"] == "COMPLETED")
    assert adopt(ledger, client) == [picture.ref]
    assert picture.row.request_id == there["request_id"]


def test_the_same_prompt_lost_twice_is_two_requests(
    ledger: Ledger, client: Fal, simulator: SimulatedFal, lose: Callable[[str], Picture]
) -> None:
    """Each row has one of them, and none has both."""
    pictures = [lose("two foxes"), lose("two foxes")]
    adopt(ledger, client)
    assert {each.row.request_id for each in pictures} == {
        each["request_id"] for each in simulator.requests("two foxes")
    }


def test_a_request_that_a_row_of_ours_has_is_nobody_elses(
    ledger: Ledger, client: Fal, db: Db, simulator: SimulatedFal, lose: Callable[[str], Picture]
) -> None:
    """A submit that never arrived does not take the request of another row with the same prompt."""
    there = lose("one fox")
    assert adopt(ledger, client) == [there.ref]
    never_arrived = submitting_picture(ledger, a_user(ledger))
    ledger.requests.answer_lost(never_arrived.ref)
    given = "SELECT submitted_at, input FROM request WHERE ref = %s"
    db.execute(f"UPDATE request SET (submitted_at, input) = ({given}) WHERE ref = %s", [there.ref, never_arrived.ref])
    assert adopt(ledger, client) == []
    assert never_arrived.row.status is RequestStatus.UNKNOWN


def test_a_request_that_came_as_another_rows_duplicate_is_nobody_elses(
    ledger: Ledger, client: Fal, simulator: SimulatedFal, lose: Callable[[str], Picture]
) -> None:
    """It is on record with its cost, though no row bears its id."""
    lose("a fox told of")
    (there,) = simulator.requests("a fox told of")
    other = submitting_picture(ledger, a_user(ledger))
    for request_id in ("fal-first", there["request_id"]):
        other.settle(SUCCESS, webhook(request_id))
    assert adopt(ledger, client) == []


def test_while_the_same_is_being_submitted_nothing_is_adopted(
    ledger: Ledger, client: Fal, db: Db, lose: Callable[[str], Picture]
) -> None:
    """The request in the list may be the one whose answer is still on its way."""
    lost = lose("a fox in doubt")
    beside = submitting_picture(ledger, a_user(ledger))
    db.execute("UPDATE request SET input = %s WHERE ref = %s", ['{"prompt": "a fox in doubt"}', beside.ref])
    assert adopt(ledger, client) == []
    beside.accept("fal-another")
    assert adopt(ledger, client) == [lost.ref]


def test_a_key_that_may_not_read_the_list_looks_for_nothing(
    ledger: Ledger, simulator: SimulatedFal, lose: Callable[[str], Picture]
) -> None:
    """Nothing is raised: the row waits for its webhook or for its time to be over."""
    picture = lose("an unseen fox")
    with Fal("") as stranger:
        assert adopt(ledger, stranger) == []
    assert picture.row.status is RequestStatus.UNKNOWN
