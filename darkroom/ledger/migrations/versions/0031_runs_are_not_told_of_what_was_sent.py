"""A run that gets jobs is told of those alone for which it can do something.

The function that assigns jobs is replaced; gateways of before go on using it under its name, and runs of before look at
all of their jobs every second, too.
"""

from __future__ import annotations

from alembic import op

revision = "0031"
down_revision = "0030"

ASSIGN_JOBS = """
CREATE OR REPLACE FUNCTION assign_jobs(
    p_job_ids text[], p_new_run text, p_alone text[], p_most integer, p_most_of_batch integer, p_oldest timestamptz,
    p_now timestamptz, OUT taken text[], OUT begun_for text, OUT wakes uuid, OUT asks boolean
) LANGUAGE plpgsql AS $$
-- As many of one user and kind as one run takes: one that is open, which is locked before it is asked for its room, or
-- a new one of the id `p_new_run`, which is for `begun_for` first of all. `taken` is null where all have been assigned
-- or have ended. `p_alone`: kinds of which each job has a run of its own. `p_oldest`: a run of before takes no more.
-- The run is not told of jobs whose calls a gateway has sent: there is nothing to do about them yet. It finds them when
-- it next looks at all of its jobs, or is told by what comes of them.
#variable_conflict use_column
DECLARE
    one job;
    batch job;
    taker run;
    open_run text;
    room integer := p_most;
    news text[];
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
    IF taker.id IS NULL THEN
        RETURN;
    END IF;
    news := ARRAY(
        SELECT id FROM job WHERE id = ANY(taken) AND (job.cancel_requested_at IS NOT NULL
            OR COALESCE((
                SELECT bool_or(call.status NOT IN ('submitting', 'in_flight', 'unknown'))
                FROM request AS call WHERE call.job_id = job.id
            ), true))
    );
    -- One that is suspended is woken all the same: it is back by the time that something comes.
    IF news <> '{}' OR taker.left_at IS NOT NULL THEN
        SELECT told.wakes, told.asks INTO wakes, asks FROM notify_run(taker, news, p_now) AS told;
    END IF;
END $$
"""


def upgrade() -> None:
    op.execute(ASSIGN_JOBS)
