"""Cards of models in the ledger: version by version, listed, and looked up with an operator's word on them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from interleaving import overlap
from ledger_databases import Db
from ledger_scenes import submitting_picture

from darkroom.errors import BadInput
from darkroom.flows.orders.generation import Generation
from darkroom.flows.orders.picture import Picture
from darkroom.flows.orders.training import Training
from darkroom.ledger import Ledger, new_id
from darkroom.models import Card, CardModel, packaged_cards
from darkroom.order import Order
from darkroom.providers.models import find_model, find_ordered
from darkroom.providers.shelf import open_shelf

FOX = Card(
    endpoint="fal-ai/fox",
    account_id="fal",
    title="Fox 100%",
    category="text-to-image",
    input_schema={"type": "object", "required": ["prompt"], "properties": {"prompt": {"type": "string"}}},
    output_schema={"type": "object", "properties": {"images": {"type": "array"}}},
    unit="images",
    unit_price=Decimal("0.000000125"),
)


def keep(ledger: Ledger, *cards: Card) -> int:
    return ledger.models.keep([card.facts() for card in cards])


def test_the_same_card_again_is_no_new_version(ledger: Ledger) -> None:
    """Only what has changed is; the old version stays, for the calls that were priced by it."""
    assert keep(ledger, FOX) == 1
    assert keep(ledger, FOX) == 0
    dearer = replace(FOX, unit_price=Decimal("0.05"))
    assert keep(ledger, dearer) == 1
    newest, first = ledger.models.get("fal-ai/fox"), ledger.models.get("fal-ai/fox", version=1)
    assert newest is not None
    assert first is not None
    assert Card.of_row(newest.card).unit_price == Decimal("0.05")
    assert replace(Card.of_row(first.card), version=0, fetched_at=None) == FOX


def test_a_card_that_two_bring_at_once_is_one_version(ledger: Ledger, db: Db) -> None:
    """Two processes that meet a model for the first time, or a sync beside one."""
    assert overlap(db, lambda: keep(ledger, FOX), lambda: keep(ledger, FOX), at="INSERT ON model") == (1, 0)


def test_what_a_platform_fails_to_give_is_kept_from_before(ledger: Ledger) -> None:
    """A schema that could not be expanded and a price that could not be had are no change."""
    keep(ledger, FOX)
    assert keep(ledger, replace(FOX, input_schema=None, unit=None, unit_price=None)) == 0
    assert keep(ledger, replace(FOX, status="deprecated", input_schema=None)) == 1
    found = ledger.models.get("fal-ai/fox")
    assert found is not None
    assert (found.card.status, found.card.input_schema) == ("deprecated", FOX.input_schema)


def test_cards_are_listed_by_endpoint_and_found_by_words(ledger: Ledger) -> None:
    """Page by page; what is special in a pattern is not in a search."""
    keep(ledger, FOX, *(replace(FOX, endpoint=f"fal-ai/owl-{n}", title="Owl", category="vision") for n in range(3)))
    first = ledger.models.page(limit=2)
    assert [each.card.endpoint for each in first] == ["fal-ai/fox", "fal-ai/owl-0"]
    assert [each.card.endpoint for each in ledger.models.page(limit=9, after="fal-ai/owl-0", category="vision")] == [
        "fal-ai/owl-1",
        "fal-ai/owl-2",
    ]
    assert [each.card.endpoint for each in ledger.models.page(limit=9, q="100%")] == ["fal-ai/fox"]
    assert ledger.models.page(limit=9, q="_") == []


def test_a_model_is_ordered_by_the_card_of_its_day(ledger: Ledger) -> None:
    """An operator's price rules, and one that is denied cannot be ordered, whatever the setting says."""
    keep(ledger, FOX)
    with open_shelf(ledger, fetch=None):
        found = find_ordered("fal-ai/fox")
        assert (found.version, isinstance(found.model, CardModel)) == (1, True)
    ledger.models.price("fal-ai/fox", Decimal("0.5"))
    ledger.models.allow("fal-ai/fox", False)
    ledger.models.allow("fal-ai/flux/dev", False)
    with open_shelf(ledger, fetch=None), pytest.raises(BadInput, match="darkroom model allow"):
        find_ordered("fal-ai/fox")
    with open_shelf(ledger, fetch=None), pytest.raises(BadInput, match="not allowed"):
        find_ordered("fal-ai/flux/dev")
    ledger.models.allow("fal-ai/fox", True)
    with open_shelf(ledger, fetch=None, models="openai/*"):
        assert find_model("fal-ai/fox").estimate({}) == Decimal("0.5")
        with pytest.raises(BadInput, match="not allowed"):
            find_ordered("fal-ai/nano-banana")
        assert find_model("fal-ai/nano-banana").account_id == "fal"  # for what is under way with it


