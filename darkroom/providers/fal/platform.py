"""fal's platform API, as far as it tells of models: which there are, what they accept, what they cost.

Anything may be missing in an entry (its metadata, its schema, its price): what is there is taken, and the ledger keeps
what an earlier card had of the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from darkroom.models import Card, self_contained
from darkroom.providers.fal.platform_api import API, PlatformApi
from darkroom.providers.http import amount_in

PUBLIC_SCHEMA = "https://fal.ai/api/openapi/queue/openapi.json"
PAGE = 50  # models of a page, and endpoints of a question for prices: fal's own bound
MOST_PAGES = 400  # fal has some 1,300 models: this is a list without an end
CALLS = 1000  # whose estimate is asked for at once: a single one's may be rounded to nothing
WORKFLOWS = "workflows/"  # of fal's users: ordered like models, and not in the list of them
WORKFLOW = re.compile(r"workflows/[A-Za-z0-9_-]{1,128}/[A-Za-z0-9_-]{1,128}")
USD = "USD"  # what all money here is; a price in another currency is none
SCHEMA_FIELDS = ("post", "requestBody", "content", "application/json", "schema")
ANSWER_FIELDS = ("get", "responses", "200", "content", "application/json", "schema")

Json = Mapping[str, Any]


class FalPlatform(PlatformApi):
    """What fal has to order."""

    def card(self, endpoint: str) -> Card | None:
        """Return the card of a model; None for one that fal does not have. Raise Retry or Park while it cannot say."""
        answer = self.get(f"{API}/models", {"endpoint_id": endpoint, "expand": "openapi-3.0"}, missing={})
        entry = next((each for each in _entries(answer) if each["endpoint_id"] == endpoint), None)
        if entry is None:
            return self._workflow(endpoint) if endpoint.startswith(WORKFLOWS) else None
        # fal writes `expansion_failed` there at times; the page that its site links to has the same document.
        if not _is_document(entry.get("openapi")):
            entry = {**entry, "openapi": self.get(PUBLIC_SCHEMA, {"endpoint_id": endpoint}, missing=None)}
        return card_of(entry, self._prices([endpoint], ask=self.get).get(endpoint))

    def usual_cost(self, endpoint: str) -> Decimal | None:
        """Return what a call of the model came to on the average, for anybody; None where fal has no history of it."""
        asked = {"estimate_type": "historical_api_price", "endpoints": {endpoint: {"call_quantity": CALLS}}}
        answer = self.post(f"{API}/models/pricing/estimate", asked)
        total = None if answer is None or _currency(answer) != USD else amount_in(answer.get("total_cost"))
        return total / CALLS if total else None

    def _workflow(self, endpoint: str) -> Card | None:
        """Return the card of a user's workflow: what it takes and answers is in its contents, what it costs nowhere."""
        answer = self.get(f"{API}/{endpoint}", {}, missing={}) if WORKFLOW.fullmatch(endpoint) else {}
        found = answer.get("workflow")
        return workflow_card(endpoint, found) if isinstance(found, Mapping) else None

    def pages(self) -> Iterator[Sequence[Card]]:
        """Yield the cards of all models, page by page, each model once. Wait where fal asks for patience."""
        seen: set[str] = set()
        query = {"limit": str(PAGE), "expand": "openapi-3.0"}
        cursors: set[str] = set()
        for _ in range(MOST_PAGES):
            answer = self.patiently(f"{API}/models", query)
            # Pages are numbered, and the list shifts while it is read: what was last on one is first on the next, too.
            new = [each for each in _entries(answer) if each["endpoint_id"] not in seen]
            seen |= {each["endpoint_id"] for each in new}
            if new:
                prices = self._prices([each["endpoint_id"] for each in new], ask=self.patiently)
                yield [card_of(each, prices.get(each["endpoint_id"])) for each in new]
            cursor = answer.get("next_cursor")
            # A cursor that comes again would lead round for ever.
            if not isinstance(cursor, str) or answer.get("has_more") is False or cursor in cursors:
                return
            cursors.add(cursor)
            query = {**query, "cursor": cursor}

    def _prices(self, endpoints: Sequence[str], *, ask: Callable[..., Any]) -> dict[str, Json]:
        """Return the prices of these models, as far as fal has any. `ask`: `get`, or `patiently`."""
        if not endpoints:
            return {}
        answer = ask(f"{API}/models/pricing", {"endpoint_id": list(endpoints)}, missing=None)
        if answer is not None:
            found = answer.get("prices")
            each = found if isinstance(found, list) else []
            return {str(price.get("endpoint_id")): price for price in each if isinstance(price, Mapping)}
        if len(endpoints) == 1:
            return {}
        # One of them that it does not know has cost the answer for all.
        half = len(endpoints) // 2
        return {**self._prices(endpoints[:half], ask=ask), **self._prices(endpoints[half:], ask=ask)}


