"""The tables of models: their cards, version by version, and what an operator says of them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import DateTime, Double, Index, Numeric, text
from sqlalchemy.orm import configure_mappers
from sqlmodel import Field, SQLModel

from darkroom.ledger.columns import Json, json_object, usd, when


class ModelCard(SQLModel, table=True):
    """A version of what a platform publishes about a model. A call keeps the version it was checked and priced by."""

    __tablename__ = "model"
    __table_args__ = (Index("model_newest", "endpoint", unique=True, postgresql_where=text("superseded_at IS NULL")),)

    endpoint: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    digest: str  # of the facts: the same again is no new version
    account_id: str
    title: str
    category: str
    kind: str
    status: str
    description: str
    input_schema: Json | None = json_object()
    output_schema: Json | None = json_object()
    unit: str | None = None
    unit_price: Decimal | None = Field(default=None, sa_type=Numeric(18, 9))  # some are less than a microdollar
    currency: str
    usual_seconds: float | None = Field(default=None, sa_type=Double)
    packaged: bool  # it came with Darkroom, and nobody has asked the platform yet
    fetched_at: datetime = Field(sa_type=DateTime(timezone=True))  # when it was last seen like this
    superseded_at: datetime | None = when()


class ModelChoice(SQLModel, table=True):
    """What an operator says of a model, whatever its card says."""

    __tablename__ = "model_choice"

    endpoint: str = Field(primary_key=True)
    allowed: bool | None = None  # None: as the setting has it
    call_usd: Decimal | None = usd()  # what a call is taken to cost; None: as the card has it


configure_mappers()
