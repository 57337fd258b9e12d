"""News that is numbered without a lock on its user's row, and is an event; tags of jobs, and the search for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"

JSONB = postgresql.JSONB(astext_type=sa.Text())


def upgrade() -> None:
    _news()
    _events()
    _tags()


def _news() -> None:
    """Change what is written: the version before goes on counting `number`, and its rows get a place like others."""
    op.drop_constraint("notification_pkey", "notification", type_="primary")
    op.alter_column("notification", "number", existing_type=sa.Integer(), nullable=True)
    op.alter_column("notification", "job_id", existing_type=sa.String(), nullable=True)
    op.add_column("notification", sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False))
    op.create_primary_key("notification_pkey", "notification", ["id"])
    op.add_column("notification", sa.Column("data", JSONB, nullable=True))
    op.add_column("notification", sa.Column("place", sa.BigInteger(), nullable=True))
    op.execute("CREATE SEQUENCE notification_place")
    # What was told before the stream was there is not news any more: it is numbered here, before anybody listens.
    op.execute(
        "UPDATE notification SET place = given.place FROM ("
        "    SELECT id, nextval('notification_place') AS place"
        "    FROM (SELECT id FROM notification ORDER BY created_at, id OFFSET 0) AS told"
        ") AS given WHERE notification.id = given.id"
    )
    op.create_index("notification_place_key", "notification", ["place"], unique=True)
    op.create_index("notification_of_user", "notification", ["user_id", "place"])
    op.create_index(
        "notification_of_job", "notification", ["job_id", "place"], postgresql_where=sa.text("job_id IS NOT NULL")
    )
    op.create_index("notification_new", "notification", ["id"], postgresql_where=sa.text("place IS NULL"))
    op.create_index("notification_told", "notification", ["created_at"])
    # Here and not beside each INSERT, so that it also rings for what the version before writes. Within a transaction
    # Postgres makes one of many that say the same.
    op.execute(
        "CREATE FUNCTION notification_ring() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_notify('darkroom_news', ''); RETURN NULL; END $$"
    )
    op.execute(
        "CREATE TRIGGER notification_ring AFTER INSERT ON notification "
        "FOR EACH ROW EXECUTE FUNCTION notification_ring()"
    )


def _events() -> None:
    op.add_column("notification", sa.Column("to_ingest", sa.Boolean(), nullable=False, server_default=sa.text("false")))
    op.create_index("notification_to_ingest", "notification", ["id"], postgresql_where=sa.text("to_ingest"))
    cancels = ("effect_cancels", ["deployment", "at"], "cancels"), ("effect_cancelled", ["at"], "cancelled")
    for index, columns, what in cancels:
        op.create_index(index, "event_effect", columns, postgresql_where=sa.text(f"what = '{what}'"))
    op.create_index(
        "job_open",
        "job",
        ["user_id", "kind"],
        postgresql_where=sa.text("parent_id IS NULL AND finished_at IS NULL"),
    )
    for table in ("job", "event"):
        op.add_column(table, sa.Column("depth", sa.SmallInteger(), nullable=False, server_default=sa.text("0")))


def _tags() -> None:
    op.add_column("job", sa.Column("tags", postgresql.ARRAY(sa.Text()), nullable=False, server_default=sa.text("'{}'")))
    op.add_column("job", sa.Column("meta", JSONB, nullable=True))
    op.create_index("job_tagged", "job", ["tags"], postgresql_using="gin", postgresql_where=sa.text("tags <> '{}'"))
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    op.create_index(
        "job_prompt",
        "job",
        [sa.literal_column("(parameters ->> 'prompt')").label("prompt")],
        postgresql_using="gin",
        postgresql_ops={"prompt": "gin_trgm_ops"},
        postgresql_where=sa.text("parent_id IS NULL"),
    )
