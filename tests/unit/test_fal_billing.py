"""fal's billing events as they come: in nano-dollars or without, in pages, and to keys that may not read them."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from darkroom.providers.fal.billing import FalBilling, charge_of

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "event, usd",
    [
        ({"cost_estimate_nano_usd": 45_000_001, "cost_total": 0.045}, "0.045000001"),
        ({"cost_estimate_nano_usd": -7}, "-0.000000007"),
        ({"cost_estimate_nano_usd": None, "cost_total": 0.1}, "0.1"),
        ({"output_units": 3.008, "unit_price": 0.1, "percent_discount": 10}, "0.27072"),
        ({"output_units": 2, "unit_price": 0.025, "percent_discount": None}, "0.05"),
        ({"output_units": 2, "unit_price": None}, None),
        ({"cost_total": "?"}, None),
    ],
)
def test_an_event_charges_what_it_says(event: dict[str, Any], usd: str | None) -> None:
    """Whole nano-dollars where it has them, else its total, else its units at their price."""
    assert charge_of(event) == (None if usd is None else Decimal(usd))


def test_more_than_a_page_is_asked_for_in_halves() -> None:
    """Pages shift while they are read, and equal parts of a bill cannot be told apart: no event counts twice."""
    asked: list[list[str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        ids = request.url.params.get_list("request_id")
        asked.append(ids)
        assert request.url.params["start"] == "2026-11-29T11:00:00+00:00"
        events = [{"request_id": each, "cost_estimate_nano_usd": 1} for each in ids for _ in range(2)]
        return httpx.Response(200, json={"billing_events": events[:4], "has_more": len(events) > 4})

    with closing(FalBilling("key", transport=httpx.MockTransport(answer))) as billing:
        found = billing.bills(["a", "b", "c", "d", "e"], since=NOON)
    assert found == dict.fromkeys("abcde", Decimal("0.000000002"))
    assert [len(ids) for ids in asked] == [5, 2, 3, 1, 2]


def test_the_first_key_that_may_is_asked() -> None:
    """One of the preset Billing reads bills and no balance; with none that may, nothing is known."""
    allowed = {"Key billing": "/v1/models/billing-events", "Key admin": "/v1/account/billing"}

    def answer(request: httpx.Request) -> httpx.Response:
        if allowed.get(request.headers["authorization"]) != request.url.path:
            return httpx.Response(403, json={"error": {"type": "authorization_error", "message": "no"}})
        credits = {"current_balance": 24.5, "currency": "USD"}
        return httpx.Response(200, json={"billing_events": [], "credits": credits})

    with closing(FalBilling("billing", "admin", transport=httpx.MockTransport(answer))) as billing:
        assert billing.bills(["a"], since=NOON) == {}
        assert billing.balance() == Decimal("24.5")
        allowed.clear()
        assert billing.bills(["a"], since=NOON) is None
        assert billing.balance() is None
