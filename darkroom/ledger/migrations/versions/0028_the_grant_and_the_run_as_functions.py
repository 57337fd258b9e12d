"""What a grant takes and gives, how a run gets and takes up jobs, how news is numbered: each as one function.

As with the functions before: a row is locked in one statement, and what hangs on it is read in the next.
"""

from __future__ import annotations

from alembic import op

revision = "0028"
down_revision = "0027"

LOCK_ACCOUNTS = """
CREATE FUNCTION lock_accounts(p_account_id text) RETURNS TABLE (
    id text, slots integer, endpoint_caps jsonb, halvings integer, slowed_at timestamptz, down_since timestamptz,
    probe_at timestamptz, grants bigint, held jsonb
) LANGUAGE plpgsql AS $$
-- All of them for each grant: a user's budget is one, whichever provider is paid. NO KEY: a new request's foreign key
-- looks at the account too, and need not wait for a grant. Returned are those where somebody may wait, at fal nearly
-- always, so that is not asked, or the one of that id; `held`: slots in use, by endpoint.
#variable_conflict use_column
BEGIN
    PERFORM FROM account ORDER BY id FOR NO KEY UPDATE;
    RETURN QUERY
    SELECT CAST(account.id AS text), account.slots, account.endpoint_caps, account.halvings, account.slowed_at,
        account.down_since, account.probe_at, CAST(account.grants AS bigint), COALESCE(used.held, '{}')
    FROM account CROSS JOIN LATERAL (
        SELECT jsonb_object_agg(each.endpoint, each.n) AS held
        FROM (
            SELECT endpoint, count(*) AS n FROM request
            WHERE account_id = account.id AND status IN ('granted', 'submitting', 'in_flight', 'unknown')
            GROUP BY endpoint
        ) AS each
    ) AS used
    WHERE CASE WHEN p_account_id IS NOT NULL THEN account.id = p_account_id
        ELSE account.id = 'fal' OR EXISTS (
            SELECT FROM request
            WHERE status = 'queued' AND request.account_id <> 'fal' AND request.account_id = account.id
        ) END
    ORDER BY account.id;
END $$
"""

GIVE_SLOTS = """
CREATE FUNCTION give_slots(
    p_account_id text, p_refs text[], p_lanes integer[], p_users text[], p_starts double precision[],
    p_steps double precision[], p_probe_until timestamptz, p_now timestamptz
) RETURNS TABLE (ref text, job_id text, run_id text) LANGUAGE plpgsql AS $$
-- To those of the rows that nobody else holds just now. Each moves its user on by its step in the virtual time of the
-- lane, and the lane itself to where the last of them has started; a lane never goes back, as nobody starts behind it.
#variable_conflict use_column
DECLARE
    locked text[];
BEGIN
    locked := ARRAY(
        SELECT request.ref FROM request WHERE request.ref = ANY(p_refs) AND status = 'queued'
        FOR NO KEY UPDATE SKIP LOCKED
    );
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
    RETURNING CAST(request.ref AS text), CAST(request.job_id AS text), CAST(job.run_id AS text);
END $$
"""

NOTIFY_RUN = """
CREATE FUNCTION notify_run(
    p_locked run, p_job_ids text[], p_now timestamptz, OUT wakes uuid, OUT asks boolean
) LANGUAGE plpgsql AS $$
-- In its process, with its row locked; one that is suspended is marked as woken, and `wakes` is the flow run to tell.
-- It is told of which jobs something came, as far as a notification has room for them; without any it looks at all.
DECLARE
    said text := array_to_string(p_job_ids, ' ');
BEGIN
    PERFORM pg_notify(p_locked.id, CASE WHEN octet_length(said) < 7900 THEN said ELSE '' END);
    IF p_locked.left_at IS NOT NULL AND p_locked.flow_run_id IS NOT NULL THEN
        UPDATE run SET left_at = NULL, woken_at = p_now, alive_until = NULL WHERE id = p_locked.id;
        wakes := p_locked.flow_run_id;
        asks := p_locked.asks;
    END IF;
END $$
"""

NOTIFY_RUN_OF = """
CREATE FUNCTION notify_run_of(
    p_run_id text, p_job_id text, p_job_ids text[], p_now timestamptz, OUT wakes uuid, OUT asks boolean
) LANGUAGE plpgsql AS $$
-- The run, or the one that has the job. `p_job_ids`: of which something came.
DECLARE
    locked run;
BEGIN
    IF p_run_id IS NULL THEN
        locked := lock_run_of_job(p_job_id);
    ELSE
        SELECT * INTO STRICT locked FROM run WHERE id = p_run_id FOR UPDATE;
    END IF;
    IF locked.id IS NOT NULL THEN
        SELECT told.wakes, told.asks INTO wakes, asks FROM notify_run(locked, p_job_ids, p_now) AS told;
    END IF;
END $$
"""

