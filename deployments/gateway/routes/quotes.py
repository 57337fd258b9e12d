"""`POST /v1/quotes`: what an order would cost, and how that is known. Nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from typing import Annotated, Any

from pydantic import Field

from darkroom.deployments.gateway.auth import UserId
from darkroom.deployments.gateway.batch_orders import read_batch
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.problems import not_found
from darkroom.deployments.gateway.routes.orders import read_order
from darkroom.deployments.gateway.routing import whole_router
from darkroom.deployments.gateway.schemas.base import Document, Usd
from darkroom.deployments.gateway.schemas.labels import labelled
from darkroom.deployments.gateway.services import ServicesOf
from darkroom.errors import NeedsHuman
from darkroom.flows.orders import NAMED
from darkroom.flows.orders.generation import require_own_files
from darkroom.flows.parts.batch_order import plan_batch
from darkroom.flows.parts.trained_style import find_style
from darkroom.ledger import BATCH, Ledger
from darkroom.ledger.pricing import price
from darkroom.models import NoPrice
from darkroom.order import EstimatePart, Order

router = whole_router(tags=["Orders"])

Quoted = tuple[Decimal | None, Sequence[EstimatePart]]
BY_KIND = {each.over_http.kind: each for each in NAMED if each.over_http is not None}


class QuoteOrder(Document):
    """An order, as it would be sent."""

    kind: Annotated[str, Field(max_length=100, description="The pipeline's name.", examples=["run-model"])]
    order: dict[str, Any] = Field(
        description="The order's body.", examples=[{"model": "fal-ai/nano-banana", "input": {"prompt": "a fox"}}]
    )


class QuotePart(Document):
    """One paid call of it, or several of the same; of a batch all rows of a pass that are known alike."""

    step: str = Field(description="Of a batch its pass: `draft` or `final`.", examples=["run"])
    endpoint: str | None = Field(examples=["fal-ai/nano-banana"])
    units: float | None = Field(description="How much of it; null where nobody counts.", examples=[1])
    unit: str | None = Field(examples=["images"])
    unit_price_usd: Usd | None = Field(examples=[0.039])
    usd: Usd = Field(examples=[0.039])
    price_usd: Usd = Field(description="With the plan's mark-up.", examples=[0.0507])
    source: str = Field(
        description="How it is known: `list_price`, `own_calls` (nine in ten of yours came to less), `platform` "
        "(what calls usually come to, as the provider says), `operator`, "
        "`max_usd`, `guess`, or `pipeline` (what it says itself).",
        examples=["list_price"],
    )


class Quote(Document):
    estimate_usd: Usd | None = Field(description="The most it should cost; null where nobody can say.")
    price_usd: Usd | None = Field(
        description="With the plan's mark-up, which is that of the order if it is sent now; rounded to the nearest "
        "millionth of a dollar."
    )
    parts: list[QuotePart]


@router.post("/v1/quotes", summary="Ask what an order would cost", responses=problem_responses(401, 403, 404, 422))
def quote_order(asked: QuoteOrder, user_id: UserId, services: ServicesOf) -> Quote:
    """Price any order's body, checked as the order itself would be. Nothing is queued and nothing is put on record."""
    ledger = services.ledger
    if asked.kind == BATCH:
        usd, parts = _of_batch(asked.order, ledger, user_id=user_id)
    else:
        usd, parts = _of_order(asked, ledger, user_id=user_id)
    markup = ledger.users.plan_of(user_id).markup
    return Quote(
        estimate_usd=usd,
        price_usd=None if usd is None else price(usd, markup),
        parts=[_part(each, markup) for each in parts],
    )


def _of_order(asked: QuoteOrder, ledger: Ledger, *, user_id: str) -> Quoted:
    prepared = _prepared(_order(asked), ledger, user_id=user_id)
    parts = list(prepared.parts)
    if not parts and prepared.estimate_usd:  # a pipeline of a project's may say a sum alone
        step = prepared.first.step if prepared.first else asked.kind
        parts = [EstimatePart(step=step, usd=prepared.estimate_usd, source="pipeline")]
    return prepared.estimate_usd, parts


def _prepared(order: Order, ledger: Ledger, *, user_id: str) -> Any:
    """Prepare the order as it is priced."""
    # Without `max_usd`, which refuses what costs more: that it does is what somebody asks for.
    free = order.model_copy(update={"max_usd": None}) if "max_usd" in type(order).model_fields else order
    try:
        free.check()
        return free.prepare(ledger, user_id=user_id)
    except NoPrice:  # nothing else is known of its price than the bound that it sets itself
        order.check()
        return order.prepare(ledger, user_id=user_id)


def _order(asked: QuoteOrder) -> Order:
    if asked.kind in BY_KIND:
        return read_order(labelled(BY_KIND[asked.kind]), asked.order, within="order")
    # Here, as it imports Prefect and the project's code: a gateway that is never asked for it does without.
    from darkroom.engine.registry import find

    try:
        order_model = labelled(find(asked.kind).order)
    except NeedsHuman as missing:
        raise not_found("pipeline") from missing
    return read_order(order_model, asked.order, within="order")


def _of_batch(body: dict[str, Any], ledger: Ledger, *, user_id: str) -> Quoted:
    """Quote both passes with every row chosen."""
    options, source, _ = read_batch(body, {}, ledger, user_id=user_id)
    free = options.model_copy(update={"max_usd": None})
    plan = plan_batch(
        source,
        free,
        style=lambda name: find_style(ledger, user_id, name),
        files=partial(require_own_files, ledger, user_id=user_id),
    )
    return plan.estimate_usd, plan.parts()


def _part(part: EstimatePart, markup: Decimal) -> QuotePart:
    units = None if part.units is None else float(part.units)
    return QuotePart(**{**vars(part), "units": units, "price_usd": price(part.usd, markup)})
