"""Deliveries on the ledger: who puts them on record, who has claimed them, and whose word about them counts."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta

import pytest
from interleaving import overlap
from ledger_databases import Db
from ledger_scenes import post
from support import SLOW

from darkroom.clock import utc_now
from darkroom.ledger import Callback, JobStatus, Ledger, Sent

DELIVERED = Sent(status=200, answer="thanks")


@pytest.fixture
def later(ledger_url: str, ledger: Ledger) -> Iterator[Ledger]:
    """The same ledger, when every claim of now has run out."""
    ahead = ledger.timing.callback_claim + timedelta(seconds=1)
    with closing(Ledger(ledger_url, clock=lambda: utc_now() + ahead)) as later:
        yield later


@pytest.fixture
def two(ledger: Ledger, ann: str) -> list[str]:
    """Two deliveries that are due, in their order."""
    ledger.callbacks.put_endpoint(ann, url="https://shop.example/news", events=["job.completed"], thin=True)
    for _ in range(2):
        ledger.jobs.finish(post(ledger, ann).id, JobStatus.COMPLETED)
    ledger.news.now()
    ledger.callbacks.put_on_record()
    found = ledger.callbacks.page(ann, user_id=None, status=None, before=None, limit=10)
    return [each.id for each in sorted(found, key=lambda each: each.number or 0)]


def claim(ledger: Ledger) -> list[Callback]:
    return ledger.callbacks.claim(most=1, slots=1, free={})


def on_record(ledger: Ledger, callback: Callback) -> Callback:
    found = ledger.callbacks.get(callback.id, owner_id=callback.owner_id, user_id=None)
    assert found is not None
    return found


def test_two_who_claim_at_once_have_one_each(ledger: Ledger, db: Db, two: list[str]) -> None:
    """Two gateways: no delivery is sent by both."""
    claimed = overlap(db, lambda: claim(ledger), lambda: claim(ledger), at="UPDATE ON callback")
    assert [each.id for found in claimed for each in found] == two


def test_who_claims_waits_for_nobody_who_holds_a_delivery(ledger: Ledger, db: Db, two: list[str]) -> None:
    """A gateway that stands still in the midst of a claim keeps no other from sending the rest."""
    with ThreadPoolExecutor(1) as pool, db.transaction():
        db.execute("SELECT FROM callback WHERE id = %s FOR UPDATE", [two[0]])
        (claimed,) = pool.submit(claim, ledger).result(timeout=SLOW * 4)
    assert claimed.id == two[1]


def test_who_reads_the_news_on_waits_for_nobody_who_does_so(ledger: Ledger, db: Db, two: list[str]) -> None:
    """Nor does it put anything on record beside them."""
    callback = claim(ledger)[0]
    ledger.jobs.finish(post(ledger, callback.owner_id).id, JobStatus.COMPLETED)
    ledger.news.now()
    with ThreadPoolExecutor(1) as pool, db.transaction():
        db.execute("SELECT FROM callback_cursor FOR UPDATE")
        pool.submit(ledger.callbacks.put_on_record).result(timeout=SLOW * 4)
        assert db.execute("SELECT count(*) AS n FROM callback").fetchone() == {"n": 2}
    ledger.callbacks.put_on_record()
    assert db.execute("SELECT count(*) AS n FROM callback").fetchone() == {"n": 3}


def test_what_was_claimed_is_nobody_elses_until_the_claim_has_run_out(
    ledger: Ledger, later: Ledger, two: list[str]
) -> None:
    """Then its sender counts as dead, and the next one has it under the same id."""
    assert [claim(ledger)[0].id for _ in two] == two
    assert claim(ledger) == []
    assert [claim(later)[0].id for _ in two] == two


def test_a_failure_after_the_claim_has_run_out_changes_nothing(ledger: Ledger, later: Ledger, two: list[str]) -> None:
    """Another has it by then: it would be given up, or be sent once more, in the midst of that one's attempt."""
    (old,) = claim(ledger)
    new = next(each for each in later.callbacks.claim(most=2, slots=2, free={}) if each.id == old.id)
    ledger.callbacks.sent(old, Sent(error="it answered 500", again=None))
    assert on_record(ledger, old) == new
    assert (new.status, new.attempts) == ("pending", 0)


