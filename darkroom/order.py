"""What a pipeline is ordered with: one model is its form in Prefect's UI, its body over HTTP, and what is checked.

Nothing here imports Prefect, as the gateway takes orders without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as attribute
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from darkroom.errors import BadInput
from darkroom.ledger import Ledger, RequestSpec


def field(title: str, description: str, default: Any = ..., **bounds: Any) -> Any:
    """Describe a field of an order: its title in forms, its description, and pydantic's bounds (`ge=1`, …)."""
    # Prefect's form overwrites a field's own title, but not one among the extras.
    return Field(default, description=description, json_schema_extra={"title": title}, **bounds)


def in_order(schema: dict[str, Any]) -> None:
    """Give the fields of a model inside an order their positions: as its `json_schema_extra`."""
    # Prefect keeps schemas as jsonb, which forgets an order that is not told.
    for position, each in enumerate(schema["properties"].values()):
        each["position"] = position


@dataclass(frozen=True, kw_only=True)
class InForm:
    """Beside a field's type (`Annotated`): the type that Prefect's form shows instead, which the field takes too."""

    type: Any


def _as_text(given: Any) -> Any:
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


# An id of the application's own, which a command line (`-p account=4711`) and many an application have as a number.
OwnId = Annotated[
    str,
    Field(min_length=1, max_length=200),
    BeforeValidator(_as_text, json_schema_input_type=Annotated[str, Field(min_length=1, max_length=200)] | int),
]


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where an order is taken over HTTP beside `/v1/orders/{kind}`, and how it is told of in the API's description.

    `name`: of the method in generated clients. `answers`: what comes of it, in Markdown. `examples`: bodies by name, as
    OpenAPI has them.
    """

    path: str
    name: str
    kind: str
    tag: str
    summary: str
    answers: str
    examples: Mapping[str, Any] = attribute(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EstimatePart:
    """What a part of an order should cost at most: a paid call, or several of the same.

    `source`: how it is known, as of `darkroom.models.Estimate`.
    """

    step: str
    usd: Decimal
    source: str
    endpoint: str | None = None
    units: Decimal | None = None
    unit: str | None = None
    unit_price_usd: Decimal | None = None

    def plus(self, other: EstimatePart) -> EstimatePart:
        """Return both as one part: several calls of the same model, whose price is known in the same way."""
        units = None if self.units is None or other.units is None else self.units + other.units
        return replace(self, usd=self.usd + other.usd, units=units)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What goes on record with an order.

    `first`: its first paid call, which queues for a slot at once, before any run has begun. `estimate_usd`: the most
    that the whole should cost; None where nobody can say. `tell_estimate`: the answer to the order names it. `parts`:
    what it is made of, as far as that is told.
    """

    first: RequestSpec | None = None
    estimate_usd: Decimal | None = None
    tell_estimate: bool = True
    parts: Sequence[EstimatePart] = ()


class ExactNumbers(BaseModel):
    """A model that does not take true for 1, as Python does: it would be paid for, and nobody means it."""

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, given: Any, info: ValidationInfo) -> Any:
        values = given if isinstance(given, list) else [given]
        if any(isinstance(each, bool) for each in values) and _is_number(cls.model_fields[info.field_name or ""]):
            raise PydanticCustomError("number", "Input should be a number, not true or false")
        return given


def _is_number(field: FieldInfo) -> bool:
    """Return whether a field is a number, or several, and no truth value."""
    types = [field.annotation, *get_args(field.annotation)]
    types += [inner for each in types for inner in get_args(each)]
    return any(each in (int, float, Decimal) for each in types) and bool not in types


class Order(ExactNumbers):
    """What a pipeline is ordered with. A field it does not know is refused."""

    model_config = ConfigDict(extra="forbid")

    over_http: ClassVar[Address | None] = None

    def check(self) -> None:
        """Raise BadInput for what no single field can tell. Called before anything is on record; asks nobody."""

    def prepare(self, ledger: Ledger, *, user_id: str) -> Prepared:
        """Return what goes on record with an order over HTTP. Raises BadInput, e.g. for another user's file."""
        return Prepared()

    def parameters(self) -> dict[str, Any]:
        """Return the order as its job has it on record."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @classmethod
    def read(cls, parameters: Mapping[str, Any]) -> Self:
        """Return the order that these parameters are. Raises BadInput, by field."""
        try:
            return cls.model_validate(parameters)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            # Not what was given: it may be anything.
            raise BadInput(f"{place or 'the order'}: {first['msg']}.", field=place) from None
