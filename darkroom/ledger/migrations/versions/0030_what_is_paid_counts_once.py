"""What is paid counts, and once: second jobs at the provider for one call, late successes, calls that were given up.

The function that ends a call is replaced; gateways of before go on using it under its name. The index is made beside
the writes that go on; one that was left half made is dropped first.
"""

from __future__ import annotations

from alembic import op

revision = "0030"
down_revision = "0029"

SETTLE_REQUEST = """
CREATE OR REPLACE FUNCTION settle_request(
    p_ref text, p_before text[], p_status text, p_output jsonb, p_error jsonb, p_cost_usd numeric, p_via text,
    p_provider text, p_request_id text, p_body_sha256 text, p_now timestamptz,
    OUT verdict text, OUT wakes uuid, OUT asks boolean
) LANGUAGE plpgsql AS $$
-- `p_before`: the statuses that this ends. `p_request_id`: of the webhook that says so, if one does. `wakes`: the flow
-- run that is suspended and is to be told.
#variable_conflict use_column
DECLARE
    locked run;
    call request;
    is_another boolean;
    arrived boolean := p_request_id IS NOT NULL;
BEGIN
    SELECT run.* INTO locked FROM request JOIN job ON job.id = request.job_id JOIN run ON run.id = job.run_id
    WHERE request.ref = p_ref FOR UPDATE OF run;
    IF NOT FOUND OR locked.closed_at IS NOT NULL THEN
        locked := lock_run_of_job((SELECT job_id FROM request WHERE ref = p_ref));
    END IF;
    SELECT * INTO STRICT call FROM request WHERE ref = p_ref FOR UPDATE;

    is_another := arrived AND call.request_id IS NOT NULL AND call.request_id <> p_request_id;
    verdict := CASE
        WHEN is_another THEN 'duplicate' -- a second job at the provider for one row: paid, and on record
        WHEN call.status = ANY(p_before) THEN 'settled'
        WHEN call.status IN ('expired', 'cancelled') AND p_status = 'succeeded'
            AND COALESCE(call.output, 'null') = 'null' THEN 'late'
        ELSE 'duplicate'
    END;
    IF arrived THEN
        IF settle_request.verdict <> 'settled' THEN
            UPDATE delivery SET times = times + 1, last_received_at = p_now
            WHERE id = (
                SELECT id FROM delivery
                WHERE ref = p_ref AND provider = p_provider AND request_id = p_request_id
                  AND body_sha256 = p_body_sha256 AND delivery.verdict = settle_request.verdict
                ORDER BY id LIMIT 1
            );
        END IF;
        IF settle_request.verdict = 'settled' OR NOT FOUND THEN
            -- A duplicate costs something only if it is another job at the provider than the one on record, and once,
            -- however differently it is told again.
            INSERT INTO delivery (provider, request_id, ref, verdict, body_sha256, cost_usd, received_at)
            VALUES (p_provider, p_request_id, p_ref, settle_request.verdict, p_body_sha256,
                CASE WHEN is_another AND NOT EXISTS (
                    SELECT FROM delivery AS told
                    WHERE told.ref = p_ref AND told.request_id = p_request_id AND told.cost_usd IS NOT NULL
                ) THEN p_cost_usd END, p_now);
        END IF;
    END IF;
    IF settle_request.verdict = 'duplicate' THEN
        RETURN;
    END IF;
    UPDATE request SET output = p_output,
        -- Budgets pass over a cancelled call without a cost, and this one is paid: as expected, until it is fetched.
        cost_usd = COALESCE(p_cost_usd, CASE WHEN settle_request.verdict = 'late' THEN estimate_usd END),
        request_id = COALESCE(request_id, p_request_id),
        accepted_at = CASE WHEN arrived AND request_id IS NULL THEN p_now ELSE accepted_at END,
        status = CASE WHEN settle_request.verdict = 'settled' THEN p_status ELSE status END,
        error = CASE WHEN settle_request.verdict = 'settled' THEN p_error ELSE error END,
        delivered_via = CASE WHEN settle_request.verdict = 'settled' THEN p_via ELSE delivered_via END,
        finished_at = CASE WHEN settle_request.verdict = 'settled' THEN p_now ELSE finished_at END
    WHERE ref = p_ref;
    IF settle_request.verdict = 'late' OR locked.id IS NULL THEN
        RETURN;
    END IF;
    IF locked.left_at IS NOT NULL AND EXISTS (
        SELECT FROM job WHERE id = call.job_id AND finished_at IS NOT NULL
    ) THEN
        RETURN; -- suspended, and the row is what is left of a job that is over: nobody waits
    END IF;
    PERFORM pg_notify(locked.id, call.job_id);
    IF locked.left_at IS NOT NULL AND locked.flow_run_id IS NOT NULL THEN
        UPDATE run SET left_at = NULL, woken_at = p_now, alive_until = NULL WHERE id = locked.id;
        wakes := locked.flow_run_id;
        asks := locked.asks;
    END IF;
END $$
"""

UNCOSTED = "status IN ('succeeded', 'expired') AND cost_usd IS NULL AND billed_usd IS NULL"

PERHAPS_PAID = f"""
-- Calls that are paid or may be, and nobody has said yet what they cost: successes that were announced without their
-- results, and calls that were given up. In budgets they count with their estimates.
CREATE VIEW perhaps_paid AS SELECT ref, user_id, estimate_usd, finished_at FROM request WHERE {UNCOSTED}
"""


def upgrade() -> None:
    op.execute(SETTLE_REQUEST)
    op.execute(PERHAPS_PAID)
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS request_uncosted")
        op.execute(f"CREATE INDEX CONCURRENTLY request_uncosted ON request (finished_at) WHERE {UNCOSTED}")
