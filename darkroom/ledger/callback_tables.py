"""The tables of callbacks: where a user's application is told, and each delivery to it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Column, Index, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import configure_mappers
from sqlmodel import Field, SQLModel

from darkroom.ledger.columns import Json, json_object, when


class CallbackEndpoint(SQLModel, table=True):
    """Where the owner of a key is told, and what their secrets are derived from. Without a `url`: these alone."""

    __tablename__ = "callback_endpoint"

    user_id: str = Field(primary_key=True, foreign_key="user.id")  # of a service: with all of its end users
    url: str | None = None
    events: list[str] = Field(default_factory=list, sa_column=Column(ARRAY(Text), nullable=False))
    thin: bool = False
    # Secrets are derived from these with the installation's signing key: whoever reads the ledger has none.
    salt: str
    shown: bool = False  # the secret was: nobody is shown it again
    salt_before: str | None = None  # signs beside the other while a rotation lasts
    before_until: datetime | None = when()
    created_at: datetime = when(now=True)
    failing_since: datetime | None = when()  # nothing was delivered since then
    off_at: datetime | None = when()
    off_reason: str | None = None
    off_sent_at: datetime | None = when(column="off_told_at", attribute="off_sent_at")  # to the operator


class JobCallback(SQLModel, table=True):
    """Where its order said that a job's news goes."""

    __tablename__ = "job_callback"

    job_id: str = Field(primary_key=True, foreign_key="job.id")
    url: str
    events: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))


class CallbackCursor(SQLModel, table=True):
    """Up to which place in the stream callbacks are on record. One row, whose lock is that of the one who reads on."""

    __tablename__ = "callback_cursor"

    id: int = Field(primary_key=True)
    place: int = Field(sa_type=BigInteger)


class Callback(SQLModel, table=True):
    """One piece of news for one address. Its id stays the same however often it is sent.

    It has no foreign keys: their checks lock the rows of many jobs, one after the other in the order of the news, and
    whoever locks several jobs in another order would be caught in that. Neither users nor jobs are ever deleted.
    """

    __table_args__ = (
        Index("callback_once", "number", "of_order", unique=True),
        Index("callback_due", "lane", "next_at", postgresql_where=text("status = 'pending'")),
        Index("callback_of_owner", "owner_id", "created_at", "id"),
        Index("callback_made", "created_at"),
    )

    id: str = Field(primary_key=True)
    owner_id: str  # whose key it is, and so whose secret signs
    user_id: str  # whose news
    job_id: str | None = None
    number: int | None = Field(default=None, sa_type=BigInteger)  # the place of the news; None for a test
    event: str
    data: Json | None = json_object()
    published_at: datetime = when(column="told_at", attribute="published_at")  # as news
    of_order: bool  # to the address that its order gave, and not to the owner's endpoint
    url: str
    lane: str  # owner and host: the deliveries that wait for each other
    thin: bool = False
    status: str  # pending, delivered, dead
    attempts: int = 0
    next_at: datetime = when()  # due; while it is being sent, when it is due should the sender die
    last_status: int | None = None
    last_answer: str | None = None  # at most 4 KiB
    last_error: str | None = None  # where there was no answer that counts
    created_at: datetime = when(now=True)
    tried_at: datetime | None = when()
    delivered_at: datetime | None = when()


configure_mappers()  # as in `tables.py`