def test_a_delivery_that_two_have_made_is_on_record_once(ledger: Ledger, later: Ledger, two: list[str]) -> None:
    """The one who was thought dead has sent it, too."""
    (old,) = claim(ledger)
    ledger.callbacks.sent(old, DELIVERED)
    before = on_record(ledger, old)
    assert (before.status, before.attempts) == ("delivered", 1)
    later.callbacks.sent(old, Sent(status=204, answer=""))
    later.callbacks.sent(old, Sent(error="it answered 500", again=utc_now()))
    assert on_record(ledger, old) == before


def test_of_two_who_set_an_endpoint_first_one_is_shown_the_secret(ledger: Ledger, db: Db, ann: str) -> None:
    """It is shown once."""
    ledger.callbacks.endpoint(ann)

    def put(url: str) -> bool:
        return ledger.callbacks.put_endpoint(ann, url=url, events=["job.failed"], thin=False)[1]

    places = [f"https://shop.example/{n}" for n in range(2)]
    shown = overlap(db, lambda: put(places[0]), lambda: put(places[1]), at="UPDATE ON callback_endpoint")
    assert shown == (True, False)


def test_an_endpoint_that_is_off_again_is_told_again(ledger: Ledger, two: list[str], ann: str) -> None:
    """Whoever was told knows of the first time alone."""

    def switch_off() -> None:
        (callback,) = claim(ledger)
        ledger.callbacks.sent(callback, Sent(status=410, error="it answered 410: gone", gone=True))

    switch_off()
    (first,) = ledger.callbacks.off()
    ledger.callbacks.put_endpoint(ann, url="https://shop.example/news", events=["job.completed"], thin=True)
    ledger.callbacks.resend_dead(ann, user_id=None, since=first.off_at - timedelta(days=1))
    switch_off()
    ledger.callbacks.off_notified(first)
    (second,) = ledger.callbacks.off()
    ledger.callbacks.off_notified(second)
    assert ledger.callbacks.off() == []


def test_what_an_endpoint_answered_where_it_was_before_does_not_switch_it_off(
    ledger: Ledger, two: list[str], ann: str
) -> None:
    """It has moved while the delivery was under way: a 410 says nothing of the new address, nor a failure there."""
    (callback,) = claim(ledger)
    ledger.callbacks.put_endpoint(ann, url="https://shop.example/moved", events=["job.completed"], thin=True)
    ledger.callbacks.sent(callback, Sent(status=410, error="it answered 410: gone", gone=True))
    endpoint = ledger.callbacks.endpoint(ann)
    assert (endpoint.off_at, endpoint.failing_since) == (None, None)


def test_what_an_endpoint_took_where_it_was_before_says_nothing_of_the_new_address(
    ledger: Ledger, two: list[str], ann: str
) -> None:
    """That has failed since it is the endpoint's."""
    (callback,) = claim(ledger)
    ledger.callbacks.put_endpoint(ann, url="https://shop.example/moved", events=["job.completed"], thin=True)
    (moved,) = claim(ledger)
    ledger.callbacks.sent(moved, Sent(status=500, error="it answered 500", again=utc_now()))
    failing_since = ledger.callbacks.endpoint(ann).failing_since
    assert failing_since is not None
    ledger.callbacks.sent(callback, DELIVERED)
    assert ledger.callbacks.endpoint(ann).failing_since == failing_since


def test_two_deliveries_that_end_an_endpoint_at_once_do_not_wait_in_a_circle(
    ledger: Ledger, db: Db, two: list[str], ann: str
) -> None:
    """The first gives up what is pending, the second's delivery with it. It is switched off, and told, once."""
    gone = Sent(status=410, error="it answered 410: gone", gone=True)
    first, second = ledger.callbacks.claim(most=2, slots=2, free={})
    overlap(
        db,
        lambda: ledger.callbacks.sent(first, gone),
        lambda: ledger.callbacks.sent(second, gone),
        at="UPDATE ON callback_endpoint",
    )
    assert {on_record(ledger, each).status for each in (first, second)} == {"dead"}
    told = db.execute("SELECT count(*) AS n FROM notification WHERE event = 'callback.disabled'").fetchone()
    assert told == {"n": 1}
