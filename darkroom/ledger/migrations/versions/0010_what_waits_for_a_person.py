"""What an account and a job wait for that a person has to mend, and how often the same webhook came."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("account", sa.Column("down_reason", sa.String(), nullable=True))
    op.add_column("account", sa.Column("down_notified_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("job", sa.Column("held_reason", sa.String(), nullable=True))
    op.add_column("job", sa.Column("held_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("delivery", sa.Column("times", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("delivery", sa.Column("last_received_at", sa.DateTime(timezone=True), nullable=True))
