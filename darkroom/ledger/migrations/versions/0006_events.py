"""Events, what came of them, and durable waiting: waits and recorded steps."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"

JSONB = postgresql.JSONB(astext_type=sa.Text())
OPEN = sa.text("status = 'open'")


def _when(name: str, *, nullable: bool = True) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "event",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=True),
        sa.Column("user_id", sa.String(), sa.ForeignKey("user.id"), nullable=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("data", JSONB, nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("problem", JSONB, nullable=True),
        _when("occurred_at", nullable=False),
        _when("received_at", nullable=False),
        _when("told_at"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("source", "key"),
    )
    op.create_index("event_by_source", "event", ["source", "received_at"])
    op.create_index("event_by_name", "event", ["name", "received_at"], postgresql_where=sa.text("status = 'accepted'"))
    op.create_index(
        "event_untold",
        "event",
        ["received_at"],
        postgresql_where=sa.text("told_at IS NULL AND status = 'accepted'"),
    )
    op.create_table(
        "wait",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), sa.ForeignKey("job.id"), nullable=False),
        sa.Column("user_id", sa.String(), sa.ForeignKey("user.id"), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("event_name", sa.String(), nullable=True),
        sa.Column("match", sa.String(), nullable=True),
        sa.Column("child_job_id", sa.String(), sa.ForeignKey("job.id"), nullable=True),
        _when("until"),
        sa.Column("event_id", sa.String(), sa.ForeignKey("event.id"), nullable=True),
        sa.Column("settled_by", sa.String(), nullable=True),
        _when("created_at", nullable=False),
        _when("settled_at"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_id", "name"),
    )
    op.create_index("wait_for_event", "wait", ["event_name", "user_id"], postgresql_where=OPEN)
    op.create_index("wait_due", "wait", ["until"], postgresql_where=OPEN)
    op.create_index("wait_for_child", "wait", ["child_job_id"], postgresql_where=sa.text("child_job_id IS NOT NULL"))
    op.create_table(
        "event_effect",
        sa.Column("event_id", sa.String(), sa.ForeignKey("event.id"), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("deployment", sa.String(), nullable=True),
        sa.Column("job_id", sa.String(), sa.ForeignKey("job.id"), nullable=True),
        sa.Column("wait_id", sa.String(), sa.ForeignKey("wait.id"), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        _when("at", nullable=False),
        sa.PrimaryKeyConstraint("event_id", "n"),
    )
    op.create_table(
        "step",
        sa.Column("job_id", sa.String(), sa.ForeignKey("job.id"), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("result", JSONB, nullable=True),
        sa.Column("error", JSONB, nullable=True),
        _when("begun_at", nullable=False),
        _when("done_at"),
        sa.PrimaryKeyConstraint("job_id", "name"),
    )
