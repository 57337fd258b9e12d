"""Accounts of other providers, files that are no pictures or belong to no job, results, progress, reuse, and LoRAs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("account", sa.Column("user_slots", sa.Integer(), nullable=True))
    op.execute("""
        INSERT INTO account (id, slots, user_slots, endpoint_caps)
        VALUES ('gemini', 5, NULL, '{}'), ('elevenlabs', 3, NULL, '{}'), ('mux', 5, NULL, '{}'), ('web', 40, 10, '{}')
        ON CONFLICT (id) DO NOTHING
    """)
    op.create_index(
        "request_queue_elsewhere",
        "request",
        ["account_id"],
        postgresql_where=sa.text("status = 'queued' AND account_id <> 'fal'"),
    )
    for name in ("result", "progress"):
        op.add_column("job", sa.Column(name, postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("job", sa.Column("slotless", sa.Boolean(), nullable=False, server_default="false"))
    op.execute(
        "UPDATE job SET slotless = true WHERE replayed_at IS NOT NULL AND run_id IS NULL AND finished_at IS NULL"
    )
    op.drop_index("job_put_back", "job")
    op.create_index(
        "job_slotless",
        "job",
        ["id"],
        postgresql_where=sa.text("slotless AND run_id IS NULL AND finished_at IS NULL"),
    )
    op.add_column("request", sa.Column("reuse_hash", sa.String(), nullable=True))
    op.add_column("request", sa.Column("reused_from", sa.String(), sa.ForeignKey("request.ref"), nullable=True))
    op.create_index(
        "request_reusable",
        "request",
        ["user_id", "reuse_hash"],
        postgresql_where=sa.text("reuse_hash IS NOT NULL AND status = 'succeeded'"),
    )
    for name in ("job_id", "width", "height"):
        op.alter_column("asset", name, nullable=True)
    op.add_column("asset", sa.Column("seconds", sa.Double(), nullable=True))
    op.create_table(
        "lora",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), sa.ForeignKey("user.id"), nullable=False),
        sa.Column("job_id", sa.String(), sa.ForeignKey("job.id"), nullable=False, unique=True),
        sa.Column("trigger_word", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("weights_asset_id", sa.String(), sa.ForeignKey("asset.id"), nullable=False),
        sa.Column("config_asset_id", sa.String(), sa.ForeignKey("asset.id"), nullable=False),
        sa.Column("sample_asset_id", sa.String(), sa.ForeignKey("asset.id"), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("user_id", "trigger_word", "version"),
    )
    op.create_table(
        "provider_copy",
        sa.Column("asset_id", sa.String(), sa.ForeignKey("asset.id"), nullable=False),
        sa.Column("account_id", sa.String(), sa.ForeignKey("account.id"), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("asset_id", "account_id"),
    )
