"""Slots are each provider's own, and so is a user's number of them; a user's budget is one over all providers."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest
from interleaving import overlap
from ledger_databases import Db
from ledger_scenes import post

from darkroom.ledger import Granted, Ledger


@pytest.fixture
def ann(ledger: Ledger) -> str:
    ledger.users.set_plan("small", in_flight=2, weight=Decimal(1))
    return ledger.users.add("ann", plan="small").user_id


def by_account(ledger: Ledger, granted: list[Granted]) -> Counter[str]:
    return Counter(ledger.requests.get(each.ref).account_id for each in granted)


def test_what_a_user_holds_at_one_provider_does_not_count_at_another(ledger: Ledger, ann: str) -> None:
    """A debate's script need not wait for the user's pictures."""
    for account_id in ("fal", "gemini"):
        for _ in range(3):
            post(ledger, ann, account_id=account_id)
    assert by_account(ledger, ledger.grants.grant()) == {"fal": 2, "gemini": 2}


def test_an_account_may_say_itself_how_many_a_user_has(ledger: Ledger, ann: str) -> None:
    """Ten of a shop's pictures at a time, whatever the plan says of paid calls. `why` names that number."""
    jobs = [post(ledger, ann, account_id="web") for _ in range(12)]
    assert by_account(ledger, ledger.grants.grant()) == {"web": 10}
    said = ledger.waiting_for(jobs[-1], ledger.requests.of_job(jobs[-1].id))
    assert said == "slot: 10 of a user's 10 at web in use, place 2"


def test_a_provider_without_a_free_slot_holds_up_none_of_the_others(ledger: Ledger, db: Db, ann: str) -> None:
    """Nor does one that is down."""
    db.execute("UPDATE account SET slots = 0 WHERE id = 'elevenlabs'")
    db.execute("UPDATE account SET down_since = now(), probe_at = now() + interval '1 h' WHERE id = 'gemini'")
    for account_id in ("elevenlabs", "gemini", "mux"):
        post(ledger, ann, account_id=account_id)
    assert by_account(ledger, ledger.grants.grant()) == {"mux": 1}


def test_a_days_budget_is_one_for_all_providers(ledger: Ledger, db: Db, ann: str) -> None:
    """Also where two grants come at once, and though each provider's slots are its own."""
    ledger.users.set_plan("small", in_flight=2, weight=Decimal(1), daily_budget_usd=Decimal("0.10"))
    for account_id in ("fal", "gemini"):
        for _ in range(2):
            post(ledger, ann, account_id=account_id, estimate_usd=Decimal("0.04"))
    one, two = overlap(db, ledger.grants.grant, ledger.grants.grant, at="UPDATE ON request")
    assert len(one + two) == 2


def test_an_outage_beside_another_leaves_what_a_person_has_to_do(ledger: Ledger, db: Db) -> None:
    """Of two calls that were refused at once the one without a reason says nothing new."""
    overlap(
        db,
        lambda: ledger.accounts.out("fal", probe=False, reason="The balance is exhausted."),
        lambda: ledger.accounts.out("fal", probe=False),
        at="UPDATE ON account",
    )
    assert ledger.users.account("fal").down_reason == "The balance is exhausted."


def test_an_account_that_stands_still_again_is_told_again(ledger: Ledger) -> None:
    """Whoever was told knows of the first time alone."""
    ledger.accounts.out("fal", probe=False, reason="The balance is exhausted.")
    (first,) = ledger.accounts.to_notify()
    ledger.accounts.back("fal")
    ledger.accounts.out("fal", probe=False, reason="The account is locked.")
    ledger.accounts.notified(first)
    (second,) = ledger.accounts.to_notify()
    assert second.down_reason == "The account is locked."
    ledger.accounts.notified(second)
    assert ledger.accounts.to_notify() == []
