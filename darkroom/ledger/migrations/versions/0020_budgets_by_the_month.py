"""Budgets by the month beside those by the day, users with budgets of their own, and mark-ups of prices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.add_column("plan", sa.Column("monthly_budget_usd", sa.Numeric(12, 6), nullable=True))
    op.add_column("user", sa.Column("daily_budget_usd", sa.Numeric(12, 6), nullable=True))
    op.add_column("user", sa.Column("monthly_budget_usd", sa.Numeric(12, 6), nullable=True))
    for table in ("plan", "job", "request"):
        op.add_column(table, sa.Column("markup", sa.Numeric(8, 4), nullable=False, server_default="1"))
