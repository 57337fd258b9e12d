"""Callbacks: endpoints of users, addresses of orders, deliveries, and up to which news they are on record."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"

JSONB = postgresql.JSONB(astext_type=sa.Text())
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "callback_endpoint",
        sa.Column("user_id", sa.String(), sa.ForeignKey("user.id"), primary_key=True),
        sa.Column("url", sa.String(), nullable=True),
        sa.Column("events", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("thin", sa.Boolean(), nullable=False),
        sa.Column("salt", sa.String(), nullable=False),
        sa.Column("shown", sa.Boolean(), nullable=False),
        sa.Column("salt_before", sa.String(), nullable=True),
        sa.Column("before_until", TIME, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("failing_since", TIME, nullable=True),
        sa.Column("off_at", TIME, nullable=True),
        sa.Column("off_reason", sa.String(), nullable=True),
        sa.Column("off_told_at", TIME, nullable=True),
    )
    op.create_table(
        "job_callback",
        sa.Column("job_id", sa.String(), sa.ForeignKey("job.id"), primary_key=True),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("events", postgresql.ARRAY(sa.Text()), nullable=False),
    )
    _deliveries()
    op.create_table(
        "callback_cursor",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("place", sa.BigInteger(), nullable=False),
    )
    op.execute("INSERT INTO callback_cursor (id, place) SELECT 1, COALESCE(max(place), 0) FROM notification")


def _deliveries() -> None:
    op.create_table(
        "callback",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=True),
        sa.Column("number", sa.BigInteger(), nullable=True),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("data", JSONB, nullable=True),
        sa.Column("told_at", TIME, nullable=False),
        sa.Column("of_order", sa.Boolean(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("lane", sa.String(), nullable=False),
        sa.Column("thin", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", TIME, nullable=False),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_answer", sa.String(), nullable=True),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("tried_at", TIME, nullable=True),
        sa.Column("delivered_at", TIME, nullable=True),
    )
    op.create_index("callback_once", "callback", ["number", "of_order"], unique=True)
    op.create_index("callback_due", "callback", ["lane", "next_at"], postgresql_where=sa.text("status = 'pending'"))
    op.create_index("callback_of_owner", "callback", ["owner_id", "created_at", "id"])
    op.create_index("callback_made", "callback", ["created_at"])
