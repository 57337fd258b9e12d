"""What the simulator charges: nano-dollars that add up, and when they come to be seen."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from darkroom.deployments.simulator.book import ACCOUNTS, Entry, Outcome
from darkroom.deployments.simulator.charges import Charges
from darkroom.deployments.simulator.endpoints import ENDPOINTS
from darkroom.deployments.simulator.faults import Faults

CARD = ENDPOINTS["fal-ai/flux/dev"].card
USER = ACCOUNTS["sim:key"]


def charged(charges: Charges, *, units: str = "3", request_id: str = "one", **faults: Any) -> None:
    entry = Entry(
        request_id=request_id, endpoint=CARD.endpoint, input={}, account=USER, webhook_url=None, faults=Faults(**faults)
    )
    entry.finished_at = datetime.now(UTC)
    entry.outcome = Outcome(http_status=200, body={}, billable_units=units)
    charges.charge(entry, CARD)


@pytest.mark.parametrize(
    ("units", "faults", "nano"),
    [
        ("3", {}, [75_000_000]),
        ("0.0219", {}, [547_500]),
        ("3", {"discount": Decimal(10)}, [67_500_000]),
        ("1", {"billing_parts": 3}, [8_333_333, 8_333_333, 8_333_334]),
        ("3", {"discount": Decimal(100)}, [0]),
    ],
)
def test_a_success_is_charged_to_the_nano_dollar(units: str, faults: dict[str, Any], nano: list[int]) -> None:
    """Units times price, less the discount; the parts of one request make up the whole."""
    charges = Charges()
    charged(charges, units=units, **faults)
    assert [event.nano_usd for event in charges.events] == nano
    assert charges.invoice()["by_request"] == {"one": sum(nano)}
    assert charges.balance(USER) == Decimal(100_000) - Decimal(sum(nano)) / 10**9
    assert sum(event.units for event in charges.events) == Decimal(units)
    for event in charges.events:
        assert event.subtotal - event.discount == event.total


def test_bills_are_seen_after_a_while_or_when_they_are_released() -> None:
    """The invoice has them at once."""
    charges = Charges()
    charges.lag_seconds = 0
    charged(charges, request_id="soon")
    charged(charges, request_id="late", billing_lag=600)
    charged(charges, request_id="missing", billing=False)
    assert [event.request_id for event in charges.visible(USER)] == ["soon"]
    assert charges.invoice()["not_seen_yet"] == 2
    assert charges.release("late") == 1
    assert charges.release() == 1
    assert len(charges.visible(USER)) == 3
    assert charges.invoice()["by_model"] == {CARD.endpoint: 225_000_000}


def test_a_bill_can_be_corrected() -> None:
    """By an event of its own, which may be negative."""
    charges = Charges()
    charged(charges)
    assert charges.correct("one", Decimal("-0.025"))
    assert not charges.correct("another", Decimal(1))
    assert charges.invoice()["by_request"] == {"one": 50_000_000}


def test_an_account_is_locked_when_its_balance_is_used_up() -> None:
    """By its own calls; one account has none from the start."""
    charges = Charges()
    assert charges.is_locked(ACCOUNTS["sim:locked"])
    assert charges.set_balance("sim-user", Decimal("0.07"))
    assert not charges.set_balance("nobody", Decimal(1))
    charged(charges)
    assert charges.is_locked(USER)
