"""Keys that expire, so that a rotation has an overlap; and what a job was estimated at when it was ordered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("api_key", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("job", sa.Column("estimate_usd", sa.Numeric(12, 6), nullable=True))
