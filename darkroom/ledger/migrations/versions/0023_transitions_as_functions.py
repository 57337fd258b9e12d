"""How a call and a job end, each as one function: one round trip, and the rules of the locks as they were.

Each statement in such a function sees what was committed when it began, as one sent by itself does. So the run's row is
locked in one, and what hangs on it is read in the next.
"""

from __future__ import annotations

from alembic import op

revision = "0023"
down_revision = "0022"

LOCK_RUN_OF_JOB = """
CREATE FUNCTION lock_run_of_job(p_job_id text) RETURNS run LANGUAGE plpgsql AS $$
-- The run that has the job, locked; nothing if none has it, and then the job is, so that none takes it meanwhile. One
-- that was reassigned while we waited for the lock is followed to its new run.
DECLARE
    locked run;
    carrier text;
BEGIN
    SELECT run.* INTO locked FROM job JOIN run ON run.id = job.run_id WHERE job.id = p_job_id FOR UPDATE OF run;
    IF FOUND THEN
        IF locked.closed_at IS NULL THEN
            RETURN locked;
        END IF;
        SELECT run_id INTO carrier FROM job WHERE id = p_job_id;
        IF carrier = locked.id THEN
            RETURN locked;
        END IF;
    END IF;
    BEGIN
        SELECT run_id INTO STRICT carrier FROM job WHERE id = p_job_id FOR NO KEY UPDATE;
        IF carrier IS NULL THEN
            RETURN NULL;
        END IF;
        RAISE EXCEPTION USING ERRCODE = 'DR001'; -- lets go of the job: a run is locked before its jobs
    EXCEPTION WHEN SQLSTATE 'DR001' THEN
        NULL;
    END;
    SELECT * INTO STRICT locked FROM run WHERE id = carrier FOR UPDATE;
    RETURN locked;
END $$
"""

SETTLE_REQUEST = """
CREATE FUNCTION settle_request(
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
            -- A duplicate costs something only if it is another job at the provider than the one on record.
            INSERT INTO delivery (provider, request_id, ref, verdict, body_sha256, cost_usd, received_at)
            VALUES (p_provider, p_request_id, p_ref, settle_request.verdict, p_body_sha256,
                CASE WHEN is_another THEN p_cost_usd END, p_now);
        END IF;
    END IF;
    IF settle_request.verdict = 'duplicate' THEN
        RETURN;
    END IF;
    UPDATE request SET output = p_output, cost_usd = p_cost_usd,
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

FINISH_JOB = """
CREATE FUNCTION finish_job(
    p_job_id text, p_status text, p_error jsonb, p_result jsonb, p_told jsonb, p_spared text, p_now timestamptz
) RETURNS TABLE (kind text, deployment text, start_id text, freed boolean, rings text[], cancels text[])
LANGUAGE plpgsql AS $$
-- With its open rows and waits, and the news of it. Nothing where it has ended before, or is of the kind `p_spared`.
-- `freed`: a slot or a place in the queue. `rings`: jobs that wait for it. `cancels`: jobs that it waited for.
#variable_conflict use_column
DECLARE
    ended job;
BEGIN
    UPDATE job SET status = p_status, error = p_error, result = p_result, progress = NULL, finished_at = p_now
    WHERE id = p_job_id AND finished_at IS NULL AND job.kind IS DISTINCT FROM p_spared
    RETURNING * INTO ended;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    freed := false;
    PERFORM FROM request
    WHERE job_id = p_job_id AND status IN ('queued', 'granted', 'submitting', 'in_flight', 'unknown')
    ORDER BY ref FOR UPDATE;
    IF FOUND THEN
        UPDATE request SET status = 'cancelled', finished_at = p_now, cancel_requested_at = p_now
        WHERE job_id = p_job_id AND status IN ('queued', 'granted');
        freed := FOUND;
        UPDATE request SET cancel_requested_at = COALESCE(cancel_requested_at, p_now)
        WHERE job_id = p_job_id AND status IN ('submitting', 'in_flight', 'unknown');
    END IF;
    IF ended.parent_id IS NULL THEN -- of a batch's rows their batch tells
        INSERT INTO notification (user_id, job_id, event, data, created_at, to_ingest)
        VALUES (ended.user_id, p_job_id, 'job.' || p_status, p_told, p_now, true);
    END IF;
    rings := ARRAY(SELECT job_id FROM wait WHERE child_job_id = p_job_id AND status = 'open');
    WITH over AS (
        UPDATE wait SET status = 'ended', settled_at = p_now WHERE job_id = p_job_id AND status = 'open'
        RETURNING child_job_id
    )
    SELECT COALESCE(array_agg(child_job_id) FILTER (WHERE child_job_id IS NOT NULL), '{}') INTO cancels FROM over;
    kind := ended.kind;
    deployment := ended.deployment;
    start_id := ended.start_id;
    RETURN NEXT;
END $$
"""


def upgrade() -> None:
    for function in (LOCK_RUN_OF_JOB, SETTLE_REQUEST, FINISH_JOB):
        op.execute(function)