def card_of(entry: Json, price: Json | None) -> Card:
    """Return the card of an entry of fal's list, and its price. Whatever is missing or unreadable is left out."""
    endpoint = str(entry["endpoint_id"])
    about = entry.get("metadata")
    about = about if isinstance(about, Mapping) else {}
    given, answered = schemas_of(entry.get("openapi"), endpoint)
    minutes = about.get("duration_estimate")
    return Card(
        endpoint=endpoint,
        account_id="fal",
        title=_text(about.get("display_name")) or endpoint,
        category=_text(about.get("category")),
        kind=_text(about.get("kind")) or "inference",
        status=_text(about.get("status")) or "active",
        description=_text(about.get("description"))[:2000],
        input_schema=given,
        output_schema=answered,
        # Some units have a blank behind them.
        unit=None if price is None else _text(price.get("unit")).strip() or None,
        unit_price=None if price is None or _currency(price) != USD else amount_in(price.get("unit_price")),
        currency=USD if price is None else _currency(price),
        # `duration_estimate` is in minutes.
        usual_seconds=minutes * 60 if isinstance(minutes, int | float) and minutes > 0 else None,
    )


def workflow_card(endpoint: str, workflow: Json) -> Card:
    """Return the card of a workflow. Of what comes out of it nothing is promised but what its schema names."""
    return Card(
        endpoint=endpoint,
        account_id="fal",
        title=_text(workflow.get("title")) or endpoint,
        category="workflow",
        description=_text(workflow.get("description"))[:2000],
        input_schema=self_contained(_fields(_within(workflow, ("contents", "schema", "input"))), {}),
        output_schema=self_contained(_fields(_within(workflow, ("contents", "schema", "output"))), {}),
    )


def _fields(schema: Any) -> Any:
    """Return the schema of an object, also where its fields stand alone, each saying whether it is required."""
    if not isinstance(schema, Mapping) or "properties" in schema:
        return schema
    fields = {name: each for name, each in schema.items() if isinstance(each, Mapping)}
    required = [name for name, each in fields.items() if each.get("required") is True]
    return {"type": "object", "properties": fields, "required": required}


def schemas_of(document: Any, endpoint: str) -> tuple[Json | None, Json | None]:
    """Return the schemas of input and output of a model's OpenAPI document: by reference, whatever they are called."""
    if not _is_document(document):
        return None, None
    paths, components = document["paths"], _within(document, ("components", "schemas"))
    components = components if isinstance(components, Mapping) else {}
    given = _within(paths.get(f"/{endpoint}"), SCHEMA_FIELDS)
    answered = _within(paths.get(f"/{endpoint}/requests/{{request_id}}"), ANSWER_FIELDS)
    return self_contained(given, components), self_contained(answered, components)


def _is_document(document: Any) -> bool:
    """Return whether it is a schema, and not what stands there where fal could not make one."""
    return isinstance(document, Mapping) and isinstance(document.get("paths"), Mapping)


def _within(document: Any, names: Sequence[str]) -> Any:
    for name in names:
        document = document.get(name) if isinstance(document, Mapping) else None
    return document


def _entries(answer: Json) -> list[dict[str, Any]]:
    found = answer.get("models")
    each = found if isinstance(found, list) else []
    return [dict(one) for one in each if isinstance(one, Mapping) and isinstance(one.get("endpoint_id"), str)]


def _text(value: object) -> str:
    # Postgres takes no NUL in a text.
    return value.replace("\x00", "") if isinstance(value, str) else ""


def _currency(price: Json) -> str:
    return _text(price.get("currency")) or USD
