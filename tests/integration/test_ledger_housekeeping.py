"""What is deleted when it is old, and what stays."""

from __future__ import annotations

from datetime import timedelta

import pytest
from ledger_databases import Db
from ledger_scenes import post

from darkroom.ledger import EventStart, Ledger, NewEvent
from darkroom.ledger.housekeeping import MOST_FORGOTTEN

MONTH = timedelta(days=30)
AGES = """
    UPDATE event SET received_at = received_at - interval '40 days', told_at = received_at;
    UPDATE start SET settled_at = settled_at - interval '40 days'
"""


def send(ledger: Ledger, user_id: str, **details: object) -> str:
    event = NewEvent(**{"name": "user.did", "user_id": user_id, "owner_id": user_id, "data": {}, **details})  # type: ignore[arg-type]
    (received,), _ = ledger.events.receive("ann's key", [event], matches=lambda *_: True)
    return received.id


def ids(db: Db, table: str) -> set[str]:
    return {row["id"] for row in db.execute(f"SELECT id FROM {table}")}  # type: ignore[arg-type]


def test_old_events_go_with_what_they_did_and_new_ones_stay(ledger: Ledger, ann: str, db: Db) -> None:
    """And the sender's id of an old one may be another event's."""
    start = EventStart(deployment="onboard-user/on-demand", parameters={"account": "a-1"})
    old = send(ledger, ann, key="1", starts=(start,))
    db.execute(AGES)
    new = send(ledger, ann, key="2", starts=(start,))
    assert ledger.housekeeping.forget(older_than=MONTH) == 1
    assert ids(db, "event") == {new}
    assert {row["event_id"] for row in db.execute("SELECT event_id FROM event_effect")} == {new}
    assert send(ledger, ann, key="1") != old


def test_an_event_that_prefect_is_not_told_of_stays(ledger: Ledger, ann: str, db: Db) -> None:
    """However old: it is told first."""
    id = send(ledger, ann)
    db.execute("UPDATE event SET received_at = received_at - interval '40 days', told_at = NULL")
    assert not ledger.housekeeping.forget(older_than=MONTH)
    assert ids(db, "event") == {id}


def test_an_event_that_a_wait_took_stays(ledger: Ledger, ann: str, db: Db) -> None:
    """Its job is called again with what the event said."""
    id, job = send(ledger, ann), post(ledger, ann)
    db.execute(AGES)
    db.execute(
        "INSERT INTO wait (id, job_id, user_id, name, kind, status, event_id, created_at)"
        " VALUES ('w', %s, %s, 'answer', 'event', 'came', %s, now())",
        [job.id, ann, id],
    )
    assert not ledger.housekeeping.forget(older_than=MONTH)
    assert ids(db, "event") == {id}


@pytest.mark.parametrize(("status", "stays"), [("waiting", True), ("gathering", True), ("begun", False)])
def test_a_pending_run_stays_until_it_has_begun(ledger: Ledger, ann: str, db: Db, status: str, stays: bool) -> None:
    """With the events that it is made of."""
    id = send(ledger, ann)
    db.execute(
        "INSERT INTO start (id, deployment, user_id, status, takes_all, gate_key, priority, parameters, events, bytes,"
        " created_at, ranked_at, settled_at)"
        " VALUES ('s', 'a/b', %s, %s, true, '', 0, '{}', 1, 2, now(), now(), now())",
        [ann, status],
    )
    db.execute(
        "INSERT INTO event_effect (event_id, n, what, start_id, start_n, at) VALUES (%s, 0, 'held', 's', 1, now())",
        [id],
    )
    db.execute(AGES)
    ledger.housekeeping.forget(older_than=MONTH)
    assert ids(db, "start") == ({"s"} if stays else set())
    assert ids(db, "event") == ({id} if stays else set())


def test_no_more_is_deleted_at_once_than_a_turn_has_time_for(ledger: Ledger, db: Db) -> None:
    """The next turns go on with it, the oldest first."""
    db.execute(
        "INSERT INTO event (id, source, name, depth, status, occurred_at, received_at, told_at)"
        " SELECT 'e' || n, 'shop', 'user.did', 0, 'accepted', now(), now() - n * interval '1 day', now()"
        " FROM generate_series(40, %s) AS n",
        [40 + MOST_FORGOTTEN],
    )
    assert ledger.housekeeping.forget(older_than=MONTH) == MOST_FORGOTTEN
    assert ids(db, "event") == {"e40"}
