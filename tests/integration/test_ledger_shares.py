"""Shares over time: who gets how many of the slots that come free, while everybody has more waiting than they get.

The real grant on a real ledger; the provider is a line that ends the request of some slot, drawn by chance, again and
again. Each user is counted until the first of them has nothing left to wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from itertools import pairwise
from random import Random

import pytest
from ledger_databases import Db
from ledger_scenes import DEV

from darkroom.ledger import Lane, Ledger

SLOTS = 10
WITHIN = 0.1
PICTURES = 50  # of the lightest user; each other has so many more as the weight says
BACKLOG = """
    INSERT INTO job (id, user_id, kind, status, parameters, created_at)
    SELECT %(user_id)s || '-j' || %(lane)s || '-' || n, %(user_id)s, 'generate-image', 'pending', '{}', now()
    FROM generate_series(1, %(rows)s) AS n
"""
ROWS = """
    INSERT INTO request (ref, job_id, user_id, account_id, step, attempt, endpoint, input, input_hash, lane, status,
                         token, estimate_usd, created_at)
    SELECT 'r-' || id, id, user_id, 'fal', 'generate', 1, %(endpoint)s, '{}', '', %(lane)s, 'queued', md5(id), 0.025,
           now() FROM job WHERE id LIKE %(user_id)s || '-j' || %(lane)s || '-%%'
"""
END = """
    UPDATE request SET status = 'succeeded', finished_at = now()
    WHERE ref = (SELECT ref FROM request WHERE status = 'granted' ORDER BY md5(ref || %(turn)s::text) LIMIT 1)
"""


def backlog(db: Db, user_id: str, rows: int, *, lane: Lane = Lane.INTERACTIVE) -> None:
    db.execute(BACKLOG, {"user_id": user_id, "rows": rows, "lane": int(lane)})
    db.execute(ROWS, {"user_id": user_id, "lane": int(lane), "endpoint": DEV})


def users(ledger: Ledger, weights: Mapping[str, int]) -> dict[str, str]:
    """Name → id. What a plan allows at once is no limit here."""
    ledger.users.set_account("fal", slots=SLOTS)
    found = {}
    for name, weight in weights.items():
        ledger.users.set_plan(f"weight {weight}", in_flight=SLOTS, weight=Decimal(weight))
        found[name] = ledger.users.add(name, plan=f"weight {weight}").user_id
    return found


def grants(ledger: Ledger, db: Db, *, until: int, random: Random) -> list[tuple[str, int]]:
    """User and lane of so many slots, in the order of the grants. One to three come free at a time."""
    seen: list[tuple[str, int]] = []
    while True:
        refs = [each.ref for each in ledger.grants.grant()]
        rows = db.execute("SELECT ref, user_id, lane FROM request WHERE ref = ANY(%s)", [refs]).fetchall()
        seen += [(row["user_id"], row["lane"]) for row in rows]
        if len(seen) >= until or not refs:
            return seen[:until]
        for _ in range(random.randint(1, 3)):
            db.execute(END, {"turn": random.random()})


@pytest.mark.parametrize(
    "weights",
    [
        pytest.param({f"user {n}": 1 for n in range(20)}, id="all the same"),
        pytest.param({f"user {n}": 2 if n % 3 == 0 else 1 for n in range(20)}, id="seven of twice the weight"),
    ],
)
def test_twenty_users_get_their_weights_share_of_ten_slots(ledger: Ledger, db: Db, weights: dict[str, int]) -> None:
    """Each within a tenth of it, over fifty pictures of the lightest, though ten slots cannot hold one of each."""
    ids = users(ledger, weights)
    for name, user_id in ids.items():
        backlog(db, user_id, PICTURES * weights[name] + SLOTS)
    whole = PICTURES * sum(weights.values())

    got = Counter(user_id for user_id, _ in grants(ledger, db, until=whole, random=Random(4)))

    shares = {name: got[user_id] / PICTURES / weights[name] for name, user_id in ids.items()}
    assert sum(got.values()) == whole
    assert {name: share for name, share in shares.items() if abs(share - 1) > WITHIN} == {}


def test_of_two_users_the_one_of_twice_the_weight_gets_twice_as_much(ledger: Ledger, db: Db) -> None:
    """With ten slots between them, within a tenth."""
    ids = users(ledger, {"one": 1, "two": 2})
    for user_id in ids.values():
        backlog(db, user_id, 2 * PICTURES + SLOTS)

    got = Counter(user_id for user_id, _ in grants(ledger, db, until=3 * PICTURES, random=Random(4)))

    assert got[ids["two"]] / got[ids["one"]] == pytest.approx(2, rel=WITHIN)


def test_a_batch_moves_on_under_more_interactive_demand_than_there_are_slots(ledger: Ledger, db: Db) -> None:
    """One grant in ten is its own, no more while others wait, and it never waits for twenty."""
    ids = users(ledger, {"one": 1, "two": 1, "batch": 1})
    for name in ("one", "two"):
        backlog(db, ids[name], 2 * PICTURES)
    backlog(db, ids["batch"], PICTURES, lane=Lane.BATCH)

    seen = grants(ledger, db, until=3 * PICTURES, random=Random(4))

    places = [place for place, (_, lane) in enumerate(seen) if lane == Lane.BATCH]
    assert len(places) == pytest.approx(len(seen) / 10, abs=1)
    assert all(later - earlier < 20 for earlier, later in pairwise(places))
