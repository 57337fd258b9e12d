"""What the accounts are charged: a billing event or more for each success, the balances, and the invoice.

The money is whole nano-dollars. Billing events come to be seen after a while; the invoice has all of them at once, and
is what a client's own sums are to be held against.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from .book import ACCOUNTS, Account, Entry
from .cards.card import Card

NANO = 10**9  # fal's `cost_estimate_nano_usd` is a whole number of them
_UNIT_FRACTION = Decimal("0.0001")  # as the header's units are rounded
_BALANCE_USD = Decimal(100_000)


@dataclass(frozen=True, kw_only=True, slots=True)
class BillingEvent:
    request_id: str
    endpoint: str
    unit: str
    user_id: str
    key: str
    at: datetime
    units: Decimal
    unit_price: Decimal
    percent_discount: Decimal
    nano_usd: int
    visible_at: datetime | None  # None: not before it is released

    @property
    def subtotal(self) -> Decimal:
        return self.total + self.discount

    @property
    def discount(self) -> Decimal:
        if self.percent_discount == 100:
            return self.units * self.unit_price
        # From the rounded total, so that subtotal less discount is what was charged.
        return self.total * self.percent_discount / (100 - self.percent_discount)

    @property
    def total(self) -> Decimal:
        return Decimal(self.nano_usd) / NANO

    def is_visible(self, now: datetime) -> bool:
        return self.visible_at is not None and self.visible_at <= now


class Charges:
    def __init__(self) -> None:
        self.events: list[BillingEvent] = []
        self.reset()

    def reset(self) -> None:
        """Fill the balances, and have nothing special about bills to come. What was charged stays."""
        self.lag_seconds = 90.0  # most of fal's events are there within minutes
        self.discount = Decimal(0)
        self._balances = {
            account.user_id: Decimal(0) if account.locked else _BALANCE_USD for account in ACCOUNTS.values()
        }

    def charge(self, entry: Entry, card: Card) -> None:
        """Charge the success."""
        assert entry.outcome is not None
        units = Decimal(entry.outcome.billable_units)
        percent = self.discount if entry.faults.discount is None else entry.faults.discount
        # At the price of the moment, whatever the list says: fal's own list has been found wrong.
        exact = units * card.price * (100 - percent) / 100 * NANO
        event = BillingEvent(
            request_id=entry.request_id,
            endpoint=card.endpoint,
            unit=card.unit,
            user_id=entry.account.user_id,
            key=entry.key or entry.account.key,
            at=entry.finished_at or datetime.now(UTC),
            units=units,
            unit_price=card.price,
            percent_discount=percent,
            nano_usd=int(exact.to_integral_value(ROUND_HALF_EVEN)),
            visible_at=self._visible_at(entry),
        )
        self.events += _parts(event, entry.faults.billing_parts)
        self._balances[event.user_id] -= event.total

    def _visible_at(self, entry: Entry) -> datetime | None:
        if not entry.faults.billing:
            return None
        lag = self.lag_seconds if entry.faults.billing_lag is None else entry.faults.billing_lag
        return datetime.now(UTC) + timedelta(seconds=lag)

    def correct(self, request_id: str, usd: Decimal) -> bool:
        """Add an event of so much, which may be negative, to those of the request. False: it has none."""
        last = next((event for event in reversed(self.events) if event.request_id == request_id), None)
        if last is None:
            return False
        # Clients of fal allow for this: what a request cost is the sum of its events, at any time.
        now, nano = datetime.now(UTC), int((usd * NANO).to_integral_value(ROUND_HALF_EVEN))
        zero = Decimal(0)
        self.events.append(replace(last, at=now, visible_at=now, units=zero, percent_discount=zero, nano_usd=nano))
        self._balances[last.user_id] -= Decimal(nano) / NANO
        return True

    def release(self, request_id: str | None = None) -> int:
        """Let everybody see what is held back, or what is late. Return how many events that were."""
        now = datetime.now(UTC)
        hidden = [
            n
            for n, event in enumerate(self.events)
            if not event.is_visible(now) and request_id in (None, event.request_id)
        ]
        for n in hidden:
            self.events[n] = replace(self.events[n], visible_at=now)
        return len(hidden)

    def visible(self, account: Account) -> list[BillingEvent]:
        now = datetime.now(UTC)
        return [event for event in self.events if event.user_id == account.user_id and event.is_visible(now)]

    def balance(self, account: Account) -> Decimal:
        return self._balances[account.user_id]

    def set_balance(self, user_id: str, usd: Decimal) -> bool:
        if user_id not in self._balances:
            return False
        self._balances[user_id] = usd
        return True

    def is_locked(self, account: Account) -> bool:
        return self.balance(account) <= 0

    def invoice(self) -> dict[str, Any]:
        """Return all that was charged, seen or not, in nano-dollars: by user, key, model and request."""
        sums: dict[str, Counter[str]] = defaultdict(Counter)
        for event in self.events:
            places = {
                "by_user": event.user_id,
                "by_key": event.key,
                "by_model": event.endpoint,
                "by_request": event.request_id,
            }
            for name, place in places.items():
                sums[name][place] += event.nano_usd
        now = datetime.now(UTC)
        return {
            "total_nano_usd": sum(event.nano_usd for event in self.events),
            "events": len(self.events),
            "not_seen_yet": sum(not event.is_visible(now) for event in self.events),
            **{name: dict(sums[name]) for name in ("by_user", "by_key", "by_model", "by_request")},
        }


def _parts(event: BillingEvent, number: int) -> Iterator[BillingEvent]:
    """Split the event into so many of which the last has what does not divide."""
    units, nano = event.units, event.nano_usd
    for _ in range(number - 1):
        part = replace(
            event,
            units=(event.units / number).quantize(_UNIT_FRACTION),
            nano_usd=event.nano_usd // number,
        )
        units, nano = units - part.units, nano - part.nano_usd
        yield part
    yield replace(event, units=units, nano_usd=nano)
