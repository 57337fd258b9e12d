"""Users, keys, plans and accounts: keys are seen once and stored as digests, limits are checked before they count."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from interleaving import all_at_once, overlap
from ledger_databases import Db
from support import SLOW

from darkroom.clock import utc_now
from darkroom.errors import BadInput
from darkroom.ledger import OPERATOR, Ledger, NewKey, Scope


def whose(ledger: Ledger, key: str) -> tuple[str, bool] | None:
    """Whom the key opens for, and whether that is a service."""
    caller = ledger.users.authenticate(key)
    return caller and (caller.user_id, caller.service)


def test_a_key_opens_for_its_user(ledger: Ledger) -> None:
    """And no other text does."""
    ann = ledger.users.add("ann")
    assert whose(ledger, ann.key) == (ann.user_id, False)
    assert ledger.users.authenticate(ann.key[:-1]) is None
    assert ledger.users.authenticate("") is None


def test_a_key_is_nowhere_in_the_database(ledger: Ledger, db: Db) -> None:
    """Whoever reads the database, or a backup of it, cannot act for anybody."""
    keys = [ledger.users.add("ann").key, ledger.users.add("shop", service=True).key, ledger.users.rotate("ann").key]
    tables = [row["tablename"] for row in db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    assert {"user", "api_key", "job"} <= set(tables)
    for table in tables:
        found = db.execute(f'SELECT CAST(t AS text) AS row FROM "{table}" t').fetchall()
        assert not [row for row in found if any(key.removeprefix("dk_") in row["row"] for key in keys)]


def test_a_rotated_key_opens_for_a_day_more(ledger_url: str) -> None:
    """Then it stops by itself. The new one belongs to the same user, with the same rights."""
    clock = SetClock()
    ledger = Ledger(ledger_url, clock=clock)
    shop = ledger.users.add("shop", service=True)
    new = ledger.users.rotate("shop")
    for _ in range(2):  # also after a second rotation, which gives no key more time
        assert ledger.users.authenticate(shop.key) is not None
        clock.now += timedelta(hours=23)
        ledger.users.rotate("shop")
    assert ledger.users.authenticate(shop.key) is None
    assert whose(ledger, new.key) == (shop.user_id, True)
    ledger.close()


def test_a_rotation_without_overlap_ends_the_old_keys_at_once(ledger: Ledger) -> None:
    """Also those that an earlier rotation has left some time: somebody has them who should not."""
    shop = ledger.users.add("shop", service=True)
    second = ledger.users.rotate("shop")
    third = ledger.users.rotate("shop", overlap=timedelta(0))
    assert [ledger.users.authenticate(old.key) for old in (shop, second)] == [None, None]
    assert whose(ledger, third.key) == (shop.user_id, True)


def test_keys_are_listed_with_their_ends(ledger: Ledger) -> None:
    """Those that open: when they were made, when they stop, and not what they are."""
    ann = ledger.users.add("ann")
    ledger.users.rotate("ann", overlap=timedelta(0))
    ledger.users.rotate("ann", overlap=timedelta(hours=1))
    old, new = ledger.users.keys()[ann.user_id]
    assert (old.expires_at is not None, new.expires_at) == (True, None)
    assert old.created_at < new.created_at


def test_a_key_is_good_for_its_scopes_until_it_ends(ledger_url: str) -> None:
    """Several of one user, each with its own; ending one leaves the others."""
    clock = SetClock()
    ledger = Ledger(ledger_url, clock=clock)
    ann = ledger.users.add("ann")
    hour = ledger.keys.add(ann.user_id, name="an hour", scopes=["read"], expires_at=clock.now + timedelta(hours=1))
    whole = ledger.keys.add(ann.user_id, name="all", scopes=["read", "admin", "orders", "events"])
    caller = ledger.users.authenticate(hour.key)
    assert caller is not None and caller.scopes == {Scope.READ}
    assert [key.name for key in ledger.keys.page(limit=2, user_id=ann.user_id)] == ["all", "an hour"]
    clock.now += timedelta(hours=2)
    ledger.keys.revoke(whole.id)
    assert [ledger.users.authenticate(each.key) is not None for each in (hour, whole, ann)] == [False, False, True]
    ended = {key.name: key.status(clock.now) for key in ledger.keys.page(limit=9, user_id=ann.user_id)}
    assert ended == {"all": "revoked", "an hour": "expired", "": "open"}
    ledger.close()


def test_a_rotated_key_is_good_for_what_the_old_ones_were(ledger: Ledger) -> None:
    """A reader becomes no admin by it, and the operator stays one."""
    reader = ledger.users.add("reader", scopes=["read"])
    revoked = ledger.keys.add(reader.user_id, name="gone", scopes=["admin"])
    ledger.keys.revoke(revoked.id)
    scopes = {}
    for name in ("reader", OPERATOR):
        caller = ledger.users.authenticate(ledger.users.rotate(name).key)
        assert caller is not None
        scopes[name] = caller.scopes
    assert scopes == {"reader": {Scope.READ}, OPERATOR: set(Scope)}


def test_the_use_of_a_key_is_written_once_a_minute(ledger_url: str, db: Db) -> None:
    """Not with every request: that would be a write to one row for each of them."""
    clock = SetClock()
    ledger = Ledger(ledger_url, clock=clock)
    ann, began = ledger.users.add("ann"), clock.now
    written = []
    for seconds in (0, 30, 59, 61, 100):
        clock.now = began + timedelta(seconds=seconds)
        assert ledger.users.authenticate(ann.key) is not None
        (row,) = db.execute("SELECT last_used_at FROM api_key WHERE user_id = %s", [ann.user_id])
        written.append((row["last_used_at"] - began).total_seconds())
    assert written == [0, 0, 0, 61, 61]
    ledger.close()


def test_a_key_that_two_end_at_once_has_ended_with_the_first(ledger: Ledger, ledger_url: str, db: Db) -> None:
    """What is on record of it stays."""
    key = ledger.users.add("ann").id
    with closing(Ledger(ledger_url, clock=lambda: utc_now() + timedelta(hours=1))) as later:
        _, second = overlap(db, lambda: ledger.keys.revoke(key), lambda: later.keys.revoke(key), at="UPDATE ON api_key")
    assert second.revoked_at is not None and second.revoked_at < utc_now()


def test_who_calls_waits_for_nobody_who_notes_the_use_of_the_key(ledger: Ledger, db: Db) -> None:
    """Of many calls with one key in the same moment: what the others would write is the same."""
    ann = ledger.users.add("ann")
    with ThreadPoolExecutor(1) as pool, db.transaction():
        db.execute("SELECT FROM api_key FOR NO KEY UPDATE")
        assert pool.submit(ledger.users.authenticate, ann.key).result(timeout=SLOW * 4) is not None


def test_who_opens_a_session_waits_for_nobody_who_forgets_old_ones(ledger: Ledger, ledger_url: str, db: Db) -> None:
    """They forget the same ones."""
    ann = ledger.users.add("ann")
    caller = ledger.users.authenticate(ann.key)
    assert caller is not None
    ledger.sessions.open(caller.key)
    with closing(Ledger(ledger_url, clock=lambda: utc_now() + timedelta(days=1))) as later:
        with ThreadPoolExecutor(1) as pool, db.transaction():
            db.execute("SELECT FROM session FOR UPDATE")
            token = pool.submit(later.sessions.open, caller.key).result(timeout=SLOW * 4).token
        assert later.users.authenticate(token) is not None


def test_a_revoked_user_has_no_key(ledger: Ledger) -> None:
    """Until the next rotation."""
    ann = ledger.users.add("ann")
    ledger.users.revoke("ann")
    assert ledger.users.authenticate(ann.key) is None
    assert ledger.users.authenticate(ledger.users.rotate("ann").key) is not None


def test_of_two_rotations_at_once_one_key_works(ledger: Ledger, db: Db) -> None:
    """Without the user's lock neither would revoke the other's, and a key nobody knows of would stay valid."""
    ledger.users.add("ann")

    def rotate() -> NewKey:
        return ledger.users.rotate("ann", overlap=timedelta(0))

    keys = overlap(db, rotate, rotate, at="INSERT ON api_key")
    assert [ledger.users.authenticate(new.key) is not None for new in keys] == [False, True]


def test_a_name_is_taken_once(ledger: Ledger) -> None:
    """Also of twelve who want it at once."""

    def add() -> NewKey | str:
        try:
            return ledger.users.add("ann")
        except BadInput as error:
            return error.field

    outcomes = all_at_once([add] * 12)
    assert sum(isinstance(outcome, NewKey) for outcome in outcomes) == 1
    assert outcomes.count("name") == 11


def test_an_end_user_is_made_on_first_use(ledger: Ledger) -> None:
    """Once, also by twelve first uses at once, with the plan of the service."""
    shop = ledger.users.add("shop", plan="studio", service=True)
    users = all_at_once([lambda: ledger.users.end_user(shop.user_id, "customer 7")] * 12)
    assert len({user.id for user in users}) == 1
    assert (users[0].parent_id, users[0].plan) == (shop.user_id, "studio")


def test_end_users_of_two_services_are_two(ledger: Ledger) -> None:
    """And neither is the user of that name."""
    names = ("shop", "club")
    services = [ledger.users.add(name, service=True).user_id for name in names]
    ids = {ledger.users.end_user(service, "ann").id for service in services}
    assert len(ids | {ledger.users.add("ann").user_id}) == 3


def test_a_user_is_found_by_name_or_id(ledger: Ledger) -> None:
    """And an unknown one with the remedy."""
    ann = ledger.users.add("ann")
    assert ledger.users.find("ann").id == ledger.users.find(ann.user_id).id == ann.user_id
    assert ledger.users.find(OPERATOR).id == OPERATOR
    with pytest.raises(BadInput, match="darkroom user add"):
        ledger.users.find("bob")


class SetClock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = utc_now()

    def __call__(self) -> datetime:
        return self.now


WRONG: dict[str, tuple[str, Callable[[Ledger], object]]] = {
    "an unknown plan": ("plan", lambda ledger: ledger.users.add("ann", plan="gold")),
    "a user nobody knows": ("name", lambda ledger: ledger.users.rotate("bob")),
    "a scope that is none": ("scopes", lambda ledger: ledger.users.add("ann", scopes=["write"])),
    "no scope at all": ("scopes", lambda ledger: ledger.keys.add(OPERATOR, name="x", scopes=[])),
    "a key without a name": ("name", lambda ledger: ledger.keys.add(OPERATOR, name=" ")),
    "a key that is over": (
        "expires_at",
        lambda ledger: ledger.keys.add(OPERATOR, name="x", expires_at=utc_now() - timedelta(1)),
    ),
    "a key nobody knows": ("id", lambda ledger: ledger.keys.revoke("key_1")),
    "no calls at all": (
        "calls_per_minute",
        lambda ledger: ledger.users.set_plan("pro", in_flight=1, weight=Decimal(1), calls_per_minute=0),
    ),
    "an overlap that runs backwards": ("overlap", lambda ledger: ledger.users.rotate("ann", overlap=-timedelta(1))),
    "a weight of nothing": ("weight", lambda ledger: ledger.users.set_plan("pro", in_flight=1, weight=Decimal(0))),
    "a weight that rounds to nothing": (
        "weight",
        lambda ledger: ledger.users.set_plan("pro", in_flight=1, weight=Decimal("0.0004")),
    ),
    "a weight beyond the column": (
        "weight",
        lambda ledger: ledger.users.set_plan("pro", in_flight=1, weight=Decimal(100_000)),
    ),
    "less than none in flight": (
        "in_flight",
        lambda ledger: ledger.users.set_plan("pro", in_flight=-1, weight=Decimal(1)),
    ),
    "less than no slots": ("slots", lambda ledger: ledger.users.set_account("fal", slots=-1)),
    "a cap below nothing": (
        "fal-ai/flux/dev",
        lambda ledger: ledger.users.set_account("fal", endpoint_caps={"fal-ai/flux/dev": -1}),
    ),
}


@pytest.mark.parametrize(("field", "act"), WRONG.values(), ids=WRONG.keys())
def test_what_an_operator_gets_wrong_is_named(ledger: Ledger, field: str, act: Callable[[Ledger], object]) -> None:
    """A weight of 0 would end the grant for everybody with a division by it."""
    with pytest.raises(BadInput) as wrong:
        act(ledger)
    assert wrong.value.field == field


def test_plans_and_accounts_are_changed_and_made(ledger: Ledger) -> None:
    """Caps are merged by endpoint; what is not given stays."""
    ledger.users.set_plan("gold", in_flight=20, weight=Decimal("2.5"), daily_budget_usd=Decimal(10))
    ledger.users.set_account("fal", endpoint_caps={"a": 1, "b": 2})
    account = ledger.users.set_account("fal", slots=40, endpoint_caps={"b": 3})
    assert [plan.name for plan in ledger.users.plans()] == ["free", "pro", "studio", "gold"]
    assert (account.slots, account.endpoint_caps) == (40, {"a": 1, "b": 3})
    assert ledger.users.set_account("other").slots == 10


def test_caps_that_two_set_at_once_both_hold(ledger: Ledger, db: Db) -> None:
    """Each names one endpoint, and keeps what there is of the others."""
    overlap(
        db,
        lambda: ledger.users.set_account("fal", endpoint_caps={"a": 1}),
        lambda: ledger.users.set_account("fal", endpoint_caps={"b": 2}),
        at="UPDATE ON account",
    )
    assert ledger.users.account("fal").endpoint_caps == {"a": 1, "b": 2}


def test_the_provider_is_believed_once(ledger: Ledger) -> None:
    """Who our account is at the provider is learned from the first webhook whose id we hold, and then stands."""
    told = all_at_once([lambda name=name: ledger.users.learn_provider_user("fal", name) for name in "abcdef"])
    assert len(set(told)) == 1
    assert ledger.users.account("fal").provider_user_id == told[0]
