"""Files that their model has flagged, and whether they are hidden; what the provider tried again by itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.add_column("asset", sa.Column("flagged", sa.Boolean(), nullable=True))
    op.add_column("asset", sa.Column("hidden", sa.Boolean(), nullable=False, server_default=sa.text("false")))