@pytest.mark.parametrize(
    ("denied", "order"),
    [
        ("fal-ai/clarity-upscaler", Picture(prompt="a fox", post=["upscale"])),
        ("fal-ai/birefnet/v2", Generation(model="fal-ai/flux/dev", input={"prompt": "x"}, post=["remove_background"])),
        ("fal-ai/flux-lora-fast-training", Training(trigger_word="mochi", archive="https://files.example/x.zip")),
        ("fal-ai/flux-lora", Training(trigger_word="mochi", archive="https://files.example/x.zip")),
    ],
)
def test_an_order_that_needs_a_denied_model_later_is_refused_at_once(ledger: Ledger, denied: str, order: Order) -> None:
    """Before what comes first was paid in vain."""
    ledger.models.allow(denied, False)
    with open_shelf(ledger, fetch=None), pytest.raises(BadInput, match=f"{denied} is not allowed here"):
        order.check()


def test_an_unknown_model_is_fetched_on_its_first_use_and_kept(ledger: Ledger) -> None:
    """Once; what nobody knows is not asked for again at once, and what is no endpoint is not asked for at all."""
    asked: list[str] = []

    def fetch(endpoint: str) -> Card | None:
        asked.append(endpoint)
        return replace(FOX, endpoint=endpoint) if "fox" in endpoint else None

    with open_shelf(ledger, fetch=fetch):
        assert find_ordered("fal-ai/new-fox").version == 1
        assert find_ordered("fal-ai/new-fox").version == 1
        for unknown in ("fal-ai/owl", "fal-ai/owl", "no endpoint", "https://example.com/x"):
            with pytest.raises(BadInput, match="unknown model"):
                find_model(unknown)
    assert asked == ["fal-ai/new-fox", "fal-ai/owl"]
    assert ledger.models.get("fal-ai/new-fox") is not None


def test_a_packaged_card_without_a_price_is_fetched_on_its_first_use(ledger: Ledger) -> None:
    """Its price may be known by now; where the platform cannot be asked, the packaged card serves."""
    veo = packaged_cards()["fal-ai/veo3"]
    with open_shelf(ledger, fetch=lambda endpoint: None):
        assert find_ordered(veo.endpoint).version is None
    with open_shelf(ledger, fetch=lambda endpoint: replace(veo, packaged=False, unit="seconds", unit_price=Decimal(1))):
        assert find_model(veo.endpoint).estimate({"prompt": "a fox"}) == 8


def test_the_packaged_cards_fill_what_is_missing(ledger: Ledger) -> None:
    """Those of the platform stay as they are."""
    keep(ledger, replace(FOX, endpoint="fal-ai/flux/dev"))
    packaged = [card.facts() for card in packaged_cards().values()]
    assert ledger.models.keep(packaged, only_missing=True) == len(packaged) - 1
    found = ledger.models.get("fal-ai/flux/dev")
    assert found is not None
    assert not found.card.packaged
    assert ledger.models.age().packaged == len(packaged) - 1


def test_how_long_a_model_takes_is_told_by_our_own_calls(ledger: Ledger, db: Db) -> None:
    """Once there are twenty: within that time nearly all of the last ones had ended. Until then its card tells."""
    keep(ledger, replace(FOX, usual_seconds=60.0))

    def calls(count: int, seconds: float) -> None:
        for _ in range(count):
            picture = submitting_picture(ledger, ledger.users.add(new_id("u")).user_id)
            db.execute(ENDED, {"ref": picture.ref, "endpoint": FOX.endpoint, "seconds": seconds})

    calls(19, 600)
    assert usual(ledger) == timedelta(seconds=60)
    calls(1, 600)
    found = usual(ledger)
    assert found == timedelta(minutes=10)
    with open_shelf(ledger, fetch=None):
        model = find_model(FOX.endpoint)
        assert (model.start_timeout, model.deadline) == (timedelta(minutes=20), timedelta(minutes=60))


ENDED = """
    UPDATE request SET endpoint = %(endpoint)s, status = 'succeeded', cost_usd = 0.1, finished_at = now(),
        submitted_at = now() - %(seconds)s * interval '1 second'
    WHERE ref = %(ref)s
"""


def usual(ledger: Ledger) -> timedelta:
    with open_shelf(ledger, fetch=None):
        return find_model(FOX.endpoint).expected
