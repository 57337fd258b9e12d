"""Turns between users, the breaker and the throttle of an account, budgets, recoveries and replays."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    for column in (
        sa.Column("grants", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("passed", postgresql.JSONB(astext_type=sa.Text()), nullable=False, server_default="{}"),
        sa.Column("down_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("probe_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failed_probes", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("halvings", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("slowed_at", sa.DateTime(timezone=True), nullable=True),
    ):
        op.add_column("account", column)
    op.add_column("plan", sa.Column("most_queued", sa.Integer(), nullable=False, server_default="20000"))
    op.add_column("run", sa.Column("recoveries", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("run", sa.Column("recovered_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("job", sa.Column("replayed_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "job_put_back",
        "job",
        ["replayed_at"],
        postgresql_where=sa.text("replayed_at IS NOT NULL AND run_id IS NULL AND finished_at IS NULL"),
    )
    op.add_column("request", sa.Column("probe", sa.Boolean(), nullable=False, server_default="false"))
    op.create_table(
        "turn",
        sa.Column("account_id", sa.String(), sa.ForeignKey("account.id"), nullable=False),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("user_id", sa.String(), sa.ForeignKey("user.id"), nullable=False),
        sa.Column("passed", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "lane", "user_id"),
    )
    op.create_index(
        "request_paid",
        "request",
        ["user_id", "finished_at"],
        postgresql_include=["cost_usd"],
        postgresql_where=sa.text("cost_usd IS NOT NULL"),
    )
    op.create_index("run_closed", "run", ["closed_at"], postgresql_where=sa.text("closed_at IS NOT NULL"))
    op.create_index("delivery_late", "delivery", ["received_at"], postgresql_where=sa.text("verdict = 'late'"))
    op.create_index(
        "request_unseen",
        "request",
        ["finished_at"],
        postgresql_where=sa.text("status = 'succeeded' AND output IS NULL"),
    )
