"""What fal has billed, and what is left: its billing events and the balance of the account.

The price list can be wrong, the unit's name too; the sum of a request's events is what was charged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx

from darkroom.clock import utc_now
from darkroom.providers.fal.platform_api import API, PlatformApi
from darkroom.providers.http import number_in

SOURCE = "fal billing-events"
MOST_IDS = 50  # of one question: fal's own bound
PAGE = 10_000  # events; as many as fal gives at once, as its pages shift while they are read
LONGEST = timedelta(days=89)  # fal answers for 90 at most
MARGIN = timedelta(hours=1)  # between our clock and fal's
NANO = Decimal(10) ** -9
HUNDRED = Decimal(100)


class FalBilling:
    """`keys`: those that may be allowed to read bills, the likeliest first. `transport` is the seam for tests."""

    def __init__(self, *keys: str, transport: httpx.BaseTransport | None = None) -> None:
        self._keys, self._transport = tuple(dict.fromkeys(keys)), transport
        self._apis: dict[str, PlatformApi] = {}  # opened by the first question: most who pay fal never ask

    def close(self) -> None:
        for api in self._apis.values():
            api.close()

    def bills(self, request_ids: Sequence[str], *, since: datetime) -> dict[str, Decimal] | None:
        """Return what each of these requests was billed at, in all; one without events is left out.

        None: no key may read that. `since`: before the first of them was sent.
        """
        start = max(since - MARGIN, utc_now() - LONGEST)
        found: dict[str, Decimal] = {}
        for first in range(0, len(request_ids), MOST_IDS):
            events = self._events(request_ids[first : first + MOST_IDS], start)
            if events is None:
                return None
            for event in events:
                request_id, usd = event.get("request_id"), charge_of(event)
                if isinstance(request_id, str) and usd is not None:
                    # A bill comes in several parts, with discounts and as corrections.
                    found[request_id] = found.get(request_id, Decimal(0)) + usd
        # None yet is not "free": events come within minutes, and some late.
        return {request_id: found[request_id] for request_id in request_ids if request_id in found}

    def balance(self) -> Decimal | None:
        """Return what is left on the account; None where fal does not say, or not to us."""
        answer = self._get(f"{API}/account/billing", {"expand": "credits"})
        credits = answer.get("credits") if answer is not None else None
        if not isinstance(credits, Mapping) or credits.get("currency", "USD") != "USD":
            return None
        return number_in(credits.get("current_balance"))

    def _events(self, request_ids: Sequence[str], start: datetime) -> list[Mapping[str, Any]] | None:
        """Return all events of these requests."""
        # Events have a time of their own, and without a beginning fal tells of the last day alone.
        query = {"request_id": list(request_ids), "start": start.isoformat(), "limit": str(PAGE)}
        answer = self._get(f"{API}/models/billing-events", query)
        if answer is None:
            return None
        # Halves, not pages: these shift while they are read, and equal parts of a bill cannot be told apart.
        if answer.get("has_more") and len(request_ids) > 1:
            half = len(request_ids) // 2
            parts = [self._events(ids, start) for ids in (request_ids[:half], request_ids[half:])]
            return None if None in parts else [event for part in parts for event in part or ()]
        events = answer.get("billing_events")
        return [each for each in (events if isinstance(events, list) else []) if isinstance(each, Mapping)]

    def _get(self, url: str, query: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Ask with one key after the other until one is allowed to; None where none is."""
        # Keys differ in their rights: one of the preset Billing reads bills and no balance.
        for key in self._keys:
            if (api := self._apis.get(key)) is None:
                api = self._apis[key] = PlatformApi(key, transport=self._transport)
            answer: Mapping[str, Any] | None = api.get(url, query, refused=(401, 403))
            if answer is not None:
                return answer
        return None


def charge_of(event: Mapping[str, Any]) -> Decimal | None:
    """Return what an event charges, to the billionth; None where it does not say."""
    # Whole nano-dollars: no float lies between.
    nano = event.get("cost_estimate_nano_usd")
    if isinstance(nano, int) and not isinstance(nano, bool):
        return nano * NANO
    total = number_in(event.get("cost_total"))
    if total is None:  # as it was before the middle of 2026
        units, price = number_in(event.get("output_units")), number_in(event.get("unit_price"))
        if units is None or price is None:
            return None
        total = units * price * (HUNDRED - (number_in(event.get("percent_discount")) or 0)) / HUNDRED
    return total.quantize(NANO)
