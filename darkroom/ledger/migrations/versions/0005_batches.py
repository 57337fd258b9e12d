"""Batches: a manifest as rows, its children as jobs, and what a person chose."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "batch",
        sa.Column("job_id", sa.String(), sa.ForeignKey("job.id"), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("forecast", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("answer_by", sa.DateTime(timezone=True), nullable=True),
        sa.Column("winners", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("chosen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("chosen_via", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_table(
        "batch_row",
        sa.Column("batch_id", sa.String(), sa.ForeignKey("batch.job_id"), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("picture", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("same_as", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("batch_id", "n"),
    )
    op.add_column("job", sa.Column("stage", sa.Text(), nullable=True))
    op.drop_index("ix_job_parent_id", "job")
    op.create_index(
        "job_child",
        "job",
        ["parent_id", "stage", "manifest_row"],
        unique=True,
        postgresql_where=sa.text("parent_id IS NOT NULL"),
    )
    op.create_index(
        "job_open_child",
        "job",
        ["parent_id"],
        postgresql_where=sa.text("parent_id IS NOT NULL AND finished_at IS NULL"),
    )
    op.add_column("run", sa.Column("asks", sa.Boolean(), nullable=False, server_default="false"))
