"""Files are listed, newest first, and deleted by their owners."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.add_column("asset", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("asset_of_user", "asset", ["user_id", "created_at", "id"])
