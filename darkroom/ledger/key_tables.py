"""The tables of API keys and their sessions, and what a key may be good for."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import configure_mappers
from sqlmodel import Field, SQLModel

from darkroom.ledger.columns import when
from darkroom.ledger.tables import new_id


class Scope(StrEnum):
    """What a key opens. No scope implies another."""

    ADMIN = "admin"  # users, keys, plans, accounts and models of the installation
    ORDERS = "orders"  # order, bring files, choose, cancel, replay
    EVENTS = "events"  # send events
    READ = "read"  # look at what is one's own


USUAL = (Scope.ORDERS, Scope.EVENTS, Scope.READ)  # what a key is good for unless somebody says otherwise


class ApiKey(SQLModel, table=True):
    __tablename__ = "api_key"

    digest: str = Field(primary_key=True)  # SHA-256 of the key: it is 256 random bits, so no salt and no stretching
    # The version before migration 0014 makes keys, too: they are given an id, no name, and what it means by a key.
    id: str = Field(
        default_factory=lambda: new_id("key_"),
        unique=True,
        sa_column_kwargs={"server_default": text("'key_' || replace(gen_random_uuid()::text, '-', '')")},
    )
    name: str = Field(default="", sa_column_kwargs={"server_default": ""})  # what its owner knows it by
    user_id: str = Field(foreign_key="user.id", index=True)
    service: bool = False  # may act for its own end users
    scopes: list[str] = Field(
        default_factory=lambda: list(USUAL),
        sa_type=ARRAY(Text),
        sa_column_kwargs={"server_default": text("'{orders,events,read}'")},
    )
    created_at: datetime = when(now=True)
    revoked_at: datetime | None = when()
    expires_at: datetime | None = when()  # as it was made, or set by a rotation: the old key and the new one overlap
    last_used_at: datetime | None = when()  # to the minute


class KeySession(SQLModel, table=True):
    """What a browser holds in place of a key. It ends with the key."""

    __tablename__ = "session"

    digest: str = Field(primary_key=True)  # SHA-256 of the token, as random as a key
    key_id: str = Field(foreign_key="api_key.id", index=True)
    created_at: datetime = when(now=True)
    expires_at: datetime = when(now=True)  # always given


configure_mappers()
