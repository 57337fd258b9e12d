"""Tries of a call that its provider makes by itself: by what id it took the call, and by what id it said how it ended.

Beside the function that ends a call, which gateways of before go on using, there is one that notes the second id.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"

SETTLE_REQUEST = """
CREATE FUNCTION settle_request(
    p_ref text, p_before text[], p_status text, p_output jsonb, p_error jsonb, p_cost_usd numeric, p_via text,
    p_provider text, p_request_id text, p_body_sha256 text, p_now timestamptz, p_last_try text,
    OUT verdict text, OUT wakes uuid, OUT asks boolean
) LANGUAGE plpgsql AS $$
-- `p_last_try`: the provider's id of the try that the webhook tells of. It is written where it is not that of the
-- first, which is rare, so that a burst of webhooks pays for no second write.
BEGIN
    SELECT ended.verdict, ended.wakes, ended.asks INTO verdict, wakes, asks FROM settle_request(
        p_ref, p_before, p_status, p_output, p_error, p_cost_usd, p_via, p_provider, p_request_id, p_body_sha256, p_now
    ) AS ended;
    IF p_last_try IS NOT NULL THEN
        UPDATE request SET last_try = p_last_try
        WHERE ref = p_ref AND request_id = p_request_id AND first_try IS DISTINCT FROM p_last_try
          AND last_try IS DISTINCT FROM p_last_try;
    END IF;
END $$
"""


def upgrade() -> None:
    op.add_column("request", sa.Column("first_try", sa.String(), nullable=True))
    op.add_column("request", sa.Column("last_try", sa.String(), nullable=True))
    op.execute(SETTLE_REQUEST)
