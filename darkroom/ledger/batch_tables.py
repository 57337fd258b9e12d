"""The tables of batches: what a person chooses from, and the manifest as it was given."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import configure_mappers
from sqlmodel import Field, SQLModel

from darkroom.ledger.columns import Json, json_object, when


class Batch(SQLModel, table=True):
    """A job of many rows, in two passes with a person's choice between them."""

    __table_args__ = (Index("batch_paused", "job_id", postgresql_where=text("paused_at IS NOT NULL")),)

    job_id: str = Field(primary_key=True, foreign_key="job.id")
    rows: int
    forecast: Json = json_object()  # USD, as text: {"draft", "final_all"}
    paused_at: datetime | None = when()  # nothing more of it is granted
    asked_at: datetime | None = when()  # its first pass is done, a person is asked
    answer_by: datetime | None = when()  # then the policy answers; None: it waits for as long as it takes
    winners: list[int] | None = Field(default=None, sa_type=JSONB)  # rows, from 0
    chosen_at: datetime | None = when()
    chosen_via: str | None = None  # "api", "ui" or "policy"


class BatchRow(SQLModel, table=True):
    """A row of a batch's manifest, as it was given."""

    __tablename__ = "batch_row"

    batch_id: str = Field(primary_key=True, foreign_key="batch.job_id")
    n: int = Field(primary_key=True)  # from 0
    name: str | None = None  # the user's own id of it
    picture: Json = json_object()
    same_as: int | None = None  # the row whose picture serves for it: identical, and to be paid once


configure_mappers()
