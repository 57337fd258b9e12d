"""Calls that a gateway has sent before their run had begun, and when that run has shown it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0016"


def upgrade() -> None:
    op.add_column("request", sa.Column("sent_ahead", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("request", sa.Column("adopted_at", sa.DateTime(timezone=True), nullable=True))
