"""Indexes for lists, reports and dead letters, so that what they read does not grow with the jobs that have ended.

Each is made beside the writes that go on, outside of a transaction: on millions of rows that takes minutes. One that
was left half made by an interrupted migration is dropped first.
"""

from __future__ import annotations

from alembic import op

revision = "0019"
down_revision = "0018"

LETTER = "status = 'failed' AND discarded_at IS NULL"
IN_VAIN = "parent_id IS NULL AND status IN ('failed', 'cancelled')"
INDEXES = {
    "job_of_kind": "job (user_id, kind, created_at, id) WHERE parent_id IS NULL",
    "job_in_vain": f"job (user_id, status, created_at, id) WHERE {IN_VAIN}",
    "job_ended": "job (finished_at) WHERE finished_at IS NOT NULL",
    "job_letter": f"job (finished_at, id) WHERE {LETTER}",
    "job_to_requeue": f"job ((kind <> 'render-batch'), finished_at, id) WHERE {LETTER}",
    "request_ended": "request (finished_at) WHERE finished_at IS NOT NULL",
    "event_by_time": "event (received_at, id)",
    "event_of_user": "event (user_id, received_at, id) WHERE user_id IS NOT NULL",
    "event_refused": "event (received_at, id) WHERE status = 'refused'",
    "start_of_deployment": "start (deployment, id)",
    "start_settled": "start (settled_at) WHERE settled_at IS NOT NULL",
    "wait_took": "wait (event_id) WHERE event_id IS NOT NULL",
    "start_dropped": "start (id) WHERE status = 'dropped'",
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, definition in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {definition}")
