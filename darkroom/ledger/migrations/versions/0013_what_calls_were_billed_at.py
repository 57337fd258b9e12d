"""What calls were billed at by their providers, and what is known of accounts' money there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

USD = sa.Numeric(18, 9)
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _requests()
    _accounts()


def _requests() -> None:
    op.add_column("request", sa.Column("billed_usd", USD, nullable=True))
    op.add_column("request", sa.Column("billed_source", sa.String(), nullable=True))
    op.add_column("request", sa.Column("billed_at", TIME, nullable=True))
    op.add_column("request", sa.Column("bill_due_at", TIME, nullable=True))
    op.add_column("request", sa.Column("bill_closed", sa.Boolean(), nullable=False, server_default=sa.text("false")))
    op.create_index(
        "request_unbilled",
        "request",
        ["account_id", sa.literal_column("COALESCE(bill_due_at, finished_at)").label("due")],
        postgresql_where=sa.text("finished_at IS NOT NULL AND request_id IS NOT NULL AND NOT bill_closed"),
    )
    # In place of `request_paid`: what the version before asks for is found by it, too.
    op.create_index(
        "request_spent",
        "request",
        ["user_id", "finished_at"],
        postgresql_include=["cost_usd", "billed_usd"],
        postgresql_where=sa.text("cost_usd IS NOT NULL OR billed_usd IS NOT NULL"),
    )
    op.drop_index("request_paid", "request")
    op.create_index("delivery_paid", "delivery", ["received_at"], postgresql_where=sa.text("cost_usd > 0"))


def _accounts() -> None:
    op.create_table(
        "account_money",
        sa.Column("account_id", sa.String(), sa.ForeignKey("account.id"), primary_key=True),
        sa.Column("bills_due_at", TIME, nullable=True),
        sa.Column("bills_failed", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("balance_usd", USD, nullable=True),
        sa.Column("balance_at", TIME, nullable=True),
        sa.Column("balance_due_at", TIME, nullable=True),
        sa.Column("balance_told_at", TIME, nullable=True),
        sa.Column("stopped_at", TIME, nullable=True),
        sa.Column("drift_told_on", sa.Date(), nullable=True),
    )
