"""The operators' side of the platform: what there is to order, what it costs, and what of the bills is seen when.

POST   /_sim/models                      a new model: {endpoint_id, category, unit, unit_price, openapi | input, output,
                                         …}, at the head of the list; its endpoint answers at once, by its schema
PATCH  /_sim/models?endpoint_id=…        {unit_price?, charged_price?, unit?, status?, is_priced?, has_metadata?,
                                         expansion_fails?, input?, output?, components?}
DELETE /_sim/models?endpoint_id=…        takes it away
POST   /_sim/models/rename               {from, to}: a new name; the old one is deprecated and goes on answering
PUT    /_sim/platform                    {billing_lag?, discount?, rate_limit?, rate_seconds?, request_list?,
                                         request_list_lag?, pricing_is_strict?, grows?}; what is left out stays
DELETE /_sim/platform                    models, settings and balances as at first; what was charged stays
PUT    /_sim/balance                     {usd, user_id?}
POST   /_sim/billing/release             {request_id?}: what is late or held back is seen now
POST   /_sim/billing/correct             {request_id, usd}: one event more, of so much; may be negative
GET    /_sim/invoice                     all that was charged, in nano-dollars, by user, key, model and request

Of a single request, rules decide: `units`, `units_header`, `billing_lag`, `billing`, `billing_parts`, `discount`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..answers import Json
from ..cards.card import Card
from ..provider import Provider

OrderT = TypeVar("OrderT", bound=BaseModel)


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class ModelOrder(_Order):
    endpoint_id: str = Field(pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)+$")
    title: str | None = None
    category: str
    description: str = ""
    kind: Literal["inference", "training"] = "inference"
    unit: str
    unit_price: Decimal = Field(ge=0)
    charged_price: Decimal | None = Field(None, ge=0)
    units_per_file: Decimal = Decimal(1)
    openapi: dict[str, Any] | None = None
    input: dict[str, Any] = Field(default_factory=dict)
    output: dict[str, Any] = Field(default_factory=dict)
    components: dict[str, Any] = Field(default_factory=dict)
    tags: tuple[str, ...] = ()
    minutes: float | None = Field(None, ge=0, description="That it usually takes, by its metadata.")
    status: Literal["active", "deprecated"] = "active"
    is_priced: bool = True
    has_metadata: bool = True
    expansion_fails: bool = False
    pace: float | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _has_a_schema(self) -> ModelOrder:
        if not self.openapi and not (self.input and self.output):
            raise ValueError("give openapi, or input and output")
        return self

    def card(self) -> Card:
        fields = self.model_dump(exclude={"endpoint_id", "title", "openapi", "pace"})
        card = Card(endpoint=self.endpoint_id, title=self.title or self.endpoint_id, document=self.openapi, **fields)
        try:
            # Looked up now, so that a bad document is this order's 422, and not the failure of each request to come.
            _ = card.schema_of_input, card.schema_of_output
        except (KeyError, TypeError) as error:
            raise HTTPException(422, f"The document has no such part: {error}") from error
        return card


class _Change(_Order):
    unit: str | None = None
    unit_price: Decimal | None = Field(None, ge=0)
    charged_price: Decimal | None = Field(None, ge=0)
    status: Literal["active", "deprecated"] | None = None
    is_priced: bool | None = None
    has_metadata: bool | None = None
    expansion_fails: bool | None = None
    input: dict[str, Any] | None = None
    output: dict[str, Any] | None = None
    components: dict[str, Any] | None = None

    def fields(self) -> dict[str, Any]:
        """Return what is said. A schema takes the place of a document that was given as a whole."""
        said = self.model_dump(exclude_unset=True)
        return said | {"document": None} if said.keys() & {"input", "output", "components"} else said


class _Renaming(_Order):
    old: str = Field(alias="from")
    to: str


class _Settings(_Order):
    billing_lag: float | None = Field(None, ge=0)
    discount: Decimal | None = Field(None, ge=0, le=100)
    rate_limit: int | None = Field(None, ge=1, description="Calls in a window; null: as many as one likes.")
    rate_seconds: float = Field(60, gt=0)
    request_list: Literal["sent", "ended"] | None = None
    request_list_lag: float | None = Field(None, ge=0)
    pricing_is_strict: bool | None = Field(None, description="One id that is not known costs the answer for all.")
    grows: int | None = Field(None, description="After so many reads one model more is in front; below 0: one less.")


class _Balance(_Order):
    usd: Decimal
    user_id: str = "sim-user"


class _Correction(_Order):
    request_id: str
    usd: Decimal


class _Release(_Order):
    request_id: str | None = None


class PlatformOperatorApi:
    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._catalogue, self._charges = provider.catalogue, provider.charges

    def routes(self) -> list[Route]:
        return [
            Route("/_sim/models", self.add_model, methods=["POST"]),
            Route("/_sim/models", self.change_model, methods=["PATCH"]),
            Route("/_sim/models", self.remove_model, methods=["DELETE"]),
            Route("/_sim/models/rename", self.rename_model, methods=["POST"]),
            Route("/_sim/platform", self.settings, methods=["PUT"]),
            Route("/_sim/platform", self.reset, methods=["DELETE"]),
            Route("/_sim/balance", self.balance, methods=["PUT"]),
            Route("/_sim/billing/release", self.release, methods=["POST"]),
            Route("/_sim/billing/correct", self.correct, methods=["POST"]),
            Route("/_sim/invoice", self.invoice, methods=["GET"]),
        ]

    async def add_model(self, request: Request) -> Response:
        order = await _order(request, ModelOrder)
        self._catalogue.add(order.card(), pace=order.pace)
        return Json({"endpoint_id": order.endpoint_id}, status_code=201)

    async def change_model(self, request: Request) -> Response:
        change = await _order(request, _Change)
        name = request.query_params.get("endpoint_id", "")
        return _of(self._catalogue.change(name, **change.fields()))

    async def remove_model(self, request: Request) -> Response:
        if not self._catalogue.remove(request.query_params.get("endpoint_id", "")):
            raise HTTPException(404, "No such model")
        return Response(status_code=204)

    async def rename_model(self, request: Request) -> Response:
        order = await _order(request, _Renaming)
        return _of(self._catalogue.rename(order.old, order.to))

    async def settings(self, request: Request) -> Response:
        order = await _order(request, _Settings)
        said = order.model_fields_set
        if order.billing_lag is not None:
            self._charges.lag_seconds = order.billing_lag
        if order.discount is not None:
            self._charges.discount = order.discount
        # Null says something here: that there is no limit any more.
        if "rate_limit" in said:
            self._provider.rate_limit.set(order.rate_limit, seconds=order.rate_seconds)
        if order.request_list is not None:
            self._provider.request_list = order.request_list
        if order.request_list_lag is not None:
            self._provider.request_list_lag = order.request_list_lag
        if order.pricing_is_strict is not None:
            self._provider.pricing_is_strict = order.pricing_is_strict
        if order.grows is not None:
            self._catalogue.grows = order.grows
        return Response(status_code=204)

    async def reset(self, _: Request) -> Response:
        self._provider.reset_platform()
        return Response(status_code=204)

    async def balance(self, request: Request) -> Response:
        order = await _order(request, _Balance)
        if not self._charges.set_balance(order.user_id, order.usd):
            raise HTTPException(404, "No such user")
        return Response(status_code=204)

    async def release(self, request: Request) -> Response:
        order = await _order(request, _Release) if await request.body() else _Release()
        return Json({"released": self._charges.release(order.request_id)})

    async def correct(self, request: Request) -> Response:
        order = await _order(request, _Correction)
        if not self._charges.correct(order.request_id, order.usd):
            raise HTTPException(404, "Nothing was charged for that request")
        return Response(status_code=204)

    async def invoice(self, _: Request) -> Response:
        return Json(self._charges.invoice())


def _of(card: Card | None) -> Response:
    if card is None:
        raise HTTPException(404, "No such model")
    return Json({"endpoint_id": card.endpoint, "unit_price": str(card.unit_price), "status": card.status})


async def _order(request: Request, kind: type[OrderT]) -> OrderT:
    try:
        return kind.model_validate_json(await request.body())
    except ValidationError as error:
        raise HTTPException(422, str(error)) from error
