"""Cards of models, version by version, and what an operator says of them. A call keeps the card it was checked by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"

JSONB = postgresql.JSONB(astext_type=sa.Text())


def upgrade() -> None:
    op.create_table(
        "model",
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("category", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("input_schema", JSONB, nullable=True),
        sa.Column("output_schema", JSONB, nullable=True),
        sa.Column("unit", sa.String(), nullable=True),
        sa.Column("unit_price", sa.Numeric(18, 9), nullable=True),
        sa.Column("currency", sa.String(), nullable=False),
        sa.Column("usual_seconds", sa.Double(), nullable=True),
        sa.Column("packaged", sa.Boolean(), nullable=False),
        sa.Column("fetched_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("superseded_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("endpoint", "version"),
    )
    op.create_index(
        "model_newest", "model", ["endpoint"], unique=True, postgresql_where=sa.text("superseded_at IS NULL")
    )
    op.create_table(
        "model_choice",
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("allowed", sa.Boolean(), nullable=True),
        sa.Column("call_usd", sa.Numeric(12, 6), nullable=True),
        sa.PrimaryKeyConstraint("endpoint"),
    )
    op.add_column("request", sa.Column("model_version", sa.Integer(), nullable=True))
    op.create_index(
        "request_costed",
        "request",
        ["endpoint", "finished_at"],
        postgresql_include=["cost_usd"],
        postgresql_where=sa.text("status = 'succeeded' AND cost_usd > 0"),
    )
