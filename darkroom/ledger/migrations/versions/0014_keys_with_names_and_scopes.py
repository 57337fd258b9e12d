"""Keys with names and scopes, several for each user; and how often a plan's keys may call."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    made = sa.text("'key_' || replace(gen_random_uuid()::text, '-', '')")
    op.add_column("api_key", sa.Column("id", sa.String(), nullable=False, server_default=made))
    op.create_unique_constraint("api_key_id_key", "api_key", ["id"])
    op.add_column("api_key", sa.Column("name", sa.String(), nullable=False, server_default=""))
    usual = sa.text("'{orders,events,read}'")
    op.add_column("api_key", sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False, server_default=usual))
    op.add_column("api_key", sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("plan", sa.Column("calls_per_minute", sa.Integer(), nullable=True))
    # Who has the operator's key has the whole machine already.
    op.execute("UPDATE api_key SET scopes = '{admin,orders,events,read}' WHERE user_id = 'operator'")
