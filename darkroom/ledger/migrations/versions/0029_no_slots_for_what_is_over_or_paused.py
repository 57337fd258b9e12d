"""A grant gives no slot to a call whose job has ended, or whose batch is paused: it ends the one, and holds the other.

What was left behind by such an end is ended now.

Beside the function that gives slots, which gateways of before go on using, there is one that looks at the job.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"

# What the ends of batches have left behind. Nobody would submit it, and what is granted held its slot for good.
END_WHAT_IS_OVER = """
UPDATE request SET status = 'cancelled', finished_at = now(), cancel_requested_at = now()
FROM job WHERE job.id = request.job_id AND job.finished_at IS NOT NULL AND request.status IN ('queued', 'granted')
"""

GIVE_SLOTS = """
CREATE FUNCTION give_slots(
    p_account_id text, p_refs text[], p_lanes integer[], p_users text[], p_starts double precision[],
    p_steps double precision[], p_probe_until timestamptz, p_now timestamptz, p_paused_until timestamptz
) RETURNS TABLE (ref text, job_id text, run_id text, status text) LANGUAGE plpgsql AS $$
-- To those of the rows that nobody else holds just now. Each moves its user on by its step in the virtual time of the
-- lane, and the lane itself to where the last of them has started; a lane never goes back, as nobody starts behind it.
-- Returned are all that the line is rid of, with what became of them: one whose job has ended is cancelled, and one
-- whose batch is paused waits for `p_paused_until`.
#variable_conflict use_column
DECLARE
    locked text[];
    over text[];
    paused text[];
    held text[];
BEGIN
    locked := ARRAY(
        SELECT request.ref FROM request WHERE request.ref = ANY(p_refs) AND request.status = 'queued'
        FOR NO KEY UPDATE SKIP LOCKED
    );
    -- Who ends a job later than this waits for its calls, and finds them granted.
    over := ARRAY(
        SELECT request.ref FROM request JOIN job ON job.id = request.job_id
        WHERE request.ref = ANY(locked) AND job.finished_at IS NOT NULL
    );
    IF over <> '{}' THEN
        locked := ARRAY(SELECT unnest(locked) EXCEPT SELECT unnest(over));
        RETURN QUERY
        UPDATE request SET status = 'cancelled', finished_at = p_now, cancel_requested_at = p_now
        WHERE request.ref = ANY(over)
        RETURNING CAST(request.ref AS text), CAST(request.job_id AS text), CAST(NULL AS text), 'cancelled';
    END IF;
    IF EXISTS (SELECT FROM batch WHERE paused_at IS NOT NULL) THEN
        paused := ARRAY(
            SELECT request.ref FROM request JOIN job ON job.id = request.job_id
            JOIN batch ON batch.job_id = job.parent_id JOIN job AS parent ON parent.id = batch.job_id
            WHERE request.ref = ANY(locked) AND batch.paused_at IS NOT NULL AND parent.finished_at IS NULL
        );
        locked := ARRAY(SELECT unnest(locked) EXCEPT SELECT unnest(paused));
        -- With the batch locked: what goes on later than this finds them held. Where it is going on just now they are
        -- left to the grant that is asked for then.
        held := ARRAY(
            SELECT request.ref FROM request JOIN job ON job.id = request.job_id
            JOIN batch ON batch.job_id = job.parent_id
            WHERE request.ref = ANY(paused) AND batch.paused_at IS NOT NULL
            FOR SHARE OF batch SKIP LOCKED
        );
        RETURN QUERY
        UPDATE request SET not_before = p_paused_until WHERE request.ref = ANY(held)
        RETURNING CAST(request.ref AS text), CAST(request.job_id AS text), CAST(NULL AS text), 'queued';
    END IF;
    IF locked = '{}' THEN
        RETURN;
    END IF;
    WITH given AS (
        SELECT lane, user_id, min(start) AS start, min(step) AS step, count(*) AS n
        FROM unnest(p_refs, p_lanes, p_users, p_starts, p_steps) AS picked (ref, lane, user_id, start, step)
        WHERE picked.ref = ANY(locked) GROUP BY lane, user_id
    ), moved_on AS (
        INSERT INTO turn (account_id, lane, user_id, passed)
        SELECT p_account_id, lane, user_id, start + n * step FROM given
        ON CONFLICT (account_id, lane, user_id) DO UPDATE SET passed = excluded.passed
    )
    UPDATE account SET grants = grants + cardinality(locked), probe_at = COALESCE(p_probe_until, probe_at),
        passed = passed || COALESCE((
            SELECT jsonb_object_agg(lane, passed)
            FROM (SELECT lane, max(start + (n - 1) * step) AS passed FROM given GROUP BY lane) AS lanes
        ), '{}')
    WHERE account.id = p_account_id;
    RETURN QUERY
    UPDATE request SET status = 'granted', granted_at = p_now, probe = p_probe_until IS NOT NULL
    FROM job WHERE request.ref = ANY(locked) AND job.id = request.job_id
    RETURNING CAST(request.ref AS text), CAST(request.job_id AS text), CAST(job.run_id AS text), 'granted';
END $$
"""


def upgrade() -> None:
    op.create_index("batch_paused", "batch", ["job_id"], postgresql_where=sa.text("paused_at IS NOT NULL"))
    op.execute(END_WHAT_IS_OVER)
    op.execute(GIVE_SLOTS)
