"""The tables of what was trained, and of where providers have it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import DateTime, Text, UniqueConstraint
from sqlalchemy.orm import configure_mappers
from sqlmodel import Field, SQLModel

from darkroom.ledger.columns import when
from darkroom.ledger.statuses import LoraStatus


class Lora(SQLModel, table=True):
    """A style or face that was trained, as one version of its trigger word."""

    __table_args__ = (UniqueConstraint("user_id", "trigger_word", "version"),)

    id: str = Field(primary_key=True)
    user_id: str = Field(foreign_key="user.id")
    job_id: str = Field(foreign_key="job.id", unique=True)  # the training
    trigger_word: str
    version: int
    weights_asset_id: str = Field(foreign_key="asset.id")
    config_asset_id: str = Field(foreign_key="asset.id")
    sample_asset_id: str | None = Field(default=None, foreign_key="asset.id")
    status: LoraStatus = Field(sa_type=Text)
    created_at: datetime = when(now=True)


class ProviderCopy(SQLModel, table=True):
    """Where a provider has a file of the media store, for as long as it keeps it: weights go there once a day."""

    __tablename__ = "provider_copy"

    asset_id: str = Field(primary_key=True, foreign_key="asset.id")
    account_id: str = Field(primary_key=True, foreign_key="account.id")
    url: str
    expires_at: datetime = Field(sa_type=DateTime(timezone=True))


# As in `tables`: rows are read without a session.
configure_mappers()
