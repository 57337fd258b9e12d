"""The catalogue and the price list, and the pages of fal's site that tell of a model."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ..answers import FalError, Json
from ..cards.card import Card
from ..provider import Provider
from .access import READERS, caller, invalid, json_object, not_found, page, values

_PAGE, _MAX_PAGE = 50, 100  # assumed: fal does not state the most
_SCHEMA = "openapi-3.0"
# By the kind of estimate: the name of the quantity, and the least of it.
_QUANTITIES = {
    "unit_price": ("unit_quantity", Decimal("0.000001")),
    "historical_api_price": ("call_quantity", Decimal(1)),
}


class ModelsApi:
    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._catalogue = provider.catalogue

    def routes(self) -> list[Route]:
        return [
            Route("/v1/models", self.models, methods=["GET"]),
            Route("/v1/models/pricing", self.pricing, methods=["GET"]),
            Route("/v1/models/pricing/estimate", self.estimate, methods=["POST"]),
        ]

    def site_routes(self) -> list[Route]:
        return [
            Route("/api/openapi/queue/openapi.json", self.document, methods=["GET"]),
            Route("/models/{endpoint:path}/llms.txt", self.text, methods=["GET"]),
        ]

    async def models(self, request: Request) -> Response:
        """List, find or search. A key is welcome and not needed."""
        if "authorization" in request.headers:
            caller(request, *READERS)
        names, query = values(request, "endpoint_id"), request.query_params
        cards = self._catalogue.some(names) if names else self._catalogue.cards()
        found = [card for card in cards if _is_sought(card, query)]
        shown, words = page(request, found, usual=_PAGE, most=_MAX_PAGE)
        expand = values(request, "expand")
        return Json({"models": [_entry(card, expand) for card in shown], **words})

    async def pricing(self, request: Request) -> Response:
        """Answer what the list says; an id that is not known is left out, and 404 if none is."""
        caller(request, *READERS)
        names = values(request, "endpoint_id", required=True)
        cards = [card for card in self._catalogue.some(names) if card.is_priced]
        # It is not known whether fal answers 404 as soon as one id is unknown: `pricing_is_strict` does so.
        if not cards or (self._provider.pricing_is_strict and len(cards) < len(set(names))):
            raise not_found(f"No pricing for {', '.join(names)}")
        return Json({"prices": [_price(card) for card in cards], "next_cursor": None, "has_more": False})

    async def estimate(self, request: Request) -> Response:
        caller(request, *READERS)
        body = await json_object(request)
        kind, endpoints = body.get("estimate_type"), body.get("endpoints")
        if kind not in _QUANTITIES or not isinstance(endpoints, dict) or not endpoints:
            raise invalid(f"estimate_type must be one of {', '.join(_QUANTITIES)}, with endpoints")
        # fal answers with the sum alone: who wants to know the parts has to ask for each.
        total = sum((self._cost(str(kind), name, asked) for name, asked in endpoints.items()), Decimal(0))
        return Json({"estimate_type": kind, "total_cost": float(total), "currency": "USD"})

    def _cost(self, kind: str, endpoint: str, asked: Any) -> Decimal:
        if (card := self._catalogue.card(endpoint)) is None:
            raise not_found(f"No such endpoint: {endpoint}")
        quantity = _quantity(kind, asked)
        if kind == "unit_price":
            return card.unit_price * quantity
        return self._usual_cost(endpoint) * quantity

    def _usual_cost(self, endpoint: str) -> Decimal:
        """Return what a call has come to on the average. Nothing is known of one that nobody has called."""
        charged = [event.total for event in self._provider.charges.events if event.endpoint == endpoint]
        return sum(charged, Decimal(0)) / len(charged) if charged else Decimal(0)

    async def document(self, request: Request) -> Response:
        card = self._catalogue.card(request.query_params.get("endpoint_id", ""))
        if card is None or card.expansion_fails:
            raise FalError(404, {"detail": "Not found"})
        return Json(card.openapi)

    async def text(self, request: Request) -> Response:
        """Tell what a model's page tells, in words."""
        if (card := self._catalogue.card(request.path_params["endpoint"])) is None:
            raise FalError(404, {"detail": "Not found"})
        price = card.pricing or f"${card.unit_price} per {card.unit}."
        fields = ", ".join(card.schema_of_input.get("properties", {}))
        lines = (f"# {card.title}", f"Endpoint: {card.endpoint}", f"Category: {card.category}", f"Kind: {card.kind}")
        return PlainTextResponse("\n".join([*lines, f"Input: {fields}", "## Pricing", price, ""]))


def _is_sought(card: Card, query: Mapping[str, str]) -> bool:
    words = f"{card.endpoint} {card.title} {card.description}".lower()
    return (
        query.get("q", "").lower() in words
        and query.get("category") in (None, card.category)
        and query.get("status") in (None, card.status)
    )


def _entry(card: Card, expand: list[str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"endpoint_id": card.endpoint}
    if card.has_metadata:
        entry["metadata"] = card.metadata
    if _SCHEMA in expand:
        entry["openapi"] = _failure() if card.expansion_fails else card.openapi
    if "enterprise_status" in expand:
        entry["enterprise_status"] = "ready"
    return entry


def _failure() -> dict[str, Any]:
    return {"error": {"code": "expansion_failed", "message": "The schema of this endpoint could not be loaded."}}


def _price(card: Card) -> dict[str, Any]:
    return {
        "endpoint_id": card.endpoint,
        "unit_price": float(card.unit_price),
        "unit": card.unit,
        "currency": "USD",
    }


def _quantity(kind: str, asked: Any) -> Decimal:
    name, least = _QUANTITIES[kind]
    given = asked.get(name) if isinstance(asked, dict) else None
    try:
        quantity = Decimal(str(given))
    except InvalidOperation:
        quantity = Decimal(0)
    if quantity < least or (kind == "historical_api_price" and not isinstance(given, int)):
        raise invalid(f"{name} must be at least {least}")
    return quantity