ASSIGN_JOBS = """
CREATE FUNCTION assign_jobs(
    p_job_ids text[], p_new_run text, p_alone text[], p_most integer, p_most_of_batch integer, p_oldest timestamptz,
    p_now timestamptz, OUT taken text[], OUT begun_for text, OUT wakes uuid, OUT asks boolean
) LANGUAGE plpgsql AS $$
-- As many of one user and kind as one run takes: one that is open, which is locked before it is asked for its room, or
-- a new one of the id `p_new_run`, which is for `begun_for` first of all. `taken` is null where all have been assigned
-- or have ended. `p_alone`: kinds of which each job has a run of its own. `p_oldest`: a run of before takes no more.
#variable_conflict use_column
DECLARE
    one job;
    batch job;
    taker run;
    open_run text;
    room integer := p_most;
BEGIN
    SELECT * INTO one FROM job WHERE id = ANY(p_job_ids) AND run_id IS NULL AND finished_at IS NULL LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF one.parent_id IS NOT NULL THEN
        taker := lock_run_of_job(one.parent_id);
        SELECT * INTO STRICT batch FROM job WHERE id = one.parent_id;
        IF batch.finished_at IS NOT NULL THEN
            taker := NULL;
        ELSE
            room := p_most_of_batch; -- its rows are handed to it slot by slot
            IF taker.id IS NULL OR taker.closed_at IS NOT NULL THEN
                INSERT INTO run (id, user_id, kind, deployment, shared, created_at)
                VALUES (p_new_run, batch.user_id, batch.kind, batch.deployment, batch.kind <> ALL(p_alone), p_now)
                RETURNING * INTO taker;
                UPDATE job SET run_id = p_new_run WHERE id = batch.id;
                begun_for := batch.id;
            END IF;
        END IF;
    END IF;
    IF taker.id IS NULL AND one.kind = ANY(p_alone) THEN
        room := 1;
    ELSIF taker.id IS NULL THEN
        SELECT run.id INTO open_run FROM run LEFT JOIN job ON job.run_id = run.id AND job.finished_at IS NULL
        WHERE run.user_id = one.user_id AND run.kind = one.kind AND run.deployment = one.deployment AND run.shared
          AND run.closed_at IS NULL AND run.created_at > p_oldest
          AND (run.alive_until IS NULL OR run.alive_until > p_now) -- not one whose process has fallen silent
        GROUP BY run.id HAVING count(job.id) < p_most
        ORDER BY count(job.id), run.created_at
        LIMIT 1;
        IF FOUND THEN
            SELECT * INTO STRICT taker FROM run WHERE id = open_run FOR UPDATE;
            IF taker.closed_at IS NOT NULL THEN -- while we waited for it
                taker := NULL;
            ELSE
                -- At least one, lest nobody takes it; a run that has filled meanwhile carries one more than is best.
                SELECT greatest(p_most - count(*), 1) INTO room FROM job
                WHERE run_id = taker.id AND finished_at IS NULL;
            END IF;
        END IF;
    END IF;
    taken := ARRAY(
        SELECT id FROM job
        WHERE id = ANY(p_job_ids) AND user_id = one.user_id AND kind = one.kind AND deployment = one.deployment
          AND parent_id IS NOT DISTINCT FROM one.parent_id AND run_id IS NULL AND finished_at IS NULL
        ORDER BY created_at, id -- one order for all, so two who place the same jobs do not wait for each other
        LIMIT room FOR NO KEY UPDATE
    );
    IF taken = '{}' THEN
        RETURN; -- somebody else has just assigned them
    END IF;
    IF taker.id IS NULL THEN
        INSERT INTO run (id, user_id, kind, deployment, shared, created_at)
        VALUES (p_new_run, one.user_id, one.kind, one.deployment, one.kind <> ALL(p_alone), p_now);
        begun_for := taken[1];
    END IF;
    UPDATE job SET run_id = COALESCE(taker.id, p_new_run) WHERE id = ANY(taken);
    IF taker.id IS NOT NULL THEN
        SELECT told.wakes, told.asks INTO wakes, asks FROM notify_run(taker, taken, p_now) AS told;
    END IF;
END $$
"""

