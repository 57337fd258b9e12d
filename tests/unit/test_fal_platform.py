"""fal's platform API as it is found: pages that shift, entries that lack what others have, prices that are missing."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal
from typing import Any

import httpx
import pytest

from darkroom.errors import Park, RateLimited
from darkroom.models import Card
from darkroom.providers.fal.platform import FalPlatform

UNKNOWN = "fal-ai/without-a-price"
WORKFLOW = {
    "name": "foxes",
    "title": "Foxes",
    "contents": {
        "schema": {
            "input": {"prompt": {"type": "string", "required": True}, "seed": {"type": "integer"}},
            "output": {"type": "object", "properties": {"image": {"type": "object"}}},
        }
    },
}


def document(endpoint: str) -> dict[str, Any]:
    """A model's OpenAPI document, in fal's shape; its schemas are found by reference."""
    ref = "#/components/schemas/"
    answer = {"200": {"content": {"application/json": {"schema": {"$ref": f"{ref}What"}}}}}
    given = {"content": {"application/json": {"schema": {"$ref": f"{ref}Whatever"}}}}
    return {
        "openapi": "3.0.4",
        "paths": {
            f"/{endpoint}": {"post": {"requestBody": given}},
            f"/{endpoint}/requests/{{request_id}}": {"get": {"responses": answer}},
        },
        "components": {
            "schemas": {
                "Whatever": {"type": "object", "required": ["prompt"], "properties": {"prompt": {"type": "string"}}},
                "What": {"type": "object", "properties": {"image": {"$ref": f"{ref}Image"}}},
                "Image": {"type": "object", "properties": {"url": {"type": "string"}}},
            }
        },
    }


def entry(endpoint: str, **metadata: Any) -> dict[str, Any]:
    about = {"display_name": endpoint.title(), "category": "text-to-image", "status": "active", **metadata}
    return {"endpoint_id": endpoint, "metadata": about, "openapi": document(endpoint)}


class Api:
    """Answers like the platform's API. `refuses`: how many calls it answers with 429 first, of those to `refused`."""

    def __init__(self, *models: dict[str, Any], page: int = 2, refuses: int = 0, refused: str = "/v1/models") -> None:
        self.models = list(models)
        self.page = page
        self.refuses = refuses
        self.refused = refused
        self.paused: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.refuses and request.url.path == self.refused:
            self.refuses -= 1
            return httpx.Response(429, headers={"x-ratelimit-reset": "7"}, json={"error": {"type": "rate_limited"}})
        match request.url.path:
            case "/v1/models":
                return self._models(request.url.params)
            case "/v1/models/pricing":
                return self._prices(request.url.params.get_list("endpoint_id"))
            case "/v1/workflows/ann/foxes":
                return httpx.Response(200, json={"workflow": WORKFLOW})
        return httpx.Response(404, json={"detail": "Not Found"})

    def _models(self, asked: httpx.QueryParams) -> httpx.Response:
        if (endpoint := asked.get("endpoint_id")) is not None:
            found = [each for each in self.models if each["endpoint_id"] == endpoint]
            return httpx.Response(200, json={"models": found, "next_cursor": None, "has_more": False})
        number = int(base64.b64decode(asked["cursor"])) if "cursor" in asked else 1
        begin = (number - 1) * self.page
        more = begin + self.page < len(self.models)
        cursor = base64.b64encode(str(number + 1).encode()).decode() if more else None
        page = self.models[begin : begin + self.page]
        if number == 1:  # the list shifts: what was last on this page is first on the next, too
            self.models.insert(0, entry("fal-ai/new"))
        return httpx.Response(200, json={"models": page, "next_cursor": cursor, "has_more": more})

    def _prices(self, endpoints: Sequence[str]) -> httpx.Response:
        if UNKNOWN in endpoints:
            return httpx.Response(404, json={"error": {"type": "not_found", "message": "no"}})
        each = [{"endpoint_id": one, "unit_price": 0.0036, "unit": "seconds ", "currency": "USD"} for one in endpoints]
        return httpx.Response(200, json={"prices": each})

    def open(self) -> FalPlatform:
        return FalPlatform("id:secret", transport=httpx.MockTransport(self), pause=self.paused.append)


def cards(api: Api) -> list[Card]:
    return [card for page in api.open().pages() for card in page]


def test_a_model_is_read_from_its_entry_document_and_price() -> None:
    """By reference, whatever the schemas are called; what they refer to comes along; the price to the last digit."""
    card = Api(entry("fal-ai/fox", duration_estimate=0.5, description="foxes")).open().card("fal-ai/fox")
    assert card is not None
    assert (card.title, card.category, card.description) == ("Fal-Ai/Fox", "text-to-image", "foxes")
    assert card.input_schema is not None
    assert "prompt" in card.input_schema["$defs"]["Whatever"]["properties"]
    assert card.output_schema is not None
    assert "Image" in card.output_schema["$defs"]
    assert (card.unit, card.unit_price, card.usual_seconds) == ("seconds", Decimal("0.0036"), 30)


