"""The kinds of columns and indexes that the tables share."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import DateTime, Index, Numeric, SmallInteger, literal_column, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from darkroom.clock import utc_now

Json = dict[str, Any]
ON_DEMAND = "on-demand"  # the deployment in which jobs run, unless an event has started them in another


def when(*, now: bool = False, column: str | None = None, attribute: str = "") -> Any:
    """Declare a column with a time and its zone. `now`: the time when the row is made, if none is given.

    `column`: what it is stored as, where that is not the attribute (`stored_as`).
    """
    if now:
        return Field(default_factory=utc_now, sa_type=DateTime(timezone=True))
    if column is not None:
        return Field(default=None, sa_type=DateTime(timezone=True), sa_column_kwargs=stored_as(column, attribute))
    return Field(default=None, sa_type=DateTime(timezone=True))


def stored_as(name: str, attribute: str) -> dict[str, Any]:
    """Return what a field needs whose column has kept a name of an earlier version, which may run on it still."""
    return {"name": name, "key": attribute}


def usd(default: Decimal | None = None) -> Any:
    """Declare a column with money, to a millionth."""
    return Field(default=default, sa_type=Numeric(12, 6))


def usd_billed() -> Any:
    """Declare a column with money as providers bill it, to a billionth."""
    return Field(default=None, sa_type=Numeric(18, 9))


def markup() -> Any:
    """Declare a column with what a cost is multiplied by to be a price."""
    return Field(default=Decimal(1), sa_type=Numeric(8, 4), sa_column_kwargs={"server_default": text("1")})


def switched_off() -> Any:
    """Declare a column with a switch that is off, for rows that are there already too."""
    return Field(default=False, sa_column_kwargs={"server_default": text("false")})


def json_object() -> Any:
    return Field(default=None, sa_type=JSONB)


def depth() -> Any:
    """Declare a column with how many ends of jobs, each of which started the next, led to this."""
    return Field(default=0, sa_type=SmallInteger, sa_column_kwargs={"server_default": text("0")})


def on_demand() -> Any:
    """Declare a column with a deployment's name, without the flow's."""
    return Field(default=ON_DEMAND, sa_column_kwargs={"server_default": ON_DEMAND})


def words_anywhere(name: str, expression: str, *, where: str) -> Index:
    """Declare an index by which a text is found anywhere in what the expression is."""
    return Index(
        name,
        literal_column(f"({expression})").label("words"),
        postgresql_using="gin",
        # By trigrams: for a text in the midst of another Postgres has no other index.
        postgresql_ops={"words": "gin_trgm_ops"},
        postgresql_where=text(where),
    )