TAKE_UP_JOBS = """
CREATE FUNCTION take_up_jobs(p_job_ids text[], p_now timestamptz)
RETURNS TABLE (job job, request request, has_files boolean) LANGUAGE plpgsql AS $$
-- Those that have not ended; they run from now on. A row for each call of theirs, oldest first, or one without.
#variable_conflict use_column
BEGIN
    WITH started AS (
        UPDATE job SET status = 'running', started_at = COALESCE(started_at, p_now)
        WHERE id IN (SELECT id FROM job WHERE id = ANY(p_job_ids) AND status = 'pending' ORDER BY id FOR NO KEY UPDATE)
        RETURNING *
    )
    INSERT INTO notification (user_id, job_id, event, created_at)
    SELECT user_id, id, 'job.running', p_now FROM started
    WHERE parent_id IS NULL ORDER BY id; -- of a batch's rows their batch tells
    RETURN QUERY
    SELECT taken, call, EXISTS (SELECT FROM asset WHERE asset.job_id = taken.id)
    FROM job AS taken LEFT JOIN request AS call ON call.job_id = taken.id
    WHERE taken.id = ANY(p_job_ids) AND taken.finished_at IS NULL
    ORDER BY call.created_at, call.ref;
END $$
"""

NUMBER_NEWS = """
CREATE FUNCTION number_news(p_most integer) RETURNS integer LANGUAGE plpgsql AS $$
-- Returns how many were numbered. The lock is held until this has committed.
DECLARE
    numbered integer;
BEGIN
    IF NOT EXISTS (SELECT FROM notification WHERE place IS NULL) THEN
        RETURN 0;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('darkroom_news')); -- the next statement sees what its holder before wrote
    UPDATE notification SET place = given.place
    FROM (
        SELECT id, nextval('notification_place') AS place
        FROM (SELECT id FROM notification WHERE place IS NULL ORDER BY id LIMIT p_most) AS fresh
    ) AS given
    WHERE notification.id = given.id;
    GET DIAGNOSTICS numbered = ROW_COUNT;
    RETURN numbered;
END $$
"""

RECORD_CALLBACKS = """
CREATE FUNCTION record_callbacks(p_most integer, p_now timestamptz) RETURNS integer LANGUAGE plpgsql AS $$
-- Puts the deliveries of the next news on record, and returns how much news was read. For the owner's endpoint, and for
-- the address of the order where that is another. While the endpoint is off they are on record as dead, to be sent
-- again by hand. One at a time reads on, and who finds the cursor locked leaves it to the other.
DECLARE
    since bigint;
    until bigint;
    read integer;
BEGIN
    IF NOT EXISTS (
        SELECT FROM notification WHERE place > (SELECT place FROM callback_cursor)
    ) THEN
        RETURN 0;
    END IF;
    SELECT place INTO since FROM callback_cursor FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    SELECT max(place), count(*) INTO until, read
    FROM (SELECT place FROM notification WHERE place > since ORDER BY place LIMIT p_most) AS next;
    IF read = 0 THEN
        RETURN 0;
    END IF;
    INSERT INTO callback (id, owner_id, user_id, job_id, number, event, data, told_at, of_order, url, lane, thin,
        status, attempts, next_at, last_error, created_at)
    SELECT 'msg_' || replace(CAST(gen_random_uuid() AS text), '-', ''), target.owner_id, told.user_id, told.job_id,
        told.place, told.event, told.data, told.created_at, target.of_order, target.url,
        target.owner_id || ' ' || COALESCE(substring(lower(target.url) FROM '^[a-z]+://([^/?#]+)'), ''), target.thin,
        CASE WHEN target.off_at IS NULL THEN 'pending' ELSE 'dead' END, 0, p_now,
        CASE WHEN target.off_at IS NOT NULL THEN 'the endpoint was off' END, p_now
    FROM notification AS told JOIN "user" ON "user".id = told.user_id
    LEFT JOIN job_callback AS own ON own.job_id = told.job_id AND told.event = ANY(own.events)
    LEFT JOIN callback_endpoint AS endpoint ON endpoint.user_id = COALESCE("user".parent_id, "user".id)
        AND endpoint.url IS NOT NULL AND told.event = ANY(endpoint.events)
    CROSS JOIN LATERAL (
        SELECT COALESCE("user".parent_id, "user".id) AS owner_id, true AS of_order, own.url, false AS thin,
            CAST(NULL AS timestamptz) AS off_at
        WHERE own.url IS NOT NULL AND own.url IS DISTINCT FROM endpoint.url
        UNION ALL
        SELECT endpoint.user_id, false, endpoint.url, endpoint.thin, endpoint.off_at WHERE endpoint.url IS NOT NULL
    ) AS target
    WHERE told.place > since AND told.place <= until
    ON CONFLICT (number, of_order) DO NOTHING;
    UPDATE callback_cursor SET place = until;
    RETURN read;
END $$
"""


def upgrade() -> None:
    for function in (
        LOCK_ACCOUNTS,
        GIVE_SLOTS,
        NOTIFY_RUN,
        NOTIFY_RUN_OF,
        ASSIGN_JOBS,
        TAKE_UP_JOBS,
        NUMBER_NEWS,
        RECORD_CALLBACKS,
    ):
        op.execute(function)
