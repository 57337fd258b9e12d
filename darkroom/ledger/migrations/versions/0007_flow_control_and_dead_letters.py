"""Flow control (runs that events ask for, before they begin), and what becomes of failed jobs."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"

JSONB = postgresql.JSONB(astext_type=sa.Text())


def _when(name: str, *, nullable: bool = True) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "flow_control",
        sa.Column("deployment", sa.String(), nullable=False),
        sa.Column("terms", JSONB, nullable=False),
        sa.PrimaryKeyConstraint("deployment"),
    )
    op.create_table(
        "start",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("deployment", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), sa.ForeignKey("user.id"), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("gather_key", sa.String(), nullable=True),
        sa.Column("takes_all", sa.Boolean(), nullable=False),
        sa.Column("rate_key", sa.String(), nullable=True),
        sa.Column("throttle_key", sa.String(), nullable=True),
        sa.Column("singleton_key", sa.String(), nullable=True),
        sa.Column("concurrency_key", sa.String(), nullable=True),
        sa.Column("gate_key", sa.String(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("parameters", JSONB, nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        _when("created_at", nullable=False),
        _when("ranked_at", nullable=False),
        _when("due_at"),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("job_id", sa.String(), sa.ForeignKey("job.id"), nullable=True),
        _when("paced_until"),
        _when("settled_at"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "start_gathering",
        "start",
        ["deployment", "user_id", "gather_key"],
        unique=True,
        postgresql_where=sa.text("status = 'gathering'"),
    )
    op.create_index(
        "start_due",
        "start",
        ["due_at"],
        postgresql_where=sa.text("status IN ('gathering', 'waiting') AND due_at IS NOT NULL"),
    )
    op.create_index(
        "start_waiting",
        "start",
        ["deployment", "gate_key", "ranked_at", "id"],
        postgresql_where=sa.text("status = 'waiting'"),
    )
    op.create_index("start_by_user", "start", ["user_id", "created_at", "id"])
    op.create_index("start_held", "start", ["user_id"], postgresql_where=sa.text("status IN ('gathering', 'waiting')"))
    op.create_index(
        "start_begun",
        "start",
        ["deployment", "rate_key", "settled_at"],
        postgresql_where=sa.text("status = 'begun' AND rate_key IS NOT NULL"),
    )
    op.create_index(
        "start_paced",
        "start",
        ["deployment", "throttle_key", "paced_until"],
        postgresql_where=sa.text("status = 'begun' AND throttle_key IS NOT NULL"),
    )
    op.add_column("event_effect", sa.Column("start_id", sa.String(), sa.ForeignKey("start.id"), nullable=True))
    op.add_column("event_effect", sa.Column("start_n", sa.Integer(), nullable=True))
    op.add_column("event_effect", sa.Column("parameters", JSONB, nullable=True))
    op.create_index(
        "effect_of_start",
        "event_effect",
        ["start_id", "start_n"],
        postgresql_where=sa.text("start_id IS NOT NULL"),
    )
    op.create_table(
        "replay",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("budget_usd", sa.Numeric(12, 6), nullable=True),
        _when("created_at", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    for table in ("run", "job"):
        deployment = sa.Column("deployment", sa.String(), nullable=False, server_default="on-demand")
        op.add_column(table, deployment)
    op.add_column("job", sa.Column("start_id", sa.String(), nullable=True))
    op.add_column("job", sa.Column("replay_id", sa.String(), sa.ForeignKey("replay.id"), nullable=True))
    op.add_column("job", _when("discarded_at"))
    op.add_column("job", sa.Column("discard_reason", sa.String(), nullable=True))
    op.create_index(
        "job_of_start",
        "job",
        ["start_id"],
        postgresql_where=sa.text("start_id IS NOT NULL AND finished_at IS NULL"),
    )
    op.create_index("job_dead", "job", ["finished_at", "id"], postgresql_where=sa.text("status = 'failed'"))
    op.add_column("request", sa.Column("replay_id", sa.String(), sa.ForeignKey("replay.id"), nullable=True))
    op.create_index("request_of_replay", "request", ["replay_id"], postgresql_where=sa.text("replay_id IS NOT NULL"))
