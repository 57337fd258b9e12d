"""The tables of what is known of an account's money at its provider, and of what a replay may cost.

The first stands beside `account`, whose row every grant locks.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy.orm import configure_mappers
from sqlmodel import Field, SQLModel

from darkroom.ledger.columns import usd, usd_billed, when


class AccountMoney(SQLModel, table=True):
    """How the provider of an account is asked for its bills and its balance, and what was told of them."""

    __tablename__ = "account_money"

    account_id: str = Field(primary_key=True, foreign_key="account.id")
    bills_due_at: datetime | None = when()  # not asked for bills before: it did not answer, or does not tell
    bills_failed: int = 0  # how often so, one after the other
    balance_usd: Decimal | None = usd_billed()
    balance_at: datetime | None = when()  # of that balance
    balance_due_at: datetime | None = when()  # read again
    # That it is low was sent to the operator; None once it is not.
    balance_sent_at: datetime | None = when(column="balance_told_at", attribute="balance_sent_at")
    stopped_at: datetime | None = when()  # nothing is granted, as it is lower still
    drift_told_on: date | None = None  # the last day for which bills and costs were compared


class Replay(SQLModel, table=True):
    """Failed jobs that were put back together, and what they may cost in all."""

    id: str = Field(primary_key=True)
    budget_usd: Decimal | None = usd()
    created_at: datetime = when(now=True)


# As in `tables`: rows are read without a session.
configure_mappers()
