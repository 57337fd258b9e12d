"""When a run had the provider's answer in hand and began to fetch the file."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("asset", sa.Column("collected_at", sa.DateTime(timezone=True), nullable=True))