def test_a_model_that_fal_does_not_have_is_none() -> None:
    """An unknown endpoint is simply missing from the answer."""
    assert Api(entry("fal-ai/fox")).open().card("fal-ai/vixen") is None


def test_a_list_that_shifts_while_it_is_read_gives_each_model_once() -> None:
    """Pages are numbered: what comes to the front meanwhile moves the rest on by one."""
    endpoints = [card.endpoint for card in cards(Api(*(entry(f"fal-ai/fox-{n}") for n in range(5))))]
    assert endpoints == [f"fal-ai/fox-{n}" for n in range(5)]


@pytest.mark.parametrize(
    "odd",
    [
        {"endpoint_id": "fal-ai/odd"},
        {"endpoint_id": "fal-ai/odd", "metadata": None, "openapi": {"error": {"code": "expansion_failed"}}},
        {"endpoint_id": "fal-ai/odd", "metadata": {"category": 5, "duration_estimate": "long"}, "openapi": []},
    ],
)
def test_an_odd_entry_is_a_card_with_what_there_is(odd: dict[str, Any]) -> None:
    """No metadata, no schema: it is listed all the same."""
    found = {card.endpoint: card for card in cards(Api(odd, entry("fal-ai/fox")))}
    assert found["fal-ai/odd"].input_schema is None
    assert found["fal-ai/odd"].title == "fal-ai/odd"
    assert found["fal-ai/fox"].input_schema is not None


def test_a_model_without_a_price_costs_the_others_none() -> None:
    """fal may answer 404 for all of a question because of one: they are asked for in halves then."""
    found = {card.endpoint: card for card in cards(Api(entry("fal-ai/a"), entry(UNKNOWN), entry("fal-ai/b"), page=9))}
    assert found[UNKNOWN].unit_price is None
    assert found["fal-ai/a"].unit_price == found["fal-ai/b"].unit_price == Decimal("0.0036")


@pytest.mark.parametrize("refused", ["/v1/models", "/v1/models/pricing"])
def test_a_sync_has_the_patience_that_fal_asks_for(refused: str) -> None:
    """As long as its header says."""
    api = Api(entry("fal-ai/fox"), refuses=2, refused=refused)
    assert [card.endpoint for card in cards(api)] == ["fal-ai/fox"]
    assert api.paused == [7, 7]


@pytest.mark.parametrize("refused", ["/v1/models", "/v1/models/pricing"])
def test_a_models_first_use_waits_for_no_patience(refused: str) -> None:
    """Somebody's order waits for it, and every other first use; it is asked for again by the next one."""
    api = Api(entry("fal-ai/fox"), refuses=1, refused=refused)
    with pytest.raises(RateLimited):
        api.open().card("fal-ai/fox")
    assert api.paused == []


def test_a_platform_that_cannot_be_reached_is_out() -> None:
    """Nobody waits for it: the cards that are there serve."""

    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route", request=request)

    with pytest.raises(Park):
        FalPlatform("k", transport=httpx.MockTransport(broken)).card("fal-ai/fox")


def asked_of(answer: httpx.Response) -> tuple[FalPlatform, list[dict[str, Any]]]:
    questions: list[dict[str, Any]] = []

    def estimate(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("POST", "/v1/models/pricing/estimate")
        questions.append(json.loads(request.content))
        return answer

    return FalPlatform("key", transport=httpx.MockTransport(estimate)), questions


@pytest.mark.parametrize(
    ("answer", "usd"),
    [
        ({"total_cost": 219.0, "currency": "USD"}, "0.219"),
        ({"total_cost": 0, "currency": "USD"}, None),
        ({"total_cost": 219.0, "currency": "EUR"}, None),
        ({}, None),
    ],
)
def test_what_a_call_usually_costs_is_asked_for_by_its_history(answer: dict[str, Any], usd: str | None) -> None:
    """Of a thousand at once, as little might be rounded away; nothing, or another currency, is no answer."""
    platform, questions = asked_of(httpx.Response(200, json=answer))
    with closing(platform):
        assert platform.usual_cost("fal-ai/x") == (None if usd is None else Decimal(usd))
    asked = {"fal-ai/x": {"call_quantity": 1000}}
    assert questions == [{"estimate_type": "historical_api_price", "endpoints": asked}]


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_model_without_a_history_costs_nobody_knows_what(status: int) -> None:
    """fal says so by a refusal, which is no failure of the order."""
    platform, _ = asked_of(httpx.Response(status, json={"error": {"type": "not_found", "message": "no"}}))
    with closing(platform):
        assert platform.usual_cost("fal-ai/x") is None


def test_a_workflow_of_a_user_is_a_model_like_others() -> None:
    """It is in no list of models; its contents say what it takes, and nothing what it costs."""
    api = Api(page=50)
    card = api.open().card("workflows/ann/foxes")
    assert card is not None
    assert (card.title, card.unit_price) == ("Foxes", None)
    assert card.input_schema == {
        "type": "object",
        "properties": {"prompt": {"type": "string"}, "seed": {"type": "integer"}},
        "required": ["prompt"],
    }
    assert api.open().card("workflows/ann/none") is None
    assert api.open().card("workflows/../keys") is None
