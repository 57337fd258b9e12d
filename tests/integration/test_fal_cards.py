"""fal's models through the simulator's platform: fetched, kept, ordered by their schemas, costed by their prices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from simulated_fal import SimulatedFal
from support import wait_until

from darkroom.errors import BadInput
from darkroom.ledger import Ledger
from darkroom.media.fetching import fetch_file
from darkroom.models import Card, WrongInput
from darkroom.providers.fal import Fal
from darkroom.providers.fal.account import FILE_HOSTS
from darkroom.providers.fal.platform import FalPlatform
from darkroom.providers.models import find_model
from darkroom.providers.shelf import open_shelf

NEW = "fal-ai/tests/never-heard-of"
INPUT = {
    "type": "object",
    "required": ["prompt"],
    "properties": {
        "prompt": {"type": "string"},
        "strength": {"type": "number", "minimum": 0, "maximum": 1},
        "num_images": {"type": "integer", "minimum": 1, "maximum": 4, "default": 1},
    },
}


@pytest.fixture
def platform(simulator: SimulatedFal) -> Iterator[FalPlatform]:
    with closing(FalPlatform("sim:key")) as platform:
        yield platform


def everything(ledger: Ledger, platform: FalPlatform) -> tuple[list[str], int]:
    seen: list[str] = []
    changed = 0
    for page in platform.pages():
        seen += [card.endpoint for card in page]
        changed += ledger.models.keep([card.facts() for card in page])
    return seen, changed


def test_the_whole_list_is_kept_once(ledger: Ledger, platform: FalPlatform) -> None:
    """Each model once, odd entries too; the same again changes nothing."""
    seen, changed = everything(ledger, platform)
    assert len(seen) == len(set(seen)) == changed > 20
    assert everything(ledger, platform)[1] == 0
    known = ledger.models.get("fal-ai/flux/dev")
    assert known is not None
    assert (known.card.unit, known.card.unit_price) == ("megapixels", Decimal("0.025"))


def test_a_model_that_appears_is_ordered_a_moment_later(
    simulator: SimulatedFal, ledger: Ledger, platform: FalPlatform
) -> None:
    """By its own schema, at its own price; its files are at fal's file hosts."""
    with open_shelf(ledger, fetch=platform.card), Fal("sim:key") as fal:
        with pytest.raises(BadInput, match="unknown model"):
            find_model(f"{NEW}/yet")
        simulator.add_model(**new_card())
        model = find_model(NEW)
        with pytest.raises(WrongInput, match="did you mean strength"):
            model.validate({"prompt": "a fox", "strenght": 1})
        asked = model.validate({"prompt": "a fox", "num_images": 2})
        request_id = fal.submit(NEW, asked, webhook_url=None, start_timeout=timedelta(minutes=5)).request_id
        wait_until(lambda: fal.status(NEW, request_id).state == "COMPLETED")
        result = fal.result(NEW, request_id)
        files = model.files(result.output)
        assert len(files) == 2
        assert all(fetch_file(file.url, hosts=FILE_HOSTS).width for file in files)
        assert result.billable_units is not None
        assert model.cost(asked, result.output, result.billable_units) == result.billable_units * Decimal("0.05")


def test_what_calls_usually_cost_is_asked_of_the_platform(
    simulator: SimulatedFal, ledger: Ledger, platform: FalPlatform
) -> None:
    """Where the unit says nothing and nobody here has called it yet; without a history there it is a guess."""
    simulator.add_model(**{**new_card(), "endpoint_id": f"{NEW}/units", "unit": "units", "unit_price": "1.00"})

    def fetch_cost(card: Card) -> Decimal | None:
        return platform.usual_cost(card.endpoint)

    with open_shelf(ledger, fetch=platform.card, fetch_cost=fetch_cost):
        assert find_model(f"{NEW}/units").quote({"prompt": "a fox"}).source == "guess"
    simulator.rule(match="a usual fox", units="0.219")
    with Fal("sim:key") as fal:
        taken = fal.submit(
            f"{NEW}/units", {"prompt": "a usual fox"}, webhook_url=None, start_timeout=timedelta(minutes=5)
        )
        wait_until(lambda: fal.status(f"{NEW}/units", taken.request_id).state == "COMPLETED")
    with open_shelf(ledger, fetch=platform.card, fetch_cost=fetch_cost):
        quoted = find_model(f"{NEW}/units").quote({"prompt": "a fox"})
    assert (quoted.usd, quoted.source) == (Decimal("0.219"), "platform")


def new_card() -> dict[str, Any]:
    image = {"$ref": "#/components/schemas/Image"}
    return {
        "endpoint_id": NEW,
        "category": "text-to-image",
        "unit": "images",
        "unit_price": "0.05",
        "input": INPUT,
        "output": {
            "type": "object",
            "required": ["images"],
            "properties": {"images": {"type": "array", "items": image}},
        },
    }
