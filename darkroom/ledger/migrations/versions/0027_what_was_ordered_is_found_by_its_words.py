"""Orders that have no prompt of their own are found by their words too: the model's input, a text, a topic, a name.

An index of its own beside that of prompts, which the version before uses: an order with a prompt pays for one as ever.
It is made beside the writes that go on; one that was left half made is dropped first.
"""

from __future__ import annotations

from alembic import op

revision = "0027"
down_revision = "0024"

WORDS = (
    "COALESCE(parameters #>> '{input,prompt}', parameters #>> '{input,text}', parameters ->> 'text', "
    "parameters ->> 'topic', parameters ->> 'instruction', parameters ->> 'name', parameters ->> 'title')"
)


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS job_words")
        op.execute(
            f"CREATE INDEX CONCURRENTLY job_words ON job USING gin (({WORDS}) gin_trgm_ops) "
            f"WHERE parent_id IS NULL AND {WORDS} IS NOT NULL"
        )
