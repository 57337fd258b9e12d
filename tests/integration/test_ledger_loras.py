"""Versions of trigger words, each user's own, and where a provider has their weights."""

from __future__ import annotations

from datetime import timedelta

from interleaving import all_at_once
from ledger_scenes import post

from darkroom.clock import utc_now
from darkroom.ledger import Asset, Ledger, Lora, LoraStatus, StoredFile

NOBODYS = "ast_nobody"


def user(ledger: Ledger, name: str) -> str:
    return ledger.users.add(name, plan="pro").user_id


def asset(ledger: Ledger, user_id: str, asset_id: str) -> Asset:
    file = StoredFile(key=asset_id, sha256="0" * 64, content_type="application/octet-stream", bytes=1)
    return ledger.assets.add_upload(user_id, asset_id=asset_id, file=file)


def trained(ledger: Ledger, user_id: str, word: str = "fox", *, job_id: str | None = None) -> Lora:
    job_id = job_id or post(ledger, user_id).id
    kept = ledger.assets.get(f"ast_{user_id}") or asset(ledger, user_id, f"ast_{user_id}")
    return ledger.loras.register(job_id, user_id=user_id, trigger_word=word, weights=kept.id, config=kept.id)


def test_a_trigger_word_that_is_trained_again_is_the_next_version_of_its_user(ledger: Ledger) -> None:
    """Counted for each user and word."""
    ann, bob = user(ledger, "ann"), user(ledger, "bob")
    assert [trained(ledger, ann).version for _ in range(3)] == [1, 2, 3]
    assert trained(ledger, ann, "owl").version == 1
    assert trained(ledger, bob).version == 1


def test_a_training_has_one_lora_however_often_it_is_registered(ledger: Ledger) -> None:
    """Job functions are called again and again, and processes die in between."""
    ann = user(ledger, "ann")
    job_id = post(ledger, ann).id
    first = trained(ledger, ann, job_id=job_id)
    found = list[Lora]()
    all_at_once([lambda: found.append(trained(ledger, ann, job_id=job_id))] * 4)
    assert {each.id for each in found} == {first.id}
    assert trained(ledger, ann).version == 2


def test_trainings_that_end_at_once_have_a_version_each(ledger: Ledger) -> None:
    """Without the lock on their user two would be the same, and one of them fail."""
    ann = user(ledger, "ann")
    asset(ledger, ann, f"ast_{ann}")
    jobs = [post(ledger, ann).id for _ in range(6)]
    all_at_once([lambda job_id=job_id: trained(ledger, ann, job_id=job_id) for job_id in jobs])
    assert sorted(each.version for each in ledger.loras.page(ann, limit=10)) == [1, 2, 3, 4, 5, 6]


def test_a_word_is_its_newest_version_that_is_ready_and_an_id_is_always_itself(ledger: Ledger) -> None:
    """A version whose test pictures are not there yet is nothing to surprise anybody with."""
    ann = user(ledger, "ann")
    first, second, third = (trained(ledger, ann) for _ in range(3))
    assert ledger.loras.find(ann, "fox") is None
    for each in (first, second):
        ready = ledger.loras.ready(each.id, sample=each.weights_asset_id)
        assert (ready.status, ready.sample_asset_id) == (LoraStatus.READY, each.weights_asset_id)
    found = ledger.loras.find(ann, "fox")
    assert found is not None and found.id == second.id
    named = ledger.loras.find(ann, third.id)
    assert named is not None and (named.version, named.status) == (3, LoraStatus.TRAINED)


def test_nobody_finds_the_loras_of_others(ledger: Ledger) -> None:
    """Neither by word nor by id."""
    ann, bob = user(ledger, "ann"), user(ledger, "bob")
    lora = trained(ledger, ann)
    ledger.loras.ready(lora.id, sample=lora.weights_asset_id)
    assert ledger.loras.find(bob, "fox") is None
    assert ledger.loras.find(bob, lora.id) is None
    assert ledger.loras.page(bob, limit=10) == []


def test_a_list_of_loras_goes_on_where_its_page_ended(ledger: Ledger) -> None:
    """Newest first."""
    ann = user(ledger, "ann")
    made = [trained(ledger, ann, word).id for word in ("fox", "owl", "elk")]
    first = ledger.loras.page(ann, limit=2)
    second = ledger.loras.page(ann, limit=2, before=(first[-1].created_at, first[-1].id))
    assert [each.id for each in first + second] == made[::-1]


def test_a_copy_at_the_provider_serves_for_as_long_as_it_surely_lasts(ledger: Ledger) -> None:
    """One that ends while a call may still be under way is brought anew."""
    ann = user(ledger, "ann")
    weights, now = asset(ledger, ann, "ast_1").id, utc_now()
    assert ledger.loras.copy_at("fal", weights, until=now) is None
    for url, hours in (("https://v3.fal.media/1", 1), ("https://v3.fal.media/2", 24)):
        ledger.loras.keep_copy("fal", weights, url=url, expires_at=now + timedelta(hours=hours))
        assert ledger.loras.copy_at("fal", weights, until=now + timedelta(hours=hours)) == url
        assert ledger.loras.copy_at("fal", weights, until=now + timedelta(hours=hours, seconds=1)) is None
    assert ledger.loras.copy_at("gemini", weights, until=now) is None
