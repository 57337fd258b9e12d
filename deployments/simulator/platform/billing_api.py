"""What was charged: billing events, usage, and the balance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..answers import Json
from ..charges import BillingEvent
from ..provider import Provider
from .access import ADMINS, AUDITORS, caller, invalid, page, span, values, written

_PAGE, _MAX_PAGE = 1000, 10_000  # fal's bound is the second
_MAX_DAYS = 90  # fal's own bound
# The usual width of a bucket, for spans below so many hours, by fal's specification.
_FRAMES = (("minute", 2), ("hour", 48), ("day", 64 * 24), ("week", 183 * 24))


class BillingApi:
    def __init__(self, provider: Provider) -> None:
        self._charges = provider.charges

    def routes(self) -> list[Route]:
        return [
            Route("/v1/models/billing-events", self.billing_events, methods=["GET"]),
            Route("/v1/models/usage", self.usage, methods=["GET"]),
            Route("/v1/account/billing", self.balance, methods=["GET"]),
        ]

    async def billing_events(self, request: Request) -> Response:
        """List what is to be seen by now, newest first."""
        rows = self._events(request)
        requests = values(request, "request_id")
        sought = [event for event in reversed(rows) if not requests or event.request_id in requests]
        shown, words = page(request, sought, usual=_PAGE, most=_MAX_PAGE)
        return Json({"billing_events": [_event(event) for event in shown], **words})

    async def usage(self, request: Request) -> Response:
        """Sum up by endpoint, unit, price and discount, and by time where that is asked for."""
        rows, expand = self._events(request), values(request, "expand") or ["time_series"]
        answer: dict[str, Any] = {"next_cursor": None, "has_more": False}
        if "time_series" in expand:
            frame = request.query_params.get("timeframe") or _frame(*span(request))
            if frame not in ("minute", "hour", "day", "week", "month"):
                raise invalid("timeframe must be one of minute, hour, day, week, month")
            answer["time_series"] = _series(rows, frame)
        if "summary" in expand:
            answer["summary"] = _sums(rows)
        return Json(answer)

    async def balance(self, request: Request) -> Response:
        account = caller(request, *ADMINS)
        answer: dict[str, Any] = {"username": account.user_id}
        if "credits" in values(request, "expand"):
            balance = float(self._charges.balance(account))
            answer["credits"] = {"current_balance": balance, "currency": "USD"}
        return Json(answer)

    def _events(self, request: Request) -> list[BillingEvent]:
        """Return the events of the time and the endpoints asked for, oldest first."""
        # A key of fal's preset "Billing" has been seen to read these; the balance wants an ADMIN key.
        account = caller(request, *AUDITORS)
        start, end = span(request)
        if end - start > timedelta(days=_MAX_DAYS):
            raise invalid(f"start and end must not be more than {_MAX_DAYS} days apart")
        endpoints = values(request, "endpoint_id")
        return [
            event
            for event in self._charges.visible(account)
            if start <= event.at < end and (not endpoints or event.endpoint in endpoints)
        ]


def _event(event: BillingEvent) -> dict[str, Any]:
    return {
        "request_id": event.request_id,
        "endpoint_id": event.endpoint,
        # Not of now: who asks only for what is new since the last time misses the ones that come late.
        "timestamp": written(event.at),
        "output_units": float(event.units),
        "unit_price": float(event.unit_price),
        "percent_discount": float(event.percent_discount) if event.percent_discount else None,
        "cost_subtotal": float(event.subtotal),
        "cost_discount": float(event.discount),
        "cost_total": float(event.total),
        "cost_estimate_nano_usd": event.nano_usd,  # the one sum that is no float
    }


def _series(events: Sequence[BillingEvent], frame: str) -> list[dict[str, Any]]:
    buckets: dict[datetime, list[BillingEvent]] = defaultdict(list)
    for event in events:
        buckets[_begin(event.at, frame)].append(event)
    return [{"bucket": written(begin), "results": _sums(buckets[begin])} for begin in sorted(buckets)]


def _sums(events: Iterable[BillingEvent]) -> list[dict[str, Any]]:
    groups: dict[Any, list[BillingEvent]] = defaultdict(list)
    for event in events:
        groups[event.endpoint, event.unit, event.unit_price, event.percent_discount].append(event)
    return [_sum(group) for group in groups.values()]


def _sum(group: list[BillingEvent]) -> dict[str, Any]:
    first, total = group[0], sum((event.total for event in group), Decimal(0))
    discount = sum((event.discount for event in group), Decimal(0))
    return {
        "endpoint_id": first.endpoint,
        "unit": first.unit,
        "quantity": float(sum((event.units for event in group), Decimal(0))),
        "unit_price": float(first.unit_price),
        "percent_discount": float(first.percent_discount) if first.percent_discount else None,
        "cost_subtotal": float(total + discount),
        "cost_discount": float(discount),
        "cost_total": float(total),
        "cost": float(total),  # deprecated, and the same as cost_total
        "currency": "USD",
    }


def _frame(start: datetime, end: datetime) -> str:
    return next((name for name, hours in _FRAMES if end - start < timedelta(hours=hours)), "month")


def _begin(at: datetime, frame: str) -> datetime:
    at = at.replace(second=0, microsecond=0)
    if frame == "minute":
        return at
    at = at.replace(minute=0)
    if frame == "hour":
        return at
    day = at.replace(hour=0)
    if frame == "week":
        return day - timedelta(days=day.weekday())
    return day if frame == "day" else day.replace(day=1)
