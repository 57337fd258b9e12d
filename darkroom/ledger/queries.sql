-- The statements that run for every job, by name. `:now` is always the caller's clock.
-- A line that ends in `-- given: x` is in the statement only where `:x` is given (`run_given`): a condition that may be
-- switched off within one prepared statement cannot use its index.

-- name: run_lock
SELECT * FROM run WHERE id = :run_id FOR UPDATE

-- name: run_get
SELECT * FROM run WHERE id = :run_id

-- name: run_lock_of_job
SELECT run.* FROM job JOIN run ON run.id = job.run_id WHERE job.id = :job_id FOR UPDATE OF run

-- name: run_lock_of_request
SELECT run.* FROM request JOIN job ON job.id = request.job_id JOIN run ON run.id = job.run_id
WHERE request.ref = :ref FOR UPDATE OF run

-- name: job_of_request
SELECT job_id FROM request WHERE ref = :ref

-- name: run_flow_run_of_job
SELECT run.flow_run_id FROM job JOIN run ON run.id = job.run_id WHERE job.id = :job_id

-- name: run_of_job
SELECT run_id FROM job WHERE id = :job_id

-- name: run_insert
INSERT INTO run (id, user_id, kind, deployment, shared, flow_run_id, created_at, alive_until)
VALUES (:id, :user_id, :kind, :deployment, :shared, :flow_run_id, :now, :alive_until)
RETURNING *

-- name: start_of
-- What a run begins with, whose first job that is.
SELECT job.kind, job.deployment, job.user_id, job.parameters, "user".name AS user_name, plan.name AS plan, plan.in_flight
FROM job JOIN "user" ON "user".id = job.user_id JOIN plan ON plan.name = "user".plan WHERE job.id = :job_id

-- name: jobs_assign
SELECT taken, begun_for, wakes, asks FROM assign_jobs(CAST(:job_ids AS text[]), :new_run, CAST(:alone AS text[]),
    :most, :most_of_batch, CAST(:oldest AS timestamptz), CAST(:now AS timestamptz))

-- name: run_enter
UPDATE run SET flow_run_id = :flow_run_id, asks = false, left_at = NULL, woken_at = NULL, alive_until = :alive_until
WHERE id = :run_id
RETURNING *

-- name: run_to_enter
-- By the key, too: its process may be there before its creation was noted.
SELECT * FROM run WHERE flow_run_id = :flow_run_id OR id = :run_id FOR UPDATE

-- name: run_created
-- Over the one there was, too: that was deleted at Prefect.
UPDATE run SET flow_run_id = :flow_run_id WHERE id = :run_id AND flow_run_id IS DISTINCT FROM :flow_run_id

-- name: run_renew
-- Not one that was closed or suspended meanwhile: it would look alive.
UPDATE run SET alive_until = :alive_until WHERE id = :run_id AND closed_at IS NULL AND left_at IS NULL

-- name: run_suspended
-- It has come as far as it could: what killed it before does not do so each time.
UPDATE run SET left_at = :now, woken_at = NULL, alive_until = NULL, recoveries = 0, asks = :awaits_input WHERE id = :run_id

-- name: run_woken
UPDATE run SET left_at = NULL, woken_at = :now, alive_until = NULL, asks = COALESCE(:awaits_input, asks) WHERE id = :run_id

-- name: run_recovering
-- If it is as it was seen: its process may have come back, or another may bring it back.
UPDATE run SET recoveries = :recoveries, recovered_at = :now, alive_until = NULL, left_at = NULL, woken_at = NULL
WHERE id = :run_id AND closed_at IS NOT DISTINCT FROM CAST(:closed_at AS timestamptz)
  AND alive_until IS NOT DISTINCT FROM CAST(:alive_until AS timestamptz)
  AND recovered_at IS NOT DISTINCT FROM CAST(:recovered_at AS timestamptz)
RETURNING id

-- name: run_close
UPDATE run SET closed_at = :now, alive_until = NULL, left_at = NULL, woken_at = NULL WHERE id = :run_id

-- name: run_reopen
UPDATE run SET closed_at = NULL, alive_until = :alive_until WHERE id = :run_id RETURNING *

-- name: jobs_to_replay_of_run
-- A job that its user had cancelled stays cancelled; one that was cancelled with its run goes on with it. A batch is
-- completed also where rows of it failed.
SELECT id FROM job
WHERE run_id = :run_id AND parent_id IS NULL AND discarded_at IS NULL AND (
    status = 'failed' OR status = 'cancelled' AND cancel_requested_at IS NULL
    OR status = 'completed' AND kind = 'render-batch'
)
ORDER BY created_at, id

-- name: run_notify
SELECT pg_notify(:channel, '')

-- name: run_notify_of
SELECT wakes, asks FROM notify_run_of(CAST(:run_id AS text), CAST(:job_id AS text), CAST(:job_ids AS text[]),
    CAST(:now AS timestamptz))

-- name: run_open_jobs
SELECT id, cancel_requested_at FROM job WHERE run_id = :run_id AND finished_at IS NULL ORDER BY created_at, id

-- name: run_work
-- The run's open jobs, and which of these calls can be gone on with: a row for each such call, or one without. Of jobs
-- that are not known to the process, all calls.
SELECT job.id, job.cancel_requested_at, request.ref, request.status
FROM job LEFT JOIN request ON request.job_id = job.id AND CASE WHEN job.id = ANY(:known)
    THEN request.ref = ANY(:refs) AND request.status IN ('granted', 'succeeded', 'failed', 'cancelled', 'expired')
    ELSE true END
WHERE job.run_id = :run_id AND job.finished_at IS NULL ORDER BY job.created_at, job.id

-- name: run_work_of
-- As `run_work`, of these jobs alone.
SELECT job.id, job.cancel_requested_at, request.ref, request.status
FROM job LEFT JOIN request ON request.job_id = job.id AND CASE WHEN job.id = ANY(:known)
    THEN request.ref = ANY(:refs) AND request.status IN ('granted', 'succeeded', 'failed', 'cancelled', 'expired')
    ELSE true END
WHERE job.id = ANY(:job_ids) AND job.run_id = :run_id AND job.finished_at IS NULL ORDER BY job.created_at, job.id

-- name: runs_not_closed
SELECT * FROM run WHERE closed_at IS NULL
UNION
SELECT found.* FROM (SELECT DISTINCT run_id FROM job WHERE run_id IS NOT NULL AND finished_at IS NULL) AS carried
CROSS JOIN LATERAL (SELECT * FROM run WHERE id = carried.run_id LIMIT 1) AS found -- each by its key, never all of them
ORDER BY created_at

-- name: runs_closed_since
SELECT * FROM run WHERE closed_at > :since AND flow_run_id IS NOT NULL
  AND NOT EXISTS (SELECT FROM job WHERE job.run_id = run.id AND job.finished_at IS NULL)

-- name: runs_limits_of_open
SELECT open.user_id, plan.in_flight
FROM (SELECT DISTINCT user_id FROM run WHERE closed_at IS NULL) AS open
JOIN "user" ON "user".id = open.user_id JOIN plan ON plan.name = "user".plan

-- name: runs_with_granted
-- Or a batch's, all of whose rows have ended, that waits for nobody's answer or has it; or what a job waits for has come.
SELECT DISTINCT job.run_id FROM request JOIN job ON job.id = request.job_id
WHERE request.status = 'granted' AND job.run_id IS NOT NULL AND job.finished_at IS NULL
UNION
SELECT job.run_id FROM run JOIN job ON job.run_id = run.id JOIN batch ON batch.job_id = job.id
WHERE run.closed_at IS NULL AND run.left_at IS NOT NULL AND job.finished_at IS NULL
  AND (batch.asked_at IS NULL OR jsonb_typeof(batch.winners) = 'array' OR batch.answer_by <= :now)
  AND NOT EXISTS (SELECT FROM job AS child WHERE child.parent_id = job.id AND child.finished_at IS NULL)
UNION
SELECT job.run_id FROM run JOIN job ON job.run_id = run.id
WHERE run.closed_at IS NULL AND run.left_at IS NOT NULL AND job.finished_at IS NULL AND EXISTS (
    SELECT FROM wait LEFT JOIN job AS child ON child.id = wait.child_job_id
    WHERE wait.job_id = job.id AND (
        wait.status IN ('came', 'over') AND wait.settled_at > run.left_at
        OR wait.status = 'open' AND (wait.until <= :now OR child.finished_at IS NOT NULL)
    )
)

-- name: job_insert
-- With what its user's plan allows; whether the queue is full is told by its last place, not by counting the backlog.
WITH added AS (
    INSERT INTO job (id, user_id, kind, deployment, start_id, replay_id, status, run_id, slotless, parameters, depth, tags,
        meta, idempotency_key, body_hash, estimate_usd, markup, created_at)
    VALUES (:id, :user_id, :kind, :deployment, :start_id, :replay_id, 'pending', :run_id, :slotless,
        CAST(:parameters AS jsonb), :depth, CAST(:tags AS text[]), CAST(:meta AS jsonb), :idempotency_key, :body_hash,
        CAST(:estimate_usd AS numeric), COALESCE((
            SELECT plan.markup FROM "user" JOIN plan ON plan.name = "user".plan
            WHERE "user".id = CAST(:user_id AS character varying)
        ), 1), :now)
    ON CONFLICT (user_id, idempotency_key) DO NOTHING
    RETURNING *
), told AS (
    INSERT INTO notification (user_id, job_id, event, created_at) SELECT user_id, id, 'job.created', :now FROM added
), called AS (
    INSERT INTO job_callback (job_id, url, events)
    SELECT id, CAST(:callback_url AS text), CAST(:callback_events AS text[]) FROM added
    WHERE CAST(:callback_url AS text) IS NOT NULL
)
SELECT added.*, plan.name AS plan, plan.most_queued,
    COALESCE("user".daily_budget_usd, plan.daily_budget_usd) AS daily_usd,
    COALESCE("user".monthly_budget_usd, plan.monthly_budget_usd) AS monthly_usd,
    "user".daily_budget_usd IS NOT NULL AS daily_is_own, "user".monthly_budget_usd IS NOT NULL AS monthly_is_own,
    plan.most_queued = 0 OR EXISTS (
    SELECT FROM request WHERE user_id = "user".id AND status = 'queued' OFFSET greatest(plan.most_queued - 1, 0) LIMIT 1
) AS queue_full
FROM added JOIN "user" ON "user".id = added.user_id JOIN plan ON plan.name = "user".plan

-- name: job_post
-- A job and its first call, unless its user's plan does not allow it (`queue_full`, `over_budget`) or has one under the
-- key: then there is no `id`. Whether the queue is full is told by its last place, not by counting the backlog.
WITH allowed AS (
    SELECT "user".id AS of_user, plan.name AS plan, plan.most_queued, plan.markup AS of_plan,
        COALESCE("user".daily_budget_usd, plan.daily_budget_usd) AS daily_usd,
        COALESCE("user".monthly_budget_usd, plan.monthly_budget_usd) AS monthly_usd,
        plan.most_queued = 0 OR EXISTS (
            SELECT FROM request WHERE user_id = "user".id AND status = 'queued'
            OFFSET greatest(plan.most_queued - 1, 0) LIMIT 1
        ) AS queue_full
    FROM "user" JOIN plan ON plan.name = "user".plan WHERE "user".id = :user_id
), added AS (
    INSERT INTO job (id, user_id, kind, deployment, status, slotless, parameters, depth, tags, meta, idempotency_key,
        body_hash, estimate_usd, markup, created_at)
    SELECT :id, of_user, :kind, :deployment, 'pending', false, CAST(:parameters AS jsonb), 0, CAST(:tags AS text[]),
        CAST(:meta AS jsonb), :idempotency_key, :body_hash, CAST(:estimate_usd AS numeric), of_plan,
        CAST(:now AS timestamptz)
    FROM allowed
    WHERE NOT queue_full AND COALESCE(CAST(:most_usd AS numeric) <= daily_usd, true)
      AND COALESCE(CAST(:most_usd AS numeric) <= monthly_usd, true)
    ON CONFLICT (user_id, idempotency_key) DO NOTHING
    RETURNING *
), told AS (
    INSERT INTO notification (user_id, job_id, event, created_at) SELECT user_id, id, 'job.created', :now FROM added
), called AS (
    INSERT INTO job_callback (job_id, url, events)
    SELECT id, CAST(:callback_url AS text), CAST(:callback_events AS text[]) FROM added
    WHERE CAST(:callback_url AS text) IS NOT NULL
), asked AS (
    INSERT INTO request (ref, job_id, user_id, account_id, step, attempt, endpoint, model_version, input, input_hash,
        lane, status, token, not_before, estimate_usd, created_at, markup)
    SELECT :ref, id, user_id, :account_id, :step, :attempt, :endpoint, CAST(:model_version AS integer),
        CAST(:input AS jsonb), :input_hash, :lane, 'queued', :token, CAST(:not_before AS timestamptz),
        CAST(:call_usd AS numeric), :now, markup
    FROM added
)
SELECT added.* FROM allowed LEFT JOIN added ON true

-- name: queued_of_user
SELECT count(*) FROM (SELECT FROM request WHERE user_id = :user_id AND status = 'queued' LIMIT :most) AS waiting

-- name: job_by_key
SELECT * FROM job WHERE user_id = :user_id AND idempotency_key = :idempotency_key

-- name: job_held
UPDATE job SET held_reason = :reason, held_at = :now WHERE id = :job_id AND finished_at IS NULL

-- name: job_get
SELECT * FROM job WHERE id = :job_id

-- name: job_slotless
UPDATE job SET slotless = true WHERE id = :job_id

-- name: job_lock
-- NO KEY: foreign keys of new rows look at the job, too, and need not wait.
SELECT run_id, replay_id FROM job WHERE id = :job_id FOR NO KEY UPDATE

-- name: jobs_reassign
UPDATE job SET run_id = :new_run_id WHERE run_id = :run_id AND finished_at IS NULL

-- name: jobs_page
SELECT * FROM job
WHERE user_id = :user_id AND parent_id IS NULL
  AND (created_at, id) < (CAST(:before_at AS timestamptz), :before_id) -- given: before_at
  AND status = :status -- given: status
  AND finished_at IS NULL -- given: is_open
  AND kind = :kind -- given: kind
  AND created_at >= CAST(:since AS timestamptz) -- given: since
ORDER BY created_at DESC, id DESC
LIMIT :limit

-- name: jobs_page_of_all
-- The newest of each user by the index of their jobs: there is none of everybody's by time, which each order would pay.
-- First the users whose newest is on the page: further ones have nothing on it.
SELECT job.* FROM (
    SELECT "user".id FROM "user" CROSS JOIN LATERAL (
        SELECT created_at, id FROM job
        WHERE user_id = "user".id AND parent_id IS NULL
          AND (created_at, id) < (CAST(:before_at AS timestamptz), :before_id) -- given: before_at
          AND status = :status -- given: status
          AND finished_at IS NULL -- given: is_open
          AND kind = :kind -- given: kind
          AND created_at >= CAST(:since AS timestamptz) -- given: since
        ORDER BY created_at DESC, id DESC LIMIT 1
    ) AS newest
    ORDER BY newest.created_at DESC, newest.id DESC LIMIT :limit
) AS lately CROSS JOIN LATERAL (
    SELECT * FROM job
    WHERE user_id = lately.id AND parent_id IS NULL
      AND (created_at, id) < (CAST(:before_at AS timestamptz), :before_id) -- given: before_at
      AND status = :status -- given: status
      AND finished_at IS NULL -- given: is_open
      AND kind = :kind -- given: kind
      AND created_at >= CAST(:since AS timestamptz) -- given: since
    ORDER BY created_at DESC, id DESC LIMIT :limit
) AS job
ORDER BY job.created_at DESC, job.id DESC
LIMIT :limit

-- name: jobs_search
-- By tags, and by words in the prompt or in what tells best what was ordered. As far as there are no more than `many`,
-- all are found by their own indexes, and the newest of them are the page. Of what is more frequent a page is soon full,
-- so it is looked for from the newest job back, user by user. Of COALESCE Postgres reckons nothing: it takes no index of
-- words for that, and does not guess by itself which of the two ways is the shorter.
WITH found AS MATERIALIZED (
    SELECT id, created_at FROM job
    WHERE parent_id IS NULL
      AND user_id = :user_id -- given: user_id
      AND (created_at, id) < (CAST(:before_at AS timestamptz), :before_id) -- given: before_at
      AND status = :status -- given: status
      AND finished_at IS NULL -- given: is_open
      AND kind = :kind -- given: kind
      AND created_at >= CAST(:since AS timestamptz) -- given: since
      AND tags @> CAST(:tags AS text[]) AND tags <> '{}' -- given: tags
      AND (parameters ->> 'prompt' ILIKE :prompt OR COALESCE(parameters #>> '{input,prompt}', parameters #>> '{input,text}', parameters ->> 'text', parameters ->> 'topic', parameters ->> 'instruction', parameters ->> 'name', parameters ->> 'title') ILIKE :prompt) -- given: prompt
    LIMIT :many + 1
)
SELECT job.* FROM (
    SELECT * FROM job
    WHERE id = ANY(ARRAY(SELECT id FROM found ORDER BY created_at DESC, id DESC LIMIT :limit))
      AND (SELECT count(*) FROM found) <= :many
    UNION ALL
    SELECT job.* FROM "user" CROSS JOIN LATERAL (
        SELECT * FROM job
        WHERE user_id = "user".id AND parent_id IS NULL
          AND (created_at, id) < (CAST(:before_at AS timestamptz), :before_id) -- given: before_at
          AND status = :status -- given: status
          AND finished_at IS NULL -- given: is_open
          AND kind = :kind -- given: kind
          AND created_at >= CAST(:since AS timestamptz) -- given: since
          AND COALESCE(tags @> CAST(:tags AS text[]), false) -- given: tags
          AND COALESCE((parameters ->> 'prompt' ILIKE :prompt OR COALESCE(parameters #>> '{input,prompt}', parameters #>> '{input,text}', parameters ->> 'text', parameters ->> 'topic', parameters ->> 'instruction', parameters ->> 'name', parameters ->> 'title') ILIKE :prompt), false) -- given: prompt
        ORDER BY created_at DESC, id DESC LIMIT :limit
    ) AS job
    WHERE (SELECT count(*) FROM found) > :many
      AND "user".id = :user_id -- given: user_id
) AS job
ORDER BY job.created_at DESC, job.id DESC
LIMIT :limit

-- name: plan_anew
-- For what is looked for and not for what might be: the partial indexes serve where what is looked for is in them.
SET LOCAL plan_cache_mode = force_custom_plan

-- name: jobs_of_run
SELECT * FROM job WHERE run_id = :run_id ORDER BY created_at, id

-- name: job_first_of_flow_run
SELECT job.id FROM run JOIN job ON job.run_id = run.id
WHERE run.flow_run_id = :flow_run_id ORDER BY job.created_at, job.id LIMIT 1

-- name: jobs_take_up
SELECT (taken.job).*, (taken.request).*, taken.has_files
FROM take_up_jobs(CAST(:job_ids AS text[]), CAST(:now AS timestamptz)) AS taken

-- name: jobs_of_run_first_two
SELECT id FROM job WHERE run_id = :run_id LIMIT 2

-- name: jobs_of_run_endings
SELECT status, count(*) AS n FROM job WHERE run_id = :run_id GROUP BY status

-- name: job_finish
SELECT kind, deployment, start_id, freed, rings, cancels FROM finish_job(:job_id, :status, CAST(:error AS jsonb),
    CAST(:result AS jsonb), CAST(:told AS jsonb), :spared, CAST(:now AS timestamptz))

-- name: job_progress
-- Told at most as often as `published_before` says: what is passed over is made good by the next, or by the end.
WITH come AS (
    UPDATE job SET progress = CAST(:progress AS jsonb)
    WHERE id = :job_id AND finished_at IS NULL AND progress IS DISTINCT FROM CAST(:progress AS jsonb)
    RETURNING id, user_id, parent_id, progress
), told AS (
    INSERT INTO notification (user_id, job_id, event, data, created_at)
    SELECT user_id, id, 'job.progress', progress, :now FROM come
    WHERE parent_id IS NULL AND NOT EXISTS (
        SELECT FROM notification
        WHERE job_id = :job_id AND event = 'job.progress' AND created_at > CAST(:published_before AS timestamptz)
    )
)
SELECT id FROM come

-- name: job_cancel
UPDATE job SET cancel_requested_at = :now WHERE id = :job_id AND cancel_requested_at IS NULL AND finished_at IS NULL
RETURNING *

-- name: job_get_locked
SELECT * FROM job WHERE id = :job_id FOR NO KEY UPDATE

-- name: job_put_back
UPDATE job SET status = 'pending', run_id = :run_id, slotless = false, error = NULL, result = NULL,
    cancel_requested_at = NULL, finished_at = NULL, replayed_at = :now, replay_id = :replay_id, discarded_at = NULL,
    discard_reason = NULL
WHERE id = :job_id

-- name: jobs_figures
-- Of a batch with its rows. What was paid has duplicates at the provider in it, the price has not. An estimate that was not made when the
-- job was ordered is that of its calls, retries left out.
SELECT job.id, COALESCE(job.estimate_usd, calls.estimate_usd) AS estimate_usd,
    COALESCE(calls.cost_usd, 0) AS cost_usd, COALESCE(calls.price_usd, 0) AS price_usd
FROM job
LEFT JOIN LATERAL (
    SELECT sum(request.cost_usd + COALESCE(twice.cost_usd, 0)) AS cost_usd,
        sum(round(request.cost_usd * request.markup, 6)) AS price_usd,
        sum(request.estimate_usd) FILTER (WHERE request.attempt = 1) AS estimate_usd
    FROM (
        SELECT request.ref, request.attempt, request.estimate_usd, request.markup,
            COALESCE(request.cost_usd, 0) AS cost_usd
        FROM request WHERE request.job_id = job.id
        UNION ALL
        SELECT request.ref, request.attempt, request.estimate_usd, request.markup, COALESCE(request.cost_usd, 0)
        FROM job AS child JOIN request ON request.job_id = child.id
        WHERE child.parent_id = job.id
    ) AS request
    LEFT JOIN LATERAL (
        SELECT sum(delivery.cost_usd) AS cost_usd FROM delivery WHERE delivery.ref = request.ref
    ) AS twice ON true
) AS calls ON true
WHERE job.id = ANY(:job_ids)

-- name: jobs_first_files
SELECT DISTINCT ON (job_id) * FROM asset
WHERE job_id = ANY(:job_ids) AND deleted_at IS NULL AND NOT hidden
ORDER BY job_id, content_type NOT LIKE 'image/%', created_at, step, n

-- name: jobs_unassigned
SELECT unassigned.id
FROM request
CROSS JOIN LATERAL ( -- each by its key: those that hold a slot are few, those without a run are all that wait
    SELECT id FROM job WHERE id = request.job_id AND run_id IS NULL AND finished_at IS NULL LIMIT 1
) AS unassigned
WHERE request.status IN ('granted', 'submitting', 'in_flight', 'unknown')
UNION
SELECT id FROM job WHERE slotless AND run_id IS NULL AND finished_at IS NULL

-- name: batch_insert
INSERT INTO batch (job_id, rows, forecast) VALUES (:job_id, :rows, CAST(:forecast AS jsonb))

-- name: batch_get
SELECT * FROM batch WHERE job_id = :job_id

-- name: batch_lock
SELECT * FROM batch WHERE job_id = :job_id FOR UPDATE

-- name: batch_rows
SELECT * FROM batch_row WHERE batch_id = :job_id AND (CAST(:rows AS integer[]) IS NULL OR n = ANY(:rows)) ORDER BY n

-- name: batch_await_selection
-- Told the first time only.
WITH before AS (
    SELECT batch.job_id, job.user_id, batch.asked_at FROM batch JOIN job ON job.id = batch.job_id
    WHERE batch.job_id = :job_id FOR UPDATE OF batch
), asked AS (
    UPDATE batch SET answer_by = CASE WHEN batch.asked_at IS NULL THEN CAST(:answer_by AS timestamptz) ELSE answer_by END,
        asked_at = COALESCE(batch.asked_at, :now)
    FROM before WHERE batch.job_id = before.job_id
    RETURNING batch.*
), told AS (
    INSERT INTO notification (user_id, job_id, event, data, created_at)
    SELECT before.user_id, asked.job_id, 'batch.awaiting_choice', jsonb_build_object('answer_by', asked.answer_by), :now
    FROM asked JOIN before ON before.job_id = asked.job_id WHERE before.asked_at IS NULL
)
SELECT batch.* FROM asked AS batch

-- name: batch_choose
UPDATE batch SET winners = CAST(:winners AS jsonb), chosen_at = :now, chosen_via = :via WHERE job_id = :job_id

-- name: batch_pause
UPDATE batch SET paused_at = :paused_at WHERE job_id = :job_id

-- name: batch_put_back
-- Taken by a run at once, and paused no more.
WITH goes_on AS (UPDATE batch SET paused_at = NULL WHERE job_id = :job_id)
UPDATE job SET slotless = true WHERE id = :job_id

-- name: batch_of_run
-- That it carries, and that has not ended.
SELECT batch.job_id FROM job JOIN batch ON batch.job_id = job.id
WHERE job.run_id = :run_id AND job.parent_id IS NULL AND job.finished_at IS NULL
FOR UPDATE OF job

-- name: batch_paused_at
-- Of one that has not ended: rows of others are held by no pause.
SELECT batch.paused_at FROM batch JOIN job ON job.id = batch.job_id
WHERE batch.job_id = :job_id AND job.finished_at IS NULL

-- name: batches_answered
-- Of these the ones of which the winners are known, or whose time for a choice is over.
SELECT job_id FROM batch
WHERE job_id = ANY(:job_ids) AND (jsonb_typeof(winners) = 'array' OR answer_by <= :now)

-- name: children_rows
SELECT manifest_row FROM job WHERE parent_id = :job_id AND stage = :stage

-- name: children_succeeded
SELECT manifest_row FROM job WHERE parent_id = :job_id AND stage = 'draft' AND status = 'completed'

-- name: children_done
-- Of these jobs the ones of whose rows none is open.
SELECT id FROM unnest(CAST(:job_ids AS text[])) AS parent (id)
WHERE NOT EXISTS (SELECT FROM job WHERE job.parent_id = parent.id AND job.finished_at IS NULL)

-- name: children_counts
SELECT job.stage, job.status, count(*) AS n, COALESCE(sum(paid.cost_usd), 0) AS cost_usd,
    count(*) FILTER (WHERE job.finished_at > CAST(:now AS timestamptz) - interval '1 minute') AS last_minute,
    EXTRACT(EPOCH FROM CAST(:now AS timestamptz) - min(paid.begun_at)
        FILTER (WHERE job.finished_at > CAST(:now AS timestamptz) - interval '1 minute')) AS seconds,
    COALESCE(sum(paid.in_flight), 0) AS in_flight, COALESCE(sum(paid.calls), 0) AS calls
FROM job
LEFT JOIN LATERAL (
    SELECT sum(cost_usd) AS cost_usd, count(*) AS calls, min(granted_at) AS begun_at,
        count(*) FILTER (WHERE status IN ('granted', 'submitting', 'in_flight', 'unknown')) AS in_flight
    FROM request WHERE request.job_id = job.id
) AS paid ON true
WHERE job.parent_id = :job_id
GROUP BY job.stage, job.status

-- name: children_page
SELECT * FROM job WHERE parent_id = :job_id AND (stage, manifest_row) > (:stage, :n)
  AND (CAST(:only AS text) IS NULL OR stage = :only)
  AND (CAST(:finished_since AS timestamptz) IS NULL OR finished_at >= :finished_since)
ORDER BY stage, manifest_row LIMIT :limit

-- name: children_hold
UPDATE request SET not_before = CAST(:until AS timestamptz)
FROM job
WHERE job.parent_id = :job_id AND job.finished_at IS NULL AND request.job_id = job.id AND request.status = 'queued'
  AND request.not_before IS NOT DISTINCT FROM CAST(:since AS timestamptz)

-- name: children_lock
-- So that none of them gets another call meanwhile, nor ends. In the order in which a run takes its jobs up.
SELECT FROM job WHERE parent_id = :job_id AND finished_at IS NULL ORDER BY id FOR NO KEY UPDATE

-- name: children_lock_calls
-- In one order, as whoever settles several of them.
SELECT FROM request JOIN job ON job.id = request.job_id
WHERE job.parent_id = :job_id AND job.finished_at IS NULL
  AND request.status IN ('queued', 'granted', 'submitting', 'in_flight', 'unknown')
ORDER BY request.ref FOR UPDATE OF request

-- name: children_cancel_unsent
UPDATE request SET status = 'cancelled', finished_at = :now, cancel_requested_at = :now
FROM job
WHERE job.parent_id = :job_id AND job.finished_at IS NULL AND request.job_id = job.id
  AND request.status IN ('queued', 'granted')

-- name: children_cancel_sent
UPDATE request SET cancel_requested_at = :now
FROM job
WHERE job.parent_id = :job_id AND job.finished_at IS NULL AND request.job_id = job.id
  AND request.status IN ('submitting', 'in_flight', 'unknown') AND request.cancel_requested_at IS NULL

-- name: children_end
-- Those of which nothing may come any more. What they are cancelled by is their batch, so they go on with it.
UPDATE job SET status = 'cancelled', finished_at = :now
WHERE parent_id = :job_id AND finished_at IS NULL AND NOT EXISTS (
    SELECT FROM request
    WHERE request.job_id = job.id AND request.status IN ('submitting', 'in_flight', 'unknown', 'succeeded')
)

-- name: children_to_replay
SELECT id FROM job
WHERE parent_id = :job_id AND discarded_at IS NULL
  AND (status = 'failed' OR status = 'cancelled' AND cancel_requested_at IS NULL)
ORDER BY stage, manifest_row

-- name: key_caller
-- By the key itself, or by a session of it.
SELECT api_key.user_id, service, scopes, last_used_at, calls_per_minute, api_key.digest, shown.session
FROM (
    SELECT id, false AS session FROM api_key WHERE digest = :digest
    UNION ALL
    SELECT key_id, true FROM session WHERE digest = :digest AND expires_at > CAST(:now AS timestamptz)
) AS shown
JOIN api_key ON api_key.id = shown.id JOIN "user" ON "user".id = api_key.user_id JOIN plan ON plan.name = "user".plan
WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > CAST(:now AS timestamptz))

-- name: session_forget
-- Whoever else forgets them just now does the same: nobody waits for anybody.
DELETE FROM session WHERE digest = ANY(ARRAY(
    SELECT session.digest FROM session JOIN api_key ON api_key.id = key_id
    WHERE api_key.digest = :key AND session.expires_at <= :now
    FOR UPDATE OF session SKIP LOCKED))

-- name: session_open
INSERT INTO session (digest, key_id, created_at, expires_at)
SELECT :digest, id, :now, :expires_at FROM api_key WHERE digest = :key

-- name: session_close
DELETE FROM session WHERE digest = :digest

-- name: key_used
-- Whoever else writes it just now says the same: nobody waits for anybody.
UPDATE api_key SET last_used_at = :now
WHERE digest = (
    SELECT digest FROM api_key WHERE digest = :digest AND (last_used_at IS NULL OR last_used_at < :before)
    FOR NO KEY UPDATE SKIP LOCKED)

-- name: news_to_ingest
-- Ends of jobs that are no events yet, with what these say. Numbered ones: whoever numbers writes these rows, too, and
-- the two would lock them in different orders.
SELECT told.id, told.event, told.user_id, told.job_id, told.data, told.created_at, job.kind, job.deployment, job.tags,
    job.depth, own.usd + of_rows.usd AS cost_usd,
    own.price + of_rows.price AS price_usd
FROM notification AS told JOIN job ON job.id = told.job_id
CROSS JOIN LATERAL (
    SELECT COALESCE(sum(cost_usd), 0) AS usd, COALESCE(sum(round(cost_usd * markup, 6)), 0) AS price
    FROM request WHERE job_id = told.job_id
) AS own
CROSS JOIN LATERAL (
    SELECT COALESCE(sum(request.cost_usd), 0) AS usd,
        COALESCE(sum(round(request.cost_usd * request.markup, 6)), 0) AS price
    FROM job AS child JOIN request ON request.job_id = child.id
    WHERE child.parent_id = told.job_id
) AS of_rows
WHERE told.to_ingest AND told.place IS NOT NULL
ORDER BY told.id LIMIT :limit

-- name: news_ingested
UPDATE notification SET to_ingest = false WHERE id = ANY(:ids)

-- name: news_number
SELECT number_news(:most)

-- name: news_newest
SELECT COALESCE(max(place), 0) FROM notification

-- name: news_after
SELECT told.place AS number, told.event, told.user_id, "user".parent_id,
    CASE WHEN "user".parent_id IS NOT NULL THEN "user".name END AS user, told.job_id, job.kind, told.data,
    told.created_at
FROM notification AS told JOIN "user" ON "user".id = told.user_id LEFT JOIN job ON job.id = told.job_id
WHERE told.place > :place
ORDER BY told.place LIMIT :limit

-- name: news_of_user
SELECT told.place AS number, told.event, told.user_id, "user".parent_id,
    CASE WHEN "user".parent_id IS NOT NULL THEN "user".name END AS user, told.job_id, job.kind, told.data,
    told.created_at
FROM notification AS told JOIN "user" ON "user".id = told.user_id LEFT JOIN job ON job.id = told.job_id
WHERE told.user_id = :user_id AND told.place > :place AND told.place <= :until
  AND (CAST(:job_id AS text) IS NULL OR told.job_id = :job_id)
  AND (CAST(:topics AS text[]) IS NULL OR told.event = ANY(:topics))
ORDER BY told.place LIMIT :limit

-- name: news_of_service
SELECT told.place AS number, told.event, told.user_id, "user".parent_id,
    CASE WHEN "user".parent_id IS NOT NULL THEN "user".name END AS user, told.job_id, job.kind, told.data,
    told.created_at
FROM notification AS told JOIN "user" ON "user".id = told.user_id LEFT JOIN job ON job.id = told.job_id
WHERE ("user".id = :user_id OR "user".parent_id = :user_id) AND told.place > :place AND told.place <= :until
  AND (CAST(:job_id AS text) IS NULL OR told.job_id = :job_id)
  AND (CAST(:topics AS text[]) IS NULL OR told.event = ANY(:topics))
ORDER BY told.place LIMIT :limit

-- name: news_budgets
-- Users whose next row waits because a budget has no room for it, found by hopping as `grantable` does; each is told
-- once in its day or month.
WITH RECURSIVE waiting AS (
    (SELECT user_id, estimate_usd FROM request WHERE status = 'queued' ORDER BY user_id, lane, created_at, ref LIMIT 1)
    UNION ALL
    SELECT next.* FROM waiting CROSS JOIN LATERAL (
        SELECT user_id, estimate_usd FROM request WHERE status = 'queued' AND user_id > waiting.user_id
        ORDER BY user_id, lane, created_at, ref LIMIT 1
    ) AS next
)
INSERT INTO notification (user_id, event, data, created_at)
SELECT waiting.user_id, 'budget.reached', jsonb_strip_nulls(jsonb_build_object('period', budget.period,
    'budget_usd', budget.usd, 'spent_usd', spent.usd, 'resets_at', budget.until,
    'daily_budget_usd', CASE WHEN budget.period = 'day' THEN budget.usd END)), :now
FROM waiting
JOIN "user" ON "user".id = waiting.user_id
JOIN plan ON plan.name = "user".plan
CROSS JOIN LATERAL (
    VALUES ('day', COALESCE("user".daily_budget_usd, plan.daily_budget_usd), CAST(:midnight AS timestamptz),
        CAST(:next_midnight AS timestamptz)),
    ('month', COALESCE("user".monthly_budget_usd, plan.monthly_budget_usd), CAST(:month AS timestamptz),
        CAST(:next_month AS timestamptz))
) AS budget (period, usd, since, until)
CROSS JOIN LATERAL (
    SELECT COALESCE(sum(COALESCE(billed_usd, cost_usd)), 0) + (
        SELECT COALESCE(sum(estimate_usd), 0) FROM request AS held
        WHERE held.user_id = waiting.user_id AND held.status IN ('granted', 'submitting', 'in_flight', 'unknown')
    ) + (
        SELECT COALESCE(sum(estimate_usd), 0) FROM perhaps_paid AS unseen
        WHERE unseen.finished_at >= budget.since AND unseen.user_id = waiting.user_id
    ) AS usd
    FROM request
    WHERE budget.usd IS NOT NULL AND user_id = waiting.user_id AND (cost_usd IS NOT NULL OR billed_usd IS NOT NULL)
      AND finished_at >= budget.since
) AS spent
WHERE budget.usd IS NOT NULL AND waiting.estimate_usd > greatest(budget.usd - spent.usd, 0)
  AND NOT EXISTS (
    SELECT FROM notification AS told
    WHERE told.user_id = waiting.user_id AND told.event = 'budget.reached' AND told.created_at >= budget.since
      AND COALESCE(told.data ->> 'period', 'day') = budget.period
  )

-- name: budgets
-- What a user may spend in the day and in the month, what calls that ended in them came to, and what is reserved. What
-- may have been paid counts with its estimate. A month without a bound is summed up for who asks for it (`unbound`).
SELECT plan.name AS plan,
    COALESCE("user".daily_budget_usd, plan.daily_budget_usd) AS daily_usd,
    COALESCE("user".monthly_budget_usd, plan.monthly_budget_usd) AS monthly_usd,
    "user".daily_budget_usd IS NOT NULL AS daily_is_own, "user".monthly_budget_usd IS NOT NULL AS monthly_is_own,
    spent.today + unseen.today AS today_usd, spent.month + unseen.month AS month_usd,
    (
        SELECT COALESCE(sum(estimate_usd), 0) FROM request AS held
        WHERE held.user_id = "user".id AND held.status IN ('granted', 'submitting', 'in_flight', 'unknown')
    ) AS reserved_usd
FROM "user" JOIN plan ON plan.name = "user".plan
CROSS JOIN LATERAL (
    SELECT COALESCE(sum(COALESCE(billed_usd, cost_usd)) FILTER (WHERE finished_at >= :midnight), 0) AS today,
        COALESCE(sum(COALESCE(billed_usd, cost_usd)), 0) AS month
    FROM request
    WHERE user_id = "user".id AND (cost_usd IS NOT NULL OR billed_usd IS NOT NULL)
      AND finished_at >= CASE WHEN :unbound OR COALESCE("user".monthly_budget_usd, plan.monthly_budget_usd) IS NOT NULL
        THEN CAST(:month AS timestamptz) ELSE :midnight END
) AS spent
CROSS JOIN LATERAL (
    SELECT COALESCE(sum(estimate_usd) FILTER (WHERE finished_at >= :midnight), 0) AS today,
        COALESCE(sum(estimate_usd), 0) AS month
    FROM perhaps_paid WHERE finished_at >= :month AND user_id = "user".id
) AS unseen
WHERE "user".id = :user_id

-- name: news_forget
DELETE FROM notification
WHERE id = ANY(ARRAY(SELECT id FROM notification WHERE created_at < :before ORDER BY created_at LIMIT :most))

-- name: callbacks_put_on_record
SELECT record_callbacks(:most, CAST(:now AS timestamptz))

-- name: callbacks_claim
-- Of each lane, found by hopping, no more than it has slots free; those that are due the longest first, so that none
-- waits for ever. Should the sender die they are due again at `until`.
WITH RECURSIVE lanes AS (
    (SELECT lane FROM callback WHERE status = 'pending' ORDER BY lane LIMIT 1)
    UNION ALL
    SELECT next.lane FROM lanes CROSS JOIN LATERAL (
        SELECT lane FROM callback WHERE status = 'pending' AND lane > lanes.lane ORDER BY lane LIMIT 1
    ) AS next
), due AS (
    SELECT found.id FROM lanes CROSS JOIN LATERAL (
        SELECT id, next_at FROM callback WHERE status = 'pending' AND lane = lanes.lane AND next_at <= :now
        ORDER BY next_at, number LIMIT COALESCE(CAST(CAST(:free AS jsonb) ->> lanes.lane AS integer), :slots)
        FOR UPDATE SKIP LOCKED
    ) AS found
    ORDER BY found.next_at LIMIT :most
)
UPDATE callback SET next_at = :until, tried_at = :now FROM due WHERE callback.id = due.id RETURNING callback.*

-- name: callback_delivered
UPDATE callback SET status = 'delivered', attempts = attempts + 1, last_status = :status, last_answer = :answer,
    last_error = NULL, delivered_at = :now
WHERE id = :id AND status = 'pending'
RETURNING *

-- name: callback_failed
-- Not where another has taken it meanwhile, as this sender was thought dead, or somebody has asked for it anew.
UPDATE callback SET status = CASE WHEN CAST(:again AS timestamptz) IS NULL THEN 'dead' ELSE 'pending' END,
    attempts = attempts + 1, next_at = COALESCE(CAST(:again AS timestamptz), next_at), last_status = CAST(:status AS integer),
    last_answer = CAST(:answer AS text), last_error = CAST(:error AS text)
WHERE id = :id AND status = 'pending' AND next_at = :claimed
RETURNING *

-- name: callback_get
SELECT * FROM callback
WHERE id = :id AND owner_id = :owner_id AND (CAST(:user_id AS text) IS NULL OR user_id = :user_id)

-- name: callbacks_page
SELECT * FROM callback
WHERE owner_id = :owner_id AND (CAST(:user_id AS text) IS NULL OR user_id = :user_id)
  AND (created_at, id) < (COALESCE(CAST(:before_at AS timestamptz), 'infinity'), COALESCE(:before_id, ''))
  AND (CAST(:status AS text) IS NULL OR status = :status)
ORDER BY created_at DESC, id DESC
LIMIT :limit

-- name: callback_resend
UPDATE callback SET status = 'pending', attempts = 0, next_at = :now, delivered_at = NULL WHERE id = :id RETURNING *

-- name: callbacks_resend
UPDATE callback SET status = 'pending', attempts = 0, next_at = :now
WHERE owner_id = :owner_id AND (CAST(:user_id AS text) IS NULL OR user_id = :user_id)
  AND status = 'dead' AND created_at >= :since AND (of_order OR :on)

-- name: callbacks_forget
DELETE FROM callback WHERE id = ANY(ARRAY(
    SELECT id FROM callback WHERE created_at < :before AND status <> 'pending' ORDER BY created_at LIMIT :most
))

-- name: callback_test
INSERT INTO callback (id, owner_id, user_id, event, told_at, of_order, url, lane, thin, status, attempts, next_at,
    created_at)
SELECT 'msg_' || replace(CAST(gen_random_uuid() AS text), '-', ''), user_id, user_id, 'callback.test', :now, false, url,
    user_id || ' ' || COALESCE(substring(lower(url) FROM '^[a-z]+://([^/?#]+)'), ''), thin, 'pending', 0, :now, :now
FROM callback_endpoint WHERE user_id = :owner_id
RETURNING *

-- name: callback_endpoint_need
INSERT INTO callback_endpoint (user_id, events, thin, salt, shown, created_at)
VALUES (:owner_id, '{}', false, :salt, false, :now)
ON CONFLICT DO NOTHING

-- name: callback_endpoint_get
SELECT * FROM callback_endpoint WHERE user_id = :owner_id

-- name: callback_endpoint_lock
SELECT * FROM callback_endpoint WHERE user_id = :owner_id FOR UPDATE

-- name: callback_endpoint_put
UPDATE callback_endpoint SET url = CAST(:url AS text), events = CAST(:events AS text[]), thin = :thin, shown = true,
    failing_since = NULL, off_at = NULL, off_reason = NULL, off_told_at = NULL
WHERE user_id = :owner_id
RETURNING *

-- name: callback_endpoint_moved
-- What was not delivered yet goes to where the endpoint is now; what is dead does when it is sent again.
UPDATE callback SET url = CAST(:url AS text), thin = :thin,
    lane = owner_id || ' ' || COALESCE(substring(lower(CAST(:url AS text)) FROM '^[a-z]+://([^/?#]+)'), '')
WHERE owner_id = :owner_id AND NOT of_order AND status <> 'delivered'

-- name: callback_endpoint_drop
UPDATE callback_endpoint SET url = NULL, events = '{}', failing_since = NULL, off_at = NULL, off_reason = NULL,
    off_told_at = NULL
WHERE user_id = :owner_id

-- name: callbacks_end
UPDATE callback SET status = 'dead', last_error = :reason
WHERE owner_id = :owner_id AND NOT of_order AND status = 'pending'

-- name: callback_endpoint_rotate
-- A secret that was never shown is in nobody's hands: it need not sign beside the new one.
UPDATE callback_endpoint SET salt_before = CASE WHEN shown THEN salt END, before_until = :until, salt = :salt,
    shown = true
WHERE user_id = :owner_id
RETURNING *

-- name: callback_endpoint_well
UPDATE callback_endpoint SET failing_since = NULL
WHERE user_id = :owner_id AND url = :url AND failing_since IS NOT NULL

-- name: callback_endpoint_failing
-- Of the address that it has now: what was sent to the one before says nothing of it.
UPDATE callback_endpoint SET failing_since = COALESCE(failing_since, :now)
WHERE user_id = :owner_id AND url = :url AND off_at IS NULL
RETURNING *

-- name: callback_endpoint_off
UPDATE callback_endpoint SET off_at = :now, off_reason = :reason WHERE user_id = :owner_id

-- name: callback_endpoint_off_news
INSERT INTO notification (user_id, event, data, created_at)
VALUES (:owner_id, 'callback.disabled', CAST(:data AS jsonb), :now)

-- name: callback_endpoints_to_tell
SELECT callback_endpoint.*, "user".name FROM callback_endpoint JOIN "user" ON "user".id = callback_endpoint.user_id
WHERE off_at IS NOT NULL AND off_told_at IS NULL

-- name: callback_endpoint_told
-- Of the time that they were told of: it may have been on, and off again, since.
UPDATE callback_endpoint SET off_told_at = :now WHERE user_id = :owner_id AND off_at = :off_at

-- name: job_callback_get
SELECT url, events FROM job_callback WHERE job_id = :job_id

-- name: keys_that_hold
-- Keys, and sessions of keys.
SELECT digest FROM api_key
WHERE digest = ANY(:digests) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > :now)
UNION ALL
SELECT session.digest FROM session JOIN api_key ON api_key.id = key_id
WHERE session.digest = ANY(:digests) AND session.expires_at > :now
  AND revoked_at IS NULL AND (api_key.expires_at IS NULL OR api_key.expires_at > :now)

-- name: request_insert
-- For a job that is over it is cancelled from the start, and so for a row whose batch is, unless the row has been put
-- back by itself since. One whose answer the user has already has succeeded from the start, and costs nothing:
-- `:reusable`, unless a file of it was deleted while it was locked.
INSERT INTO request (
    ref, job_id, user_id, account_id, step, attempt, endpoint, model_version, input, input_hash, reuse_hash,
    reused_from, output, cost_usd, lane, status, token, not_before, estimate_usd, created_at, finished_at, replay_id,
    markup)
SELECT :ref, job.id, job.user_id, :account_id, :step, :attempt, :endpoint, CAST(:model_version AS integer),
    CAST(:input AS jsonb), :input_hash, :reuse_hash, earlier.ref, earlier.output, CASE WHEN earlier.ref IS NOT NULL THEN 0 END, :lane,
    CASE WHEN over THEN 'cancelled' WHEN earlier.ref IS NOT NULL THEN 'succeeded' ELSE 'queued' END,
    :token, :not_before, :estimate_usd, :now,
    CASE WHEN over OR earlier.ref IS NOT NULL THEN CAST(:now AS timestamptz) END, job.replay_id,
    job.markup
FROM job LEFT JOIN job AS batch ON batch.id = job.parent_id
CROSS JOIN LATERAL (
    SELECT job.cancel_requested_at IS NOT NULL OR job.finished_at IS NOT NULL
        OR COALESCE(batch.cancel_requested_at, batch.finished_at) IS NOT NULL AND (
            job.replayed_at IS NULL OR job.replayed_at < COALESCE(batch.cancel_requested_at, batch.finished_at)
        ) AS over
)
LEFT JOIN LATERAL (
    SELECT ref, output FROM request AS paid
    WHERE paid.ref = CAST(:reusable AS text) AND NOT EXISTS (
        SELECT FROM asset WHERE asset.job_id = paid.job_id AND asset.ref = paid.ref AND asset.deleted_at IS NOT NULL)
) AS earlier ON true
WHERE job.id = :job_id
ON CONFLICT (job_id, step, attempt) DO NOTHING
RETURNING status

-- name: request_lock_reusable
-- The answer that `request_reusable` finds, with its files locked: whoever deletes one waits, and then sees who uses it.
SELECT found.ref FROM (
    SELECT ref, job_id FROM request
    WHERE user_id = (SELECT user_id FROM job WHERE id = :job_id) AND reuse_hash = :reuse_hash AND status = 'succeeded'
      AND output IS NOT NULL AND reused_from IS NULL
      AND EXISTS (SELECT FROM asset WHERE asset.job_id = request.job_id AND asset.ref = request.ref)
      AND NOT EXISTS (
          SELECT FROM asset
          WHERE asset.job_id = request.job_id AND asset.ref = request.ref AND asset.deleted_at IS NOT NULL)
    ORDER BY finished_at DESC LIMIT 1
) AS found JOIN asset ON asset.job_id = found.job_id AND asset.ref = found.ref
ORDER BY asset.id FOR KEY SHARE OF asset

-- name: request_reusable
-- As `request_lock_reusable` looks for it.
SELECT * FROM request
WHERE user_id = :user_id AND reuse_hash = :reuse_hash AND status = 'succeeded' AND output IS NOT NULL
  AND reused_from IS NULL AND EXISTS (SELECT FROM asset WHERE asset.job_id = request.job_id AND asset.ref = request.ref)
  AND NOT EXISTS (
      SELECT FROM asset
      WHERE asset.job_id = request.job_id AND asset.ref = request.ref AND asset.deleted_at IS NOT NULL)
ORDER BY finished_at DESC LIMIT 1

-- name: request_get
SELECT * FROM request WHERE ref = :ref

-- name: request_lock
SELECT * FROM request WHERE ref = :ref FOR UPDATE

-- name: request_by_provider_id
SELECT * FROM request WHERE request_id = :request_id

-- name: request_and_run
-- With the run that has its job just now.
SELECT request.*, job.run_id FROM request JOIN job ON job.id = request.job_id WHERE request.request_id = :request_id

-- name: request_by_token
SELECT * FROM request WHERE token = :token

-- name: requests_of_job
SELECT * FROM request WHERE job_id = :job_id ORDER BY created_at, ref

-- name: requests_of_job_lock
-- In one order, so that two who lock them do not wait for each other.
SELECT * FROM request WHERE job_id = :job_id ORDER BY ref FOR UPDATE

-- name: requests_of_run_in_flight
SELECT request.* FROM request JOIN job ON job.id = request.job_id
WHERE job.run_id = :run_id AND job.finished_at IS NULL AND request.status = 'in_flight'
ORDER BY request.submitted_at

-- name: requests_holding_slots
SELECT * FROM request WHERE status IN ('granted', 'submitting', 'in_flight', 'unknown') ORDER BY submitted_at

-- name: line_outlook
-- Whether anybody waits for a slot, whether a wait is over, and when the next one or the next queued row falls due.
-- The first by the index: of rows that merely exist, one might be looked for from the table's beginning.
SELECT (
        SELECT true FROM request WHERE status = 'queued' ORDER BY user_id, lane, created_at, ref LIMIT 1
    ) IS NOT NULL AS queued,
    EXISTS (SELECT FROM wait WHERE status = 'open' AND until <= :now) AS waits_over,
    LEAST(
        (SELECT min(not_before) FROM request WHERE status = 'queued' AND not_before > :now),
        (SELECT min(until) FROM wait WHERE status = 'open' AND until > :now)
    ) AS due

-- name: requests_settle
-- Several calls of one run, in one transaction: its row is locked once. In one order for all, so that two who settle
-- the same calls do not wait for each other.
SELECT given.n, came.verdict, came.wakes, came.asks
FROM (
    SELECT * FROM jsonb_to_recordset(CAST(:calls AS jsonb)) AS each (
        n integer, ref text, before text[], status text, output jsonb, error jsonb, cost_usd numeric, via text,
        provider text, request_id text, body_sha256 text, last_try text
    )
    ORDER BY ref, n
) AS given
CROSS JOIN LATERAL settle_request(given.ref, given.before, given.status, given.output, given.error, given.cost_usd,
    given.via, given.provider, given.request_id, given.body_sha256, CAST(:now AS timestamptz), given.last_try) AS came

-- name: request_settle
SELECT verdict, wakes, asks FROM settle_request(:ref, CAST(:before AS text[]), :status, CAST(:output AS jsonb),
    CAST(:error AS jsonb), CAST(:cost_usd AS numeric), :via, :provider, :request_id, :body_sha256,
    CAST(:now AS timestamptz), CAST(:last_try AS text))

-- name: request_begin_submit
UPDATE request SET status = 'submitting', submitted_at = :now, deadline_at = :deadline_at
WHERE ref = :ref AND status = ANY(:before) AND input_hash = COALESCE(:input_hash, input_hash)
RETURNING *

-- name: requests_begin_ahead
-- Of these, `most` first calls of jobs that no process had when they got their slots, as far as its lease tells. What was
-- refused or replayed is for the run, which may ask otherwise, and so is what names a file of the user's; a batch's rows
-- go at the pace of theirs.
UPDATE request SET status = 'submitting', submitted_at = CAST(:now AS timestamptz),
    deadline_at = CAST(:now AS timestamptz) + chosen.deadline, sent_ahead = true
FROM (
    SELECT request.ref, given.deadline
    FROM unnest(CAST(:refs AS text[]), CAST(:deadlines AS interval[])) WITH ORDINALITY AS given (ref, deadline, n)
    JOIN request ON request.ref = given.ref JOIN job ON job.id = request.job_id LEFT JOIN run ON run.id = job.run_id
    WHERE request.status = 'granted' AND request.attempt = 1 AND request.error IS NULL
      AND CAST(request.input AS text) NOT LIKE '%"asset:%'
      AND job.parent_id IS NULL AND job.replayed_at IS NULL AND job.finished_at IS NULL
      AND job.cancel_requested_at IS NULL
      AND (run.alive_until IS NULL OR request.granted_at < run.alive_until - CAST(:lease AS interval))
    ORDER BY given.n LIMIT :most
    FOR NO KEY UPDATE OF request SKIP LOCKED
) AS chosen
WHERE request.ref = chosen.ref
RETURNING request.*

-- name: request_adopted
UPDATE request SET adopted_at = :now WHERE ref = :ref AND sent_ahead

-- name: request_ask_anew
-- Another call in the place of one that was not sent, with the row locked.
UPDATE request SET account_id = :account_id, endpoint = :endpoint,
    model_version = CAST(:model_version AS integer), input = CAST(:input AS jsonb), input_hash = :input_hash, reuse_hash = :reuse_hash, estimate_usd = :estimate_usd, status = :status,
    granted_at = CASE WHEN :status = 'granted' THEN granted_at END,
    probe = probe AND :status = 'granted'
WHERE ref = :ref
RETURNING *

-- name: request_accepted
UPDATE request SET request_id = COALESCE(request_id, :request_id), accepted_at = COALESCE(accepted_at, :now),
    first_try = CAST(:first_try AS text),
    status = CASE WHEN status = ANY(:before) THEN 'in_flight' ELSE status END
WHERE ref = :ref
RETURNING *

-- name: request_adopt
-- Not where it was heard of meanwhile, or another row has that id.
UPDATE request SET request_id = :request_id, accepted_at = :now, status = 'in_flight'
WHERE ref = :ref AND status = 'unknown' AND request_id IS NULL
  AND NOT EXISTS (SELECT FROM request WHERE request_id = :request_id)
RETURNING ref

-- name: requests_known
SELECT request_id FROM request WHERE request_id = ANY(:request_ids)
UNION SELECT request_id FROM delivery WHERE request_id = ANY(:request_ids)

-- name: requests_paid_unseen
-- Successes that came without their payload, and that nobody will collect: late ones, and those of jobs that are over.
SELECT request.* FROM request JOIN delivery ON delivery.ref = request.ref
WHERE delivery.verdict = 'late' AND delivery.received_at > :since
  AND request.output IS NULL AND request.request_id IS NOT NULL
UNION
SELECT request.* FROM request
CROSS JOIN LATERAL (SELECT FROM job WHERE id = request.job_id AND finished_at IS NOT NULL LIMIT 1) AS ended
WHERE request.status = 'succeeded' AND request.output IS NULL AND request.finished_at > :since
  AND request.request_id IS NOT NULL

-- name: request_output_forget
-- The file that came within the answer lies in the store now: only what it is about stays.
UPDATE request SET output = jsonb_set(output, CAST(:path AS text[]), CAST(:kept AS jsonb)) WHERE ref = :ref

-- name: request_output
-- Where nobody says what it cost, as much as was expected.
UPDATE request SET output = CAST(:output AS jsonb), cost_usd = COALESCE(:cost_usd, cost_usd, estimate_usd)
WHERE ref = :ref

-- name: account_insert
INSERT INTO account (id, slots, user_slots, endpoint_caps) VALUES (:account_id, :slots, :user_slots, '{}')
ON CONFLICT (id) DO NOTHING

-- name: accounts_lock
SELECT * FROM lock_accounts(CAST(:account_id AS text))

-- name: account_lock
SELECT * FROM account WHERE id = :account_id FOR NO KEY UPDATE

-- name: account_down
UPDATE account SET down_since = :down_since, failed_probes = :failed_probes, probe_at = :probe_at,
    down_reason = CAST(:reason AS text),
    down_notified_at = CASE WHEN CAST(:reason AS text) IS NOT NULL THEN down_notified_at END
WHERE id = :account_id

-- name: account_back
UPDATE account SET down_since = NULL, failed_probes = 0, probe_at = NULL, down_reason = NULL, down_notified_at = NULL
WHERE id = :account_id AND down_since IS NOT NULL

-- name: accounts_to_notify
SELECT * FROM account WHERE down_since IS NOT NULL AND down_reason IS NOT NULL AND down_notified_at IS NULL ORDER BY id

-- name: account_notified
UPDATE account SET down_notified_at = :now WHERE id = :account_id AND down_since = :down_since

-- name: account_slowed
UPDATE account SET halvings = :halvings, slowed_at = :now WHERE id = :account_id

-- name: grantable
-- First the users whose turn it is, by the row that is first in each one's line, no more of them than slots are free;
-- then their oldest rows, as many as plan and budget allow. A row's turn comes at the virtual time `start` + `step` for
-- each row of its user before it. Who waits is found by hopping from user to user in the index, from the first row of
-- each to that of the next: a DISTINCT would read the whole backlog. `lowest`: of the lanes in which somebody waits, if asked for.
-- Planned for any parameters, `<> ALL` would count as true of no row: each line would be read to its end, and sorted. Of
-- COALESCE nothing is reckoned, so a line is read in the order of the index, and no further than it is asked for.
WITH RECURSIVE waiting AS (
    (
        SELECT user_id, lane, created_at, estimate_usd, account_id, not_before, endpoint FROM request
        WHERE status = 'queued' ORDER BY user_id, lane, created_at, ref LIMIT 1
    )
    UNION ALL
    SELECT next.* FROM waiting CROSS JOIN LATERAL (
        SELECT user_id, lane, created_at, estimate_usd, account_id, not_before, endpoint FROM request
        WHERE status = 'queued' AND user_id > waiting.user_id ORDER BY user_id, lane, created_at, ref LIMIT 1
    ) AS next
), held AS (
    SELECT user_id, count(*) FILTER (WHERE account_id = :account_id) AS n, sum(estimate_usd) AS usd FROM request
    WHERE status IN ('granted', 'submitting', 'in_flight', 'unknown') GROUP BY user_id
), unseen AS (
    -- They are few.
    SELECT user_id, COALESCE(sum(estimate_usd) FILTER (WHERE finished_at >= :midnight), 0) AS day,
        sum(estimate_usd) AS month
    FROM perhaps_paid WHERE finished_at >= :month GROUP BY user_id
), budget AS (
    -- What each of them may spend yet, today and in this month; NULL: as much as they like.
    SELECT waiting.user_id, least(most.day - paid.day - COALESCE(unseen.day, 0),
        most.month - paid.month - COALESCE(unseen.month, 0)) - COALESCE(held.usd, 0) AS usd
    FROM waiting
    JOIN "user" ON "user".id = waiting.user_id
    JOIN plan ON plan.name = "user".plan
    LEFT JOIN held ON held.user_id = waiting.user_id
    LEFT JOIN unseen ON unseen.user_id = waiting.user_id
    CROSS JOIN LATERAL (
        SELECT COALESCE("user".daily_budget_usd, plan.daily_budget_usd) AS day,
            COALESCE("user".monthly_budget_usd, plan.monthly_budget_usd) AS month
    ) AS most
    CROSS JOIN LATERAL (
        SELECT COALESCE(sum(COALESCE(billed_usd, cost_usd)) FILTER (WHERE finished_at >= :midnight), 0) AS day,
            COALESCE(sum(COALESCE(billed_usd, cost_usd)), 0) AS month
        FROM request
        WHERE (most.day IS NOT NULL OR most.month IS NOT NULL) -- else it is summed up for everybody who waits
          AND user_id = waiting.user_id AND (cost_usd IS NOT NULL OR billed_usd IS NOT NULL)
          AND finished_at >= CASE WHEN most.month IS NULL THEN CAST(:midnight AS timestamptz) ELSE :month END
    ) AS paid
), open AS (
    SELECT waiting.user_id, head.lane, head.created_at, last.lane AS last_lane,
        greatest(turn.passed, CAST(account.passed ->> CAST(head.lane AS text) AS double precision), 0) AS start,
        COALESCE(account.user_slots, plan.in_flight) - COALESCE(held.n, 0) AS capacity,
        COALESCE(held.n, 0) / plan.weight AS load,
        CAST(1 / plan.weight AS double precision) AS step,
        budget.usd AS budget
    FROM waiting
    JOIN "user" ON "user".id = waiting.user_id
    JOIN plan ON plan.name = "user".plan
    JOIN account ON account.id = :account_id
    LEFT JOIN held ON held.user_id = waiting.user_id
    LEFT JOIN budget ON budget.user_id = waiting.user_id
    CROSS JOIN LATERAL (
        SELECT waiting.account_id = :account_id AND waiting.lane >= :from_lane AND waiting.endpoint <> ALL(:full)
            AND COALESCE(waiting.not_before <= :now, true) AS good
    ) AS known
    CROSS JOIN LATERAL (
        SELECT waiting.lane, waiting.created_at, waiting.estimate_usd WHERE known.good
        UNION ALL (
            SELECT lane, created_at, estimate_usd FROM request
            WHERE NOT known.good AND user_id = waiting.user_id AND status = 'queued' AND account_id = :account_id
              AND lane >= :from_lane AND (not_before IS NULL OR not_before <= :now)
              AND COALESCE(endpoint <> ALL(:full), true)
            ORDER BY lane, created_at, ref LIMIT 1
        )
    ) AS head
    LEFT JOIN LATERAL (
        SELECT lane FROM request
        WHERE :seek_lowest AND user_id = waiting.user_id AND status = 'queued' AND account_id = :account_id
          AND (not_before IS NULL OR not_before <= :now) AND COALESCE(endpoint <> ALL(:full), true)
        ORDER BY lane DESC LIMIT 1
    ) AS last ON true
    LEFT JOIN turn ON turn.account_id = :account_id AND turn.lane = head.lane AND turn.user_id = waiting.user_id
    WHERE COALESCE(account.user_slots, plan.in_flight) > COALESCE(held.n, 0)
      -- What costs nothing goes on though more was spent than there was: an estimate is not a bill.
      AND (budget.usd IS NULL OR head.estimate_usd <= greatest(budget.usd, 0))
), first AS (
    SELECT * FROM open ORDER BY lane, start, load, created_at LIMIT :free
)
SELECT candidate.ref, candidate.job_id, candidate.endpoint, candidate.model_version, candidate.lane, first.user_id, first.step, own.start,
    candidate.estimate_usd, first.capacity, first.budget, (SELECT max(last_lane) FROM open) AS lowest
FROM first
JOIN account ON account.id = :account_id
CROSS JOIN LATERAL (
    SELECT ref, job_id, endpoint, model_version, lane, created_at, estimate_usd,
        row_number() OVER (PARTITION BY lane ORDER BY created_at, ref) AS rank,
        sum(estimate_usd) OVER (ORDER BY lane, created_at, ref ROWS UNBOUNDED PRECEDING) AS usd
    FROM request
    WHERE user_id = first.user_id AND status = 'queued' AND account_id = :account_id AND lane >= :from_lane
      AND (not_before IS NULL OR not_before <= :now) AND COALESCE(endpoint <> ALL(:full), true)
    ORDER BY lane, created_at, ref
    LIMIT least(first.capacity, :free)
) AS candidate
LEFT JOIN turn ON turn.account_id = :account_id AND turn.lane = candidate.lane AND turn.user_id = first.user_id
CROSS JOIN LATERAL (
    SELECT greatest(turn.passed, CAST(account.passed ->> CAST(candidate.lane AS text) AS double precision), 0) AS start
) AS own
WHERE first.budget IS NULL OR candidate.usd <= greatest(first.budget, 0)
ORDER BY candidate.lane, own.start + (candidate.rank - 1) * first.step, first.load + candidate.rank * first.step,
    candidate.created_at, candidate.ref

-- name: grant
SELECT ref, job_id, run_id, status FROM give_slots(:account_id, CAST(:refs AS text[]), CAST(:lanes AS integer[]),
    CAST(:users AS text[]), CAST(:starts AS double precision[]), CAST(:steps AS double precision[]),
    CAST(:probe_until AS timestamptz), CAST(:now AS timestamptz), CAST(:paused_until AS timestamptz))

-- name: jobs_without_run
-- Of these jobs the ones that no run carries and no open run would take, where the user's queue has room for a run.
SELECT job.id FROM job JOIN "user" ON "user".id = job.user_id JOIN plan ON plan.name = "user".plan
WHERE job.id = ANY(:job_ids) AND job.run_id IS NULL AND job.finished_at IS NULL
  AND NOT EXISTS (
    SELECT FROM run WHERE run.user_id = job.user_id AND run.kind = job.kind AND run.shared AND run.closed_at IS NULL
  )
  AND plan.in_flight > (SELECT count(*) FROM run WHERE run.user_id = job.user_id AND run.closed_at IS NULL)

-- name: place_in_line
-- How many rows have their turn before this one: all of lanes before it, its user's older ones, and of each other user
-- in its lane those whose virtual time comes first.
WITH account AS (
    SELECT id, COALESCE(CAST(passed ->> CAST(:lane AS text) AS double precision), 0) AS lane_time FROM account
    WHERE id = :account_id
), line AS (
    SELECT waiting.user_id, waiting.rows, waiting.older, CAST(plan.weight AS double precision) AS weight,
        greatest(turn.passed, account.lane_time) AS start
    FROM (
        SELECT user_id, count(*) AS rows, count(*) FILTER (WHERE (created_at, ref) < (:created_at, :ref)) AS older
        FROM request WHERE status = 'queued' AND account_id = :account_id AND lane = :lane GROUP BY user_id
    ) AS waiting
    CROSS JOIN account
    JOIN "user" ON "user".id = waiting.user_id
    JOIN plan ON plan.name = "user".plan
    LEFT JOIN turn ON turn.account_id = account.id AND turn.lane = :lane AND turn.user_id = waiting.user_id
), own AS (
    SELECT older, start + older / weight AS turn FROM line WHERE user_id = :user_id
)
SELECT CAST(own.older
    + (SELECT count(*) FROM request WHERE status = 'queued' AND account_id = :account_id AND lane < :lane)
    + COALESCE(sum(least(line.rows, ceil(greatest(own.turn - line.start, 0) * line.weight))), 0) AS integer)
FROM own LEFT JOIN line ON line.user_id <> :user_id
GROUP BY own.older

-- name: line
-- What bounds the row of this user that waits for this endpoint.
SELECT account.slots AS all_slots,
    account.halvings,
    account.slowed_at,
    account.down_since,
    account.down_reason,
    account.probe_at,
    CAST(account.endpoint_caps ->> :endpoint AS integer) AS endpoint_cap,
    COALESCE(account.user_slots, plan.in_flight) AS plan_slots,
    account.user_slots IS NOT NULL AS accounts_own,
    count(request.ref) AS in_use,
    count(request.ref) FILTER (WHERE request.endpoint = :endpoint) AS endpoint_in_use,
    count(request.ref) FILTER (WHERE request.user_id = "user".id) AS own_in_use
FROM account
CROSS JOIN "user"
JOIN plan ON plan.name = "user".plan
LEFT JOIN request ON request.account_id = account.id
    AND request.status IN ('granted', 'submitting', 'in_flight', 'unknown')
WHERE account.id = :account_id AND "user".id = :user_id
GROUP BY account.id, plan.name, "user".id

-- name: queue_held
-- Slots in use now, as many rows at most as there are slots.
SELECT request.account_id, request.endpoint, request.user_id, "user".name AS "user", count(*) AS held
FROM request JOIN "user" ON "user".id = request.user_id
WHERE request.status IN ('granted', 'submitting', 'in_flight', 'unknown')
GROUP BY request.account_id, request.endpoint, request.user_id, "user".name

-- name: queue_waiting
-- Of each lane the first users in their order, each with the sums of the whole lane.
SELECT * FROM (
    SELECT waiting.*, "user".name AS "user", plan.name AS plan, plan.weight, COALESCE(held.n, 0) AS held,
        COALESCE(account.user_slots, plan.in_flight) AS most,
        CAST(sum(waiting.waiting) OVER lane AS bigint) AS lane_waiting, count(*) OVER lane AS lane_users,
        min(waiting.since) OVER lane AS lane_since,
        row_number() OVER (
            PARTITION BY waiting.account_id, waiting.lane ORDER BY
            greatest(turn.passed, CAST(account.passed ->> CAST(waiting.lane AS text) AS double precision), 0),
            COALESCE(held.n, 0) / plan.weight, waiting.since, waiting.user_id
        ) AS place
    FROM (
        SELECT account_id, lane, user_id, count(*) AS waiting, min(created_at) AS since
        FROM request WHERE status = 'queued' GROUP BY account_id, lane, user_id
    ) AS waiting
    JOIN account ON account.id = waiting.account_id
    JOIN "user" ON "user".id = waiting.user_id
    JOIN plan ON plan.name = "user".plan
    LEFT JOIN turn ON turn.account_id = waiting.account_id AND turn.lane = waiting.lane
        AND turn.user_id = waiting.user_id
    LEFT JOIN (
        SELECT account_id, user_id, count(*) AS n FROM request
        WHERE status IN ('granted', 'submitting', 'in_flight', 'unknown') GROUP BY account_id, user_id
    ) AS held ON held.account_id = waiting.account_id AND held.user_id = waiting.user_id
    WINDOW lane AS (PARTITION BY waiting.account_id, waiting.lane)
) AS line
WHERE place <= :first

-- name: queue_lately
-- Who waited for slots since then, and who was served meanwhile: of the calls that wait, that hold a slot, and that have
-- ended since, each by an index of its own. Whoever waited longest comes first. An answer that served again never waited.
WITH seen AS (
    SELECT account_id, lane, user_id, created_at, not_before, granted_at, finished_at
    FROM request WHERE status = 'queued'
    UNION ALL
    SELECT account_id, lane, user_id, created_at, not_before, granted_at, finished_at
    FROM request WHERE status IN ('granted', 'submitting', 'in_flight', 'unknown')
    UNION ALL
    SELECT account_id, lane, user_id, created_at, not_before, granted_at, finished_at
    FROM request WHERE finished_at > CAST(:begin AS timestamptz) AND reused_from IS NULL
), waited AS (
    SELECT account_id, lane, user_id, granted_at, granted_at IS NULL AND finished_at IS NULL AS still,
        greatest(created_at, not_before) AS since,
        COALESCE(granted_at, finished_at, CAST(:now AS timestamptz)) AS until
    FROM seen
), line AS (
    SELECT account_id, lane, user_id, count(granted_at) AS granted, count(*) FILTER (WHERE still) AS waiting,
        CAST(EXTRACT(EPOCH FROM avg(until - since) FILTER (WHERE granted_at IS NOT NULL)) AS double precision)
            AS mean_seconds,
        CAST(EXTRACT(EPOCH FROM max(until - since)) AS double precision) AS longest_seconds,
        range_agg(tstzrange(greatest(since, CAST(:begin AS timestamptz)), until)) AS spans
    FROM waited WHERE until > CAST(:begin AS timestamptz) AND since <= until
    GROUP BY account_id, lane, user_id
    ORDER BY longest_seconds DESC LIMIT :most
)
SELECT line.account_id, line.lane, line.user_id, "user".name AS "user", line.granted, line.waiting, line.mean_seconds,
    line.longest_seconds, COALESCE(meanwhile.served, '[]') AS served
FROM line JOIN "user" ON "user".id = line.user_id
LEFT JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_object('key', other.user_id, 'name', other.name, 'slots', other.slots)) AS served
    FROM (
        SELECT waited.user_id, whose.name, count(*) AS slots
        FROM waited JOIN "user" AS whose ON whose.id = waited.user_id
        WHERE waited.account_id = line.account_id AND waited.user_id <> line.user_id
          AND waited.granted_at > CAST(:begin AS timestamptz) AND waited.granted_at <@ line.spans
        GROUP BY waited.user_id, whose.name
        ORDER BY count(*) DESC, waited.user_id LIMIT :served
    ) AS other
) AS meanwhile ON true
ORDER BY line.longest_seconds DESC, line.user_id, line.lane

-- name: runs_lately
-- Newest first, with how many of their jobs are open.
SELECT run.id, run.kind, run.deployment, run.flow_run_id, run.user_id, "user".name AS "user", run.created_at,
    run.left_at AS suspended_at, run.closed_at,
    (SELECT count(*) FROM job WHERE job.run_id = run.id AND job.finished_at IS NULL) AS open_jobs
FROM run JOIN "user" ON "user".id = run.user_id
WHERE true
  AND (run.closed_at IS NULL OR run.closed_at > CAST(:since AS timestamptz)) -- given: since
  AND run.id = (SELECT run_id FROM job WHERE id = :job_id) -- given: job_id
ORDER BY run.created_at DESC, run.id LIMIT :limit

-- name: asset_insert
-- Stored again it is not told again (`xmax` is 0 of a row that was not there). Of a batch's rows their batch tells.
WITH stored AS (
INSERT INTO asset (
    id, job_id, user_id, ref, step, n, key, sha256, content_type, bytes, width, height, seconds, collected_at,
    created_at, flagged, hidden)
VALUES (
    :id, :job_id, :user_id, :ref, :step, :n, :key, :sha256, :content_type, :bytes, :width, :height, :seconds,
    :collected_at, :now, :flagged, :hidden)
ON CONFLICT (job_id, step, n) DO UPDATE SET key = excluded.key, sha256 = excluded.sha256,
    content_type = excluded.content_type, bytes = excluded.bytes, width = excluded.width, height = excluded.height,
    seconds = excluded.seconds, collected_at = excluded.collected_at,
    flagged = excluded.flagged, hidden = excluded.hidden, deleted_at = NULL
RETURNING *, xmax = 0 AS fresh
), told AS (
    INSERT INTO notification (user_id, job_id, event, data, created_at)
    SELECT stored.user_id, stored.job_id, 'asset.stored', jsonb_build_object('asset_id', stored.id, 'step', stored.step,
        'n', stored.n, 'content_type', stored.content_type, 'bytes', stored.bytes, 'width', stored.width,
        'height', stored.height, 'seconds', stored.seconds, 'flagged', stored.flagged, 'hidden', stored.hidden), :now
    FROM stored JOIN job ON job.id = stored.job_id WHERE stored.fresh AND job.parent_id IS NULL
)
SELECT asset.* FROM stored AS asset

-- name: asset_upload
INSERT INTO asset (id, user_id, step, n, key, sha256, content_type, bytes, width, height, seconds, created_at)
VALUES (:id, :user_id, 'upload', 0, :key, :sha256, :content_type, :bytes, :width, :height, :seconds, :now)
RETURNING *

-- name: assets_reuse
-- The files of a paid call of another job, as this job's too: the same bytes, under the same key of the store.
WITH stored AS (
INSERT INTO asset (
    id, job_id, user_id, ref, step, n, key, sha256, content_type, bytes, width, height, seconds, collected_at,
    created_at, flagged, hidden)
SELECT :id || '-' || n, :job_id, user_id, :ref, :step, n, key, sha256, content_type, bytes, width, height, seconds,
    :now, :now, flagged, COALESCE(flagged, false) AND :hides
FROM asset WHERE job_id = (SELECT job_id FROM request WHERE ref = :reused_from) AND ref = :reused_from
  AND deleted_at IS NULL
ON CONFLICT (job_id, step, n) DO UPDATE SET key = excluded.key
RETURNING *, xmax = 0 AS fresh
), told AS (
    INSERT INTO notification (user_id, job_id, event, data, created_at)
    SELECT stored.user_id, stored.job_id, 'asset.stored', jsonb_build_object('asset_id', stored.id, 'step', stored.step,
        'n', stored.n, 'content_type', stored.content_type, 'bytes', stored.bytes, 'width', stored.width,
        'height', stored.height, 'seconds', stored.seconds, 'flagged', stored.flagged, 'hidden', stored.hidden), :now
    FROM stored JOIN job ON job.id = stored.job_id WHERE stored.fresh AND job.parent_id IS NULL
)
SELECT asset.* FROM stored AS asset

-- name: asset_get
SELECT * FROM asset WHERE id = :asset_id AND deleted_at IS NULL

-- name: assets_of_job
SELECT * FROM asset WHERE job_id = :job_id AND deleted_at IS NULL ORDER BY step, n

-- name: assets_of_jobs
SELECT * FROM asset WHERE job_id = ANY(:job_ids) AND deleted_at IS NULL ORDER BY step, n

-- name: assets_page
-- Of a batch with the files of its rows. A row of a batch has the tags of its batch.
SELECT asset.*, request.endpoint AS model, COALESCE(batch.tags, job.tags, '{}') AS tags,
    words.prompt
FROM asset
LEFT JOIN job ON job.id = asset.job_id
LEFT JOIN job AS batch ON batch.id = job.parent_id
LEFT JOIN request ON request.ref = asset.ref
CROSS JOIN LATERAL (
    SELECT COALESCE(job.parameters ->> 'prompt', job.parameters #>> '{input,prompt}', job.parameters #>> '{input,text}',
        job.parameters ->> 'text', job.parameters ->> 'topic', job.parameters ->> 'instruction',
        job.parameters ->> 'name', job.parameters ->> 'title') AS prompt
) AS words
WHERE asset.user_id = :user_id AND asset.deleted_at IS NULL
  AND (asset.created_at, asset.id)
    < (COALESCE(CAST(:before_at AS timestamptz), 'infinity'), COALESCE(CAST(:before_id AS text), ''))
  AND (CAST(:since AS timestamptz) IS NULL OR asset.created_at >= :since)
  AND (CAST(:asset_id AS text) IS NULL OR asset.id = :asset_id)
  AND (CAST(:kind AS text) IS NULL OR :kind = CASE
    WHEN split_part(asset.content_type, '/', 1) IN ('image', 'video', 'audio') THEN split_part(asset.content_type, '/', 1)
    ELSE 'other' END)
  AND (CAST(:model AS text) IS NULL OR request.endpoint = :model)
  AND (CAST(:job_id AS text) IS NULL OR job.id = :job_id OR job.parent_id = :job_id)
  AND (CAST(:tags AS text[]) IS NULL OR COALESCE(batch.tags, job.tags) @> CAST(:tags AS text[]))
  AND (CAST(:prompt AS text) IS NULL OR words.prompt ILIKE :prompt)
ORDER BY asset.created_at DESC, asset.id DESC
LIMIT :limit

-- name: asset_lock
-- Also against those who lock it because an answer is to serve again.
SELECT * FROM asset WHERE id = :asset_id FOR UPDATE

-- name: asset_needed
-- By a job that has not ended: it made the file, names it, uses the answer it came from, or is the batch of who made it.
SELECT job.id FROM job
WHERE job.user_id = :user_id AND job.finished_at IS NULL AND (
    job.id = :job_id
    OR job.id = (SELECT parent_id FROM job AS made WHERE made.id = :job_id)
    OR strpos(CAST(job.parameters AS text), :asset_id) > 0
    OR EXISTS (
        SELECT FROM request WHERE request.job_id = job.id
          AND (request.reused_from = :ref OR strpos(CAST(request.input AS text), :asset_id) > 0))
)
LIMIT 1

-- name: asset_lora
SELECT id FROM lora WHERE :asset_id IN (weights_asset_id, config_asset_id) LIMIT 1

-- name: asset_delete
WITH copies AS (DELETE FROM provider_copy WHERE asset_id = :asset_id)
UPDATE asset SET deleted_at = COALESCE(deleted_at, :now) WHERE id = :asset_id

-- name: asset_shared
-- Whether another file on record lies under the same key, and whether one has the same bytes.
SELECT COALESCE(bool_or(key = :key), false) AS key, count(*) > 0 AS bytes FROM asset
WHERE user_id = :user_id AND sha256 = :sha256 AND deleted_at IS NULL

-- name: deliveries_of_request
SELECT * FROM delivery WHERE ref = :ref ORDER BY id

-- name: lora_user_lock
-- Versions are counted by one at a time. No other row is locked by who holds this.
SELECT id FROM "user" WHERE id = :user_id FOR NO KEY UPDATE

-- name: lora_register
INSERT INTO lora (
    id, user_id, job_id, trigger_word, version, weights_asset_id, config_asset_id, status, created_at)
VALUES (
    :id, :user_id, :job_id, :trigger_word,
    (SELECT coalesce(max(version), 0) + 1 FROM lora
     WHERE user_id = CAST(:user_id AS varchar) AND trigger_word = CAST(:trigger_word AS varchar)),
    :weights_asset_id, :config_asset_id, 'trained', :now)
ON CONFLICT (job_id) DO NOTHING

-- name: lora_of_job
SELECT * FROM lora WHERE job_id = :job_id

-- name: lora_ready
UPDATE lora SET status = 'ready', sample_asset_id = :sample_asset_id WHERE id = :lora_id RETURNING *

-- name: lora_get
SELECT * FROM lora WHERE id = :lora_id

-- name: lora_find
-- By its id, or the newest that is ready of those with the trigger word.
SELECT * FROM lora
WHERE user_id = :user_id AND (id = :called OR (trigger_word = :called AND status = 'ready'))
ORDER BY version DESC LIMIT 1

-- name: models_lock
SELECT pg_advisory_xact_lock(hashtext('model'))

-- name: models_of
-- The newest card of each.
SELECT * FROM model WHERE endpoint = ANY(:endpoints) AND superseded_at IS NULL

-- name: model_get
-- With what an operator says of it. Without a version the newest.
SELECT model.*, choice.allowed, choice.call_usd FROM model LEFT JOIN model_choice AS choice USING (endpoint)
WHERE endpoint = :endpoint
  AND CASE WHEN CAST(:version AS integer) IS NULL THEN superseded_at IS NULL ELSE version = :version END

-- name: model_supersede
UPDATE model SET superseded_at = :now WHERE endpoint = ANY(:endpoints) AND superseded_at IS NULL

-- name: model_seen
UPDATE model SET fetched_at = :now WHERE endpoint = ANY(:endpoints) AND superseded_at IS NULL

-- name: models_page
-- Without the schemas: a page of them would be megabytes.
SELECT endpoint, version, digest, account_id, title, category, kind, status, description, unit, unit_price, currency,
    usual_seconds, packaged, fetched_at, superseded_at, choice.allowed, choice.call_usd,
    CAST(NULL AS jsonb) AS input_schema, CAST(NULL AS jsonb) AS output_schema
FROM model LEFT JOIN model_choice AS choice USING (endpoint)
WHERE superseded_at IS NULL AND endpoint > :after
  AND (CAST(:category AS text) IS NULL OR category = :category)
  AND (CAST(:q AS text) IS NULL OR endpoint ILIKE :q OR title ILIKE :q OR description ILIKE :q)
  AND (CAST(:status AS text) IS NULL OR status = :status)
ORDER BY endpoint LIMIT :limit

-- name: models_categories
SELECT category, count(*) AS models FROM model WHERE superseded_at IS NULL GROUP BY category ORDER BY category

-- name: models_ages
SELECT count(*) AS cards, count(*) FILTER (WHERE packaged) AS packaged, max(fetched_at) AS newest FROM model
WHERE superseded_at IS NULL

-- name: model_choose
INSERT INTO model_choice (endpoint, allowed, call_usd) VALUES (:endpoint, :allowed, :call_usd)
ON CONFLICT (endpoint) DO UPDATE SET
    allowed = CASE WHEN :about = 'allowed' THEN excluded.allowed ELSE model_choice.allowed END,
    call_usd = CASE WHEN :about = 'price' THEN excluded.call_usd ELSE model_choice.call_usd END

-- name: model_choice_get
SELECT allowed, call_usd FROM model_choice WHERE endpoint = :endpoint

-- name: model_usual_cost
-- What nine in ten of the last calls came to at most.
SELECT percentile_cont(0.9) WITHIN GROUP (ORDER BY usd) FROM (
    SELECT COALESCE(billed_usd, cost_usd) AS usd FROM request
    WHERE endpoint = :endpoint AND status = 'succeeded' AND cost_usd > 0 AND reused_from IS NULL
    ORDER BY finished_at DESC LIMIT 500
) AS lately HAVING count(*) >= 5

-- name: model_usual_seconds
-- Within how long 19 of 20 of the last calls had ended. In the index of those that cost something (`request_costed`).
SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) FROM (
    SELECT extract(epoch FROM finished_at - submitted_at) AS seconds FROM request
    WHERE endpoint = :endpoint AND status = 'succeeded' AND cost_usd > 0 AND submitted_at IS NOT NULL
    ORDER BY finished_at DESC LIMIT 200
) AS lately HAVING count(*) >= 20

-- name: loras_page
SELECT * FROM lora
WHERE user_id = :user_id AND (CAST(:trigger_word AS text) IS NULL OR trigger_word = :trigger_word)
  AND (CAST(:before_at AS timestamptz) IS NULL OR (created_at, id) < (:before_at, CAST(:before_id AS text)))
ORDER BY created_at DESC, id DESC LIMIT :limit

-- name: copy_find
SELECT url FROM provider_copy WHERE asset_id = :asset_id AND account_id = :account_id AND expires_at >= :until

-- name: copy_keep
INSERT INTO provider_copy (asset_id, account_id, url, expires_at) VALUES (:asset_id, :account_id, :url, :expires_at)
ON CONFLICT (asset_id, account_id) DO UPDATE SET url = excluded.url, expires_at = excluded.expires_at

-- name: children_pictures
-- What came of each row in a pass: its first picture after its last step, without one its first file, or why there is none.
SELECT job.id AS job_id, job.manifest_row AS n, batch_row.name, job.status, job.error ->> 'code' AS error_code,
    picture.id AS asset_id, picture.key, picture.content_type, picture.bytes
FROM job
JOIN batch_row ON batch_row.batch_id = job.parent_id AND batch_row.n = job.manifest_row
LEFT JOIN LATERAL (
    SELECT id, key, content_type, bytes FROM asset
    WHERE asset.job_id = job.id AND NOT hidden AND deleted_at IS NULL
    ORDER BY content_type LIKE 'image/%' DESC, content_type LIKE 'video/%' DESC, n, created_at DESC LIMIT 1
) AS picture ON job.status = 'completed'
WHERE job.parent_id = :job_id AND job.stage = :stage
ORDER BY job.manifest_row

-- name: children_audit
-- Every paid call of every row, also those that failed, with the file it brought and the webhooks that came for it.
SELECT job.manifest_row AS n, batch_row.name, job.stage, job.id AS job_id, job.status AS job_status,
    job.error AS job_error, request.*, asset.key AS asset_key, asset.sha256, asset.bytes, asset.content_type,
    (SELECT json_agg(json_build_object('verdict', verdict, 'received_at', received_at) ORDER BY id)
     FROM delivery WHERE delivery.ref = request.ref) AS deliveries
FROM job
JOIN batch_row ON batch_row.batch_id = job.parent_id AND batch_row.n = job.manifest_row
LEFT JOIN request ON request.job_id = job.id
LEFT JOIN asset ON asset.ref = request.ref AND asset.job_id = job.id
WHERE job.parent_id = :job_id AND batch_row.n >= :first AND batch_row.n < :beyond
ORDER BY job.manifest_row, job.stage, request.created_at, request.ref, asset.n

-- name: end_users_make
-- With the plan of the service. Those that are there stay as they are.
INSERT INTO "user" (id, name, parent_id, plan, notified, created_at)
SELECT given.id, given.name, owner.id, owner.plan, 0, :now
FROM unnest(CAST(:ids AS text[]), CAST(:names AS text[])) AS given (id, name) JOIN "user" AS owner ON owner.id = :parent_id
WHERE NOT EXISTS (SELECT FROM "user" AS known WHERE known.parent_id = :parent_id AND known.name = given.name)
ON CONFLICT DO NOTHING

-- name: end_users_named
SELECT id, name FROM "user" WHERE parent_id = :parent_id AND name = ANY(:names)

-- name: event_insert
-- Nothing for one that was sent before.
INSERT INTO event (
    id, source, key, user_id, name, version, data, depth, status, problem, occurred_at, received_at, told_at)
SELECT id, source, key, user_id, name, version, data, depth, status, problem, occurred_at, :now,
    CASE WHEN NOT in_feed THEN CAST(:now AS timestamptz) END
FROM jsonb_to_recordset(CAST(:events AS jsonb)) AS given (
    id text, source text, key text, user_id text, name text, version integer, data jsonb, depth smallint, status text,
    problem jsonb, occurred_at timestamptz, in_feed boolean
)
ON CONFLICT (source, key) DO NOTHING
RETURNING id

-- name: event_get
SELECT * FROM event WHERE id = :event_id

-- name: events_by_key
SELECT * FROM event WHERE source = :source AND key = ANY(:keys)

-- name: event_lock_names
-- Who waits for an event looks back and puts itself on record in one piece; meanwhile none of that name comes in.
SELECT pg_advisory_xact_lock_shared(hashtext('event:' || name)) FROM unnest(CAST(:names AS text[])) AS name

-- name: event_lock_name
SELECT pg_advisory_xact_lock(hashtext('event:' || :name))

-- name: events_since
-- Neither the one that started the job, nor one that a wait of the job has taken already.
SELECT * FROM event
WHERE status = 'accepted' AND name = :name AND received_at >= :since AND (
    user_id = :user_id
    OR user_id IS NULL AND EXISTS (SELECT FROM "user" WHERE id = :user_id AND event.source IN (id, parent_id))
)
  AND NOT EXISTS (
      SELECT FROM event_effect AS effect
      WHERE effect.event_id = event.id AND (
          effect.job_id = :job_id AND effect.what = 'started'
          OR effect.start_id = (SELECT start_id FROM job WHERE id = :job_id)
      )
  )
  AND NOT EXISTS (SELECT FROM wait WHERE wait.job_id = :job_id AND wait.event_id = event.id)
ORDER BY received_at, id

-- name: events_page
-- Newest first.
SELECT * FROM event
WHERE true
  AND source = :source -- given: source
  AND status = :status -- given: status
  AND user_id = :user_id -- given: user_id
  AND (received_at, id) < (CAST(:before_at AS timestamptz), :before_id) -- given: before_at
ORDER BY received_at DESC, id DESC LIMIT :limit

-- name: events_unpublished
SELECT * FROM event WHERE told_at IS NULL AND status = 'accepted' AND received_at < :before ORDER BY received_at LIMIT :limit

-- name: events_published
UPDATE event SET told_at = :now WHERE id = ANY(:ids)

-- name: effects_insert
INSERT INTO event_effect (
    event_id, n, what, deployment, job_id, wait_id, start_id, start_n, parameters, reason, at)
SELECT event_id, n, what, deployment, job_id, wait_id, start_id, start_n, parameters, reason, :now
FROM jsonb_to_recordset(CAST(:effects AS jsonb)) AS given (
    event_id text, n integer, what text, deployment text, job_id text, wait_id text, start_id text, start_n integer,
    parameters jsonb, reason text
)

-- name: jobs_to_cancel
SELECT id FROM job
WHERE user_id = :user_id AND kind = :kind AND deployment = :deployment AND parent_id IS NULL AND finished_at IS NULL
  AND cancel_requested_at IS NULL AND parameters @> CAST(:match AS jsonb)
ORDER BY created_at, id LIMIT 1000

-- name: cancels_undone
-- One that was replayed since then is wanted again.
SELECT job.id FROM event_effect AS effect JOIN job ON job.id = effect.job_id
WHERE effect.what = 'cancelled' AND effect.at > :since AND job.finished_at IS NULL AND job.cancel_requested_at IS NULL
  AND (job.replayed_at IS NULL OR job.replayed_at < effect.at)

-- name: start_cancelled
-- By an event that came while it was pending.
SELECT effect.event_id FROM event_effect AS effect
JOIN event ON event.id = effect.event_id JOIN start ON start.id = :start_id
WHERE effect.what = 'cancels' AND effect.deployment = start.deployment AND effect.at >= start.created_at
  AND COALESCE(event.user_id, event.source) = start.user_id AND start.parameters @> effect.parameters
LIMIT 1

-- name: effects_of_event
SELECT * FROM event_effect WHERE event_id = :event_id ORDER BY n

-- name: waits_open_for
-- Of an event about no user: those of all whom its sender speaks for.
SELECT * FROM wait
WHERE status = 'open' AND event_name = ANY(:names) AND (
    user_id = ANY(:user_ids)
    OR event_name = ANY(:about_anybody) AND user_id IN (SELECT id FROM "user" WHERE id = :source OR parent_id = :source)
)
  AND (until IS NULL OR until > :now)
ORDER BY created_at, id FOR UPDATE

-- name: wait_insert
WITH opened AS (
    INSERT INTO wait (id, job_id, user_id, name, kind, status, event_name, match, child_job_id, until, created_at)
    VALUES (:id, :job_id, :user_id, :name, :kind, 'open', :event_name, :match, :child_job_id, :until, :now)
    RETURNING *
), told AS (
    INSERT INTO notification (user_id, job_id, event, data, created_at)
    SELECT user_id, job_id, 'wait.opened', jsonb_build_object('wait_id', id, 'name', name, 'kind', kind,
        'event', event_name, 'job_id', child_job_id, 'until', until), :now
    FROM opened
)
SELECT wait.* FROM opened AS wait

-- name: wait_by_name
SELECT * FROM wait WHERE job_id = :job_id AND name = :name

-- name: wait_get
SELECT * FROM wait WHERE id = :wait_id

-- name: wait_lock
SELECT * FROM wait WHERE id = :wait_id FOR UPDATE

-- name: wait_settle
-- Only the first to do so.
UPDATE wait SET status = :status, settled_by = :by, event_id = :event_id, settled_at = :now
WHERE id = :wait_id AND status = 'open'
RETURNING *

-- name: waits_lock
-- In the order in which an event locks them.
SELECT * FROM wait WHERE id = ANY(:ids) ORDER BY created_at, id FOR UPDATE


-- name: waits_pass
-- The event that one of them has taken is there for a later one.
UPDATE wait SET status = 'passed', settled_at = :now, event_id = NULL
WHERE id = ANY(:ids) AND id <> :chosen AND status <> 'passed'


-- name: wait_extend
UPDATE wait SET until = :until WHERE id = :wait_id AND status = 'open' RETURNING *

-- name: waits_of_job
SELECT * FROM wait WHERE job_id = :job_id ORDER BY created_at, id

-- name: waits_of_run
-- What is waited for first, then what was.
SELECT wait.* FROM wait JOIN job ON job.id = wait.job_id
WHERE job.run_id = :run_id
ORDER BY wait.status <> 'open', wait.until NULLS LAST, wait.created_at, wait.id
LIMIT :limit


-- name: waits_outlook
SELECT count(*) AS open, max(wait.until) AS until, COALESCE(bool_or(wait.until IS NULL), false) AS endless
FROM wait JOIN job ON job.id = wait.job_id
WHERE job.run_id = :run_id AND wait.status = 'open'


-- name: waits_come
SELECT wait.id FROM wait LEFT JOIN job AS child ON child.id = wait.child_job_id
WHERE wait.id = ANY(:ids) AND (wait.status <> 'open' OR wait.until <= :now OR child.finished_at IS NOT NULL)

-- name: waits_due
-- Jobs whose run is suspended and that nobody has woken yet; one of each run, which wakes it for all. Not all at once:
-- who asks has slots to hand out, too, and comes again.
SELECT DISTINCT ON (job.run_id) wait.job_id
FROM wait JOIN job ON job.id = wait.job_id JOIN run ON run.id = job.run_id
WHERE wait.status = 'open' AND wait.until <= :now AND job.finished_at IS NULL
  AND run.closed_at IS NULL AND run.left_at IS NOT NULL
LIMIT 500

-- name: waits_end
-- With their job. Returns what they waited for and nobody else does.
UPDATE wait SET status = 'ended', settled_at = :now WHERE job_id = :job_id AND status = 'open' RETURNING child_job_id

-- name: waits_put_back
-- With their job. What failed on it is asked for anew.
UPDATE wait SET status = 'open', settled_at = NULL, settled_by = NULL WHERE job_id = :job_id AND status = 'ended'

-- name: waits_drop_failed
DELETE FROM wait USING job AS child
WHERE wait.job_id = :job_id AND child.id = wait.child_job_id AND child.status IN ('failed', 'cancelled')

-- name: step_get
SELECT * FROM step WHERE job_id = :job_id AND name = :name

-- name: step_begin
INSERT INTO step (job_id, name, attempts, begun_at) VALUES (:job_id, :name, 1, :now)
ON CONFLICT (job_id, name) DO UPDATE SET attempts = step.attempts + 1, begun_at = :now WHERE step.done_at IS NULL
RETURNING *

-- name: step_done
UPDATE step SET result = CAST(:result AS jsonb), error = NULL, done_at = :now
WHERE job_id = :job_id AND name = :name AND done_at IS NULL

-- name: step_failed
UPDATE step SET error = CAST(:error AS jsonb) WHERE job_id = :job_id AND name = :name AND done_at IS NULL

-- name: steps_of_job
SELECT * FROM step WHERE job_id = :job_id ORDER BY begun_at, name

-- name: dead_page
-- Newest failure first. `endpoint`: of the call that failed, where it was one.
-- `OFFSET 0` has each call looked up by its key: the planner would make a join of it.
SELECT job.id, job.parent_id, job.kind, job.user_id, job.status, job.error, job.finished_at, job.discarded_at,
    job.discard_reason, call.endpoint
FROM job
LEFT JOIN LATERAL (SELECT endpoint FROM request WHERE ref = job.error ->> 'ref' LIMIT 1) AS call ON true -- by its key
WHERE job.status = 'failed'
  AND (job.finished_at, job.id) < (CAST(:before_at AS timestamptz), :before_id) -- given: before_at
  AND job.id = ANY(:job_ids) -- given: job_ids
  AND job.user_id = :user_id -- given: user_id
  AND job.kind = :kind -- given: kind
  AND job.error ->> 'class' = :error_class -- given: error_class
  AND job.error ->> 'code' = :code -- given: code
  AND EXISTS (SELECT FROM request WHERE ref = job.error ->> 'ref' AND endpoint = :endpoint OFFSET 0) -- given: endpoint
  AND job.finished_at >= :since -- given: since
  AND job.finished_at < :until -- given: until
  AND job.discarded_at IS NULL -- given: kept
  AND job.discarded_at IS NOT NULL -- given: discarded
ORDER BY job.finished_at DESC, job.id DESC LIMIT :limit

-- name: dead_ids
-- Oldest failure first, batches before their rows: a row that goes back with its batch goes on in its run.
SELECT job.id, job.kind, job.status FROM job
WHERE job.status = 'failed'
  AND job.id = ANY(:job_ids) -- given: job_ids
  AND job.user_id = :user_id -- given: user_id
  AND job.kind = :kind -- given: kind
  AND job.error ->> 'class' = :error_class -- given: error_class
  AND job.error ->> 'code' = :code -- given: code
  AND EXISTS (SELECT FROM request WHERE ref = job.error ->> 'ref' AND endpoint = :endpoint OFFSET 0) -- given: endpoint
  AND job.finished_at >= :since -- given: since
  AND job.finished_at < :until -- given: until
  AND job.discarded_at IS NULL -- given: kept
  AND job.discarded_at IS NOT NULL -- given: discarded
ORDER BY job.kind <> 'render-batch', job.finished_at, job.id LIMIT :limit

-- name: dead_count
SELECT count(*) FROM job
WHERE job.status = 'failed'
  AND job.id = ANY(:job_ids) -- given: job_ids
  AND job.user_id = :user_id -- given: user_id
  AND job.kind = :kind -- given: kind
  AND job.error ->> 'class' = :error_class -- given: error_class
  AND job.error ->> 'code' = :code -- given: code
  AND EXISTS (SELECT FROM request WHERE ref = job.error ->> 'ref' AND endpoint = :endpoint OFFSET 0) -- given: endpoint
  AND job.finished_at >= :since -- given: since
  AND job.finished_at < :until -- given: until
  AND job.discarded_at IS NULL -- given: kept
  AND job.discarded_at IS NOT NULL -- given: discarded

-- name: dead_rows
-- The rows of failed batches that go back with them.
SELECT id, parent_id, status FROM job
WHERE parent_id = ANY(:job_ids) AND discarded_at IS NULL
  AND (status = 'failed' OR status = 'cancelled' AND cancel_requested_at IS NULL)

-- name: dead_calls
-- What a replay is planned by, without what was sent and what came: that is much.
SELECT ref, job_id, step, attempt, endpoint, account_id, lane, status, estimate_usd, cost_usd, reuse_hash,
    CASE WHEN output IS NOT NULL THEN CAST('{}' AS jsonb) END AS output
FROM request WHERE job_id = ANY(:job_ids) ORDER BY created_at, ref

-- name: dead_paid
-- With what came twice and was paid twice; of a batch what its rows have cost.
SELECT part.letter AS job_id, sum(paid.usd + doubly.usd) AS usd
FROM (
    SELECT id AS letter, id AS job_id FROM job WHERE id = ANY(:job_ids)
    UNION ALL SELECT parent_id, id FROM job WHERE parent_id = ANY(:job_ids)
) AS part
CROSS JOIN LATERAL (
    SELECT COALESCE(sum(cost_usd), 0) AS usd FROM request WHERE request.job_id = part.job_id
) AS paid
CROSS JOIN LATERAL (
    SELECT COALESCE(sum(delivery.cost_usd), 0) AS usd
    FROM request JOIN delivery ON delivery.ref = request.ref WHERE request.job_id = part.job_id
) AS doubly
GROUP BY part.letter

-- name: dead_causes
-- Of everybody's failed jobs that are not put away: what they failed of, the most frequent first.
SELECT COALESCE(error ->> 'code', '') AS code, COALESCE(error ->> 'class', '') AS error_class, kind, count(*) AS jobs,
    count(DISTINCT user_id) AS users, min(finished_at) AS first_at, max(finished_at) AS last_at,
    (array_agg(error ->> 'message' ORDER BY finished_at DESC))[1] AS message
FROM job WHERE status = 'failed' AND discarded_at IS NULL
GROUP BY 1, 2, 3 ORDER BY jobs DESC, last_at DESC LIMIT :limit

-- name: dead_discard
-- In one order, so that two who discard the same do not wait for each other.
UPDATE job SET discarded_at = :now, discard_reason = :reason
WHERE id IN (SELECT id FROM job WHERE id = ANY(:job_ids) AND status = 'failed' ORDER BY id FOR NO KEY UPDATE)
  AND status = 'failed'
RETURNING id

-- name: replay_insert
INSERT INTO replay (id, budget_usd, created_at) VALUES (:id, :budget_usd, :now) ON CONFLICT (id) DO NOTHING

-- name: replay_lock
-- NO KEY: a new request's foreign key looks at the row too. No other row is locked by who holds this.
SELECT budget_usd FROM replay WHERE id = :replay_id FOR NO KEY UPDATE

-- name: replay_spent
-- What was paid under it, and what may yet be: a call that was sent and given up may have been.
SELECT COALESCE(sum(
        CASE WHEN billed_usd IS NOT NULL THEN billed_usd WHEN cost_usd IS NOT NULL THEN cost_usd
            WHEN status = 'failed' OR status = 'cancelled' AND submitted_at IS NULL THEN 0
            ELSE estimate_usd END
    ), 0) + (
        SELECT COALESCE(sum(delivery.cost_usd), 0) FROM request AS doubly JOIN delivery ON delivery.ref = doubly.ref
        WHERE doubly.replay_id = :replay_id
    )
FROM request WHERE replay_id = :replay_id

-- name: figures_ordered
-- User by user in the index of their jobs.
SELECT COALESCE(CAST(sum(ordered.n) AS bigint), 0) AS n FROM "user" CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM job
    WHERE user_id = "user".id AND parent_id IS NULL AND created_at >= :begin AND created_at < :end
) AS ordered

-- name: figures_jobs
-- A batch's rows are counted beside it: they are what was made.
SELECT kind, status, count(*) AS n FROM job WHERE finished_at >= :begin AND finished_at < :end
GROUP BY kind, status ORDER BY kind, status

-- name: figures_hours
-- Hours from the beginning of the time; those in which nothing ended, too.
WITH ended AS (
    SELECT date_bin(interval '1 hour', finished_at, CAST(:begin AS timestamptz)) AS hour,
        count(*) FILTER (WHERE status = 'completed') AS completed, count(*) FILTER (WHERE status = 'failed') AS failed
    FROM job WHERE finished_at >= :begin AND finished_at < :end GROUP BY 1
)
SELECT hour, COALESCE(completed, 0) AS completed, COALESCE(failed, 0) AS failed
FROM generate_series(CAST(:begin AS timestamptz), CAST(:end AS timestamptz) - interval '1 second', interval '1 hour') AS hour
LEFT JOIN ended USING (hour)
ORDER BY hour

-- name: figures_failures
SELECT COALESCE(error ->> 'class', '?') AS kind, COALESCE(error ->> 'code', '?') AS code, count(*) AS jobs,
    count(*) FILTER (WHERE discarded_at IS NOT NULL) AS discarded,
    (array_agg(id ORDER BY finished_at DESC, id DESC))[1] AS latest
FROM job WHERE finished_at >= :begin AND finished_at < :end AND status = 'failed'
GROUP BY 1, 2 ORDER BY jobs DESC, 1, 2

-- name: figures_spent
-- By the bill, and by what was reckoned where none has come yet.
SELECT "user".name AS user, request.endpoint, count(*) AS calls,
    sum(COALESCE(request.billed_usd, request.cost_usd)) AS cost_usd,
    sum(COALESCE(round(request.cost_usd * request.markup, 6), 0)) AS price_usd, bool_or(request.markup <> 1) AS marked_up
FROM request JOIN "user" ON "user".id = request.user_id
WHERE request.finished_at >= :begin AND request.finished_at < :end
  AND (COALESCE(request.billed_usd, request.cost_usd) > 0 OR request.cost_usd > 0) -- billed at nothing, it has its price
GROUP BY 1, 2 ORDER BY cost_usd DESC, 1, 2

-- name: figures_duplicates
SELECT count(*) AS n, COALESCE(sum(cost_usd), 0) AS cost_usd FROM delivery
WHERE received_at >= :begin AND received_at < :end AND cost_usd > 0

-- name: figures_perhaps_paid
SELECT count(*) AS n, COALESCE(sum(estimate_usd), 0) AS estimate_usd FROM perhaps_paid
WHERE finished_at >= :begin AND finished_at < :end

-- name: figures_reused
-- Calls that were answered by one that was paid before, and what that had cost.
SELECT count(*) AS n, COALESCE(sum(COALESCE(paid.billed_usd, paid.cost_usd)), 0) AS cost_usd
FROM request CROSS JOIN LATERAL ( -- each by its key
    SELECT billed_usd, cost_usd FROM request AS earlier WHERE ref = request.reused_from LIMIT 1
) AS paid
WHERE request.finished_at >= :begin AND request.finished_at < :end AND request.reused_from IS NOT NULL

-- name: figures_latency
SELECT endpoint, count(*) AS calls, percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS median_seconds,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) AS p95_seconds
FROM (
    SELECT endpoint, extract(epoch FROM finished_at - submitted_at) AS seconds FROM request
    WHERE finished_at >= :begin AND finished_at < :end AND status = 'succeeded' AND reused_from IS NULL
      AND submitted_at IS NOT NULL
) AS call
GROUP BY endpoint ORDER BY calls DESC, endpoint

-- name: figures_slots
-- Of each account that had a call: the seconds that calls held its slots within the time, and the most at once. A slot
-- that is given back and granted at the same moment was held by one at a time.
WITH held AS (
    SELECT account_id, GREATEST(granted_at, :begin) AS since, LEAST(COALESCE(finished_at, :end), :end) AS until
    FROM request
    WHERE granted_at < :end AND finished_at > :begin
    UNION ALL
    SELECT account_id, GREATEST(granted_at, :begin), :end FROM request
    WHERE granted_at < :end AND status IN ('granted', 'submitting', 'in_flight', 'unknown')
), moments AS (
    SELECT account_id, since AS at, 1 AS change FROM held UNION ALL SELECT account_id, until, -1 FROM held
), at_once AS (
    SELECT account_id, sum(change) OVER (PARTITION BY account_id ORDER BY at, change ROWS UNBOUNDED PRECEDING) AS n
    FROM moments
)
SELECT account.id AS account, account.slots,
    (SELECT sum(extract(epoch FROM until - since)) FROM held WHERE held.account_id = account.id) AS held_seconds,
    (SELECT max(n) FROM at_once WHERE at_once.account_id = account.id) AS most
FROM account WHERE account.id IN (SELECT account_id FROM held) ORDER BY account.id

-- name: control_get
SELECT deployment, terms FROM flow_control WHERE deployment = ANY(:deployments)

-- name: control_put
INSERT INTO flow_control (deployment, terms) VALUES (:deployment, CAST(:terms AS jsonb))
ON CONFLICT (deployment) DO UPDATE SET terms = excluded.terms

-- name: control_lock
SELECT terms FROM flow_control WHERE deployment = :deployment FOR UPDATE

-- name: starts_full
-- Of these users the ones of whose starts as many are held as their plan lets wait.
SELECT "user".id FROM "user" JOIN plan ON plan.name = "user".plan
WHERE "user".id = ANY(:user_ids) AND (plan.most_queued = 0 OR EXISTS (
    SELECT FROM start WHERE start.user_id = "user".id AND start.status IN ('gathering', 'waiting')
    OFFSET greatest(plan.most_queued - 1, 0) LIMIT 1
))

-- name: starts_gather
-- Those that gather under these keys, locked, in one order for all; new ones where there are none.
-- The update changes nothing: it locks those that are there, and returns them.
INSERT INTO start (
    id, deployment, user_id, status, gather_key, takes_all, rate_key, throttle_key, singleton_key, concurrency_key,
    gate_key, priority, parameters, events, bytes, created_at, ranked_at)
SELECT id, deployment, user_id, 'gathering', gather_key, takes_all, rate_key, throttle_key, singleton_key,
    concurrency_key, gate_key, priority, '{}', 0, 0, :now, :now
FROM jsonb_to_recordset(CAST(:starts AS jsonb)) AS given (
    id text, deployment text, user_id text, gather_key text, takes_all boolean, rate_key text, throttle_key text,
    singleton_key text, concurrency_key text, gate_key text, priority integer
)
ORDER BY deployment, user_id, gather_key
ON CONFLICT (deployment, user_id, gather_key) WHERE status = 'gathering' DO UPDATE SET events = start.events
RETURNING *

-- name: starts_write
UPDATE start SET status = given.status, takes_all = given.takes_all, rate_key = given.rate_key,
    throttle_key = given.throttle_key, singleton_key = given.singleton_key, concurrency_key = given.concurrency_key,
    gate_key = given.gate_key, priority = given.priority, parameters = given.parameters, events = given.events,
    bytes = given.bytes, ranked_at = given.ranked_at, due_at = given.due_at
FROM jsonb_to_recordset(CAST(:starts AS jsonb)) AS given (
    id text, status text, takes_all boolean, rate_key text, throttle_key text, singleton_key text,
    concurrency_key text, gate_key text, priority integer, parameters jsonb, events integer, bytes integer,
    ranked_at timestamptz, due_at timestamptz
)
WHERE start.id = given.id

-- name: starts_insert
INSERT INTO start (
    id, deployment, user_id, status, gather_key, takes_all, rate_key, throttle_key, singleton_key, concurrency_key,
    gate_key, priority, parameters, events, bytes, created_at, ranked_at, due_at)
SELECT id, deployment, user_id, status, gather_key, takes_all, rate_key, throttle_key, singleton_key, concurrency_key,
    gate_key, priority, parameters, events, bytes, :now, ranked_at, due_at
FROM jsonb_to_recordset(CAST(:starts AS jsonb)) AS given (
    id text, deployment text, user_id text, status text, gather_key text, takes_all boolean, rate_key text,
    throttle_key text, singleton_key text, concurrency_key text, gate_key text, priority integer, parameters jsonb,
    events integer, bytes integer, ranked_at timestamptz, due_at timestamptz
)

-- name: starts_release
-- What has gathered for long enough. One that an event is just joining is left to the next time.
UPDATE start SET status = 'waiting', due_at = NULL
WHERE id = ANY(ARRAY(
    SELECT id FROM start WHERE status = 'gathering' AND due_at <= :now ORDER BY due_at LIMIT 500 FOR UPDATE SKIP LOCKED
))
RETURNING deployment

-- name: starts_release_now
UPDATE start SET status = 'waiting', due_at = NULL WHERE id = ANY(:ids) AND status = 'gathering' RETURNING deployment

-- name: starts_drop
UPDATE start SET status = 'dropped', reason = :reason, settled_at = :now, due_at = NULL
WHERE deployment = :deployment AND status IN ('gathering', 'waiting')
  AND (CAST(:ids AS text[]) IS NULL OR id = ANY(:ids)) AND (CAST(:user_id AS text) IS NULL OR user_id = :user_id)
RETURNING id

-- name: starts_due
-- Deployments of which a start has waited for a time that has come, or (`all`) of which any waits.
SELECT DISTINCT deployment FROM start
WHERE status = 'waiting' AND (due_at <= :now OR CAST(:all AS boolean) AND due_at IS NULL)

-- name: starts_next_due
SELECT min(due_at) FROM start WHERE status IN ('gathering', 'waiting') AND due_at > :after

-- name: starts_waiting
-- The first ones of each line but for those whose first has a time to wait for.
SELECT * FROM (
    SELECT start.*, row_number() OVER line AS place, first_value(due_at) OVER line AS first_due
    FROM start WHERE deployment = :deployment AND status = 'waiting'
    WINDOW line AS (PARTITION BY gate_key ORDER BY ranked_at, id)
) AS waiting
WHERE place <= 100 AND (first_due IS NULL OR first_due <= :now)
ORDER BY place, ranked_at, id LIMIT 2000

-- name: starts_running
SELECT job.id AS job_id, start.singleton_key, start.concurrency_key, job.cancel_requested_at IS NOT NULL AS cancelling
FROM job JOIN start ON start.id = job.start_id
WHERE job.start_id IS NOT NULL AND job.finished_at IS NULL AND start.deployment = :deployment

-- name: starts_begun
SELECT of_key.key, begun.settled_at FROM unnest(CAST(:keys AS text[])) AS of_key (key)
CROSS JOIN LATERAL (
    SELECT settled_at FROM start
    WHERE deployment = :deployment AND status = 'begun' AND rate_key = of_key.key AND settled_at > :since
    ORDER BY settled_at DESC LIMIT :most
) AS begun

-- name: starts_paced
SELECT of_key.key, paced.paced_until FROM unnest(CAST(:keys AS text[])) AS of_key (key)
CROSS JOIN LATERAL (
    SELECT paced_until FROM start
    WHERE deployment = :deployment AND status = 'begun' AND throttle_key = of_key.key AND paced_until IS NOT NULL
    ORDER BY paced_until DESC LIMIT 1
) AS paced

-- name: start_parts
SELECT parameters FROM event_effect WHERE start_id = :start_id AND parameters IS NOT NULL ORDER BY start_n

-- name: start_depth
SELECT COALESCE(max(event.depth), 0) FROM event_effect AS effect JOIN event ON event.id = effect.event_id
WHERE effect.start_id = :start_id

-- name: start_begin
UPDATE start SET status = 'begun', job_id = :job_id, paced_until = CAST(:paced_until AS timestamptz),
    settled_at = :now, due_at = NULL, reason = NULL
WHERE id = :start_id

-- name: start_drop
UPDATE start SET status = 'dropped', reason = :reason, settled_at = :now, due_at = NULL WHERE id = :start_id

-- name: start_hold
UPDATE start SET reason = :reason, due_at = CAST(:until AS timestamptz)
WHERE id = :start_id AND (reason, due_at) IS DISTINCT FROM (:reason, CAST(:until AS timestamptz))

-- name: starts_get
SELECT * FROM start WHERE id = ANY(:ids)

-- name: starts_page
-- Newest first.
SELECT * FROM start
WHERE user_id = :user_id
  AND deployment = :deployment -- given: deployment
  AND status = :status -- given: status
  AND (created_at, id) < (CAST(:before_at AS timestamptz), :before_id) -- given: before_at
ORDER BY created_at DESC, id DESC LIMIT :limit

-- name: starts_page_of_all
-- Newest first: an id begins with its time.
SELECT * FROM start
WHERE true
  AND deployment = :deployment -- given: deployment
  AND status = :status -- given: status
ORDER BY id DESC LIMIT :limit

-- name: bills_due
-- Calls that have ended and whose bill is to be asked for, the one that waits longest first.
SELECT ref, request_id, created_at, finished_at, billed_usd, cost_usd, status = 'succeeded' OR cost_usd > 0 AS is_paid
FROM request
WHERE account_id = :account_id AND finished_at IS NOT NULL AND request_id IS NOT NULL AND NOT bill_closed
  AND COALESCE(bill_due_at, finished_at) > :oldest AND COALESCE(bill_due_at, finished_at) <= :before
ORDER BY COALESCE(bill_due_at, finished_at) LIMIT :limit

-- name: bills_keep
-- The sum of all that was billed for a call, whatever was on record before. One that has no bill yet keeps having none.
UPDATE request SET billed_usd = COALESCE(given.billed_usd, request.billed_usd),
    billed_source = COALESCE(given.source, request.billed_source),
    billed_at = CASE WHEN given.billed_usd IS NULL THEN request.billed_at ELSE CAST(:now AS timestamptz) END,
    bill_due_at = given.due_at, bill_closed = given.due_at IS NULL
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS given (ref text, billed_usd numeric, source text, due_at timestamptz)
WHERE request.ref = given.ref

-- name: bills_drift
-- By model what was billed and what was reckoned, of calls of which both are known: user by user in the index.
-- `OFFSET 0` keeps it so: the planner would make a join of it.
SELECT call.endpoint, count(*) AS calls, sum(call.cost_usd) AS cost_usd, sum(call.billed_usd) AS billed_usd
FROM "user" CROSS JOIN LATERAL (
    SELECT endpoint, cost_usd, billed_usd FROM request
    WHERE user_id = "user".id AND (cost_usd IS NOT NULL OR billed_usd IS NOT NULL)
      AND finished_at >= :begin AND finished_at < :end
      AND account_id = :account_id AND cost_usd IS NOT NULL AND billed_usd IS NOT NULL
    OFFSET 0
) AS call
GROUP BY call.endpoint ORDER BY call.endpoint

-- name: money_get
SELECT * FROM account_money WHERE account_id = :account_id

-- name: money_bills_waited
INSERT INTO account_money (account_id, bills_due_at, bills_failed)
SELECT id, CAST(:due_at AS timestamptz), :failed FROM account WHERE id = :account_id
ON CONFLICT (account_id) DO UPDATE SET bills_due_at = excluded.bills_due_at, bills_failed = excluded.bills_failed

-- name: money_balance
-- None where it could not be read: what was read before stays.
INSERT INTO account_money (account_id, balance_usd, balance_at, balance_due_at, bills_failed)
SELECT id, CAST(:balance_usd AS numeric), CAST(:at AS timestamptz), CAST(:due_at AS timestamptz), 0
FROM account WHERE id = :account_id
ON CONFLICT (account_id) DO UPDATE SET balance_due_at = excluded.balance_due_at,
    balance_usd = COALESCE(excluded.balance_usd, account_money.balance_usd),
    balance_at = COALESCE(excluded.balance_at, account_money.balance_at)

-- name: money_told
UPDATE account_money SET balance_told_at = CAST(:at AS timestamptz) WHERE account_id = :account_id

-- name: money_stopped
UPDATE account_money SET stopped_at = CAST(:at AS timestamptz) WHERE account_id = :account_id

-- name: money_drift_told
INSERT INTO account_money (account_id, drift_told_on, bills_failed)
SELECT id, CAST(:day AS date), 0 FROM account WHERE id = :account_id
ON CONFLICT (account_id) DO UPDATE SET drift_told_on = excluded.drift_told_on

-- name: account_stop
-- As the breaker, but no probe goes before that time: it would be paid.
UPDATE account SET down_since = COALESCE(down_since, :now), probe_at = :until, down_reason = :reason,
    down_notified_at = CASE WHEN down_reason IS NOT NULL THEN down_notified_at END
WHERE id = :account_id

-- name: spending
-- What calls that ended in the time came to: user by user in the index, so that what is older is not read. A result that
-- was paid twice belongs to the time in which it came. `saved_usd`: what the answers had cost that served again. Of a
-- job with several tags each tag has the whole; a batch's rows have the tags of their batch. `drafts_saved_usd`: as
-- batches have told at their ends; its model is that of the finals, or of the drafts where there were none.
-- What may have been paid is in no other sum: nobody knows.
-- `OFFSET 0` keeps it user by user: the planner would make a join of it.
WITH spender AS (
    SELECT id, name FROM "user"
    WHERE CAST(:user_id AS text) IS NULL OR id = CAST(:user_id AS text) OR parent_id = CAST(:user_id AS text)
), line AS (
    SELECT spender.id AS user_id, spender.name, call.job_id, call.endpoint, call.at, call.calls, call.estimate_usd,
        call.cost_usd, call.price_usd, call.billed_usd, call.spent_usd, call.unbilled,
        COALESCE(CASE WHEN call.reused_from IS NOT NULL THEN
            (SELECT COALESCE(billed_usd, cost_usd) FROM request WHERE ref = call.reused_from)
        END, 0) AS saved_usd, CAST(0 AS numeric) AS duplicates_usd, CAST(0 AS numeric) AS drafts_saved_usd,
        CAST(0 AS numeric) AS perhaps_paid_usd
    FROM spender CROSS JOIN LATERAL (
        SELECT job_id, endpoint, finished_at AS at, reused_from,
            CASE WHEN reused_from IS NULL THEN 1 ELSE 0 END AS calls,
            CASE WHEN reused_from IS NULL THEN estimate_usd ELSE 0 END AS estimate_usd,
            COALESCE(cost_usd, 0) AS cost_usd, COALESCE(round(cost_usd * markup, 6), 0) AS price_usd,
            COALESCE(billed_usd, 0) AS billed_usd,
            COALESCE(billed_usd, cost_usd) AS spent_usd,
            CASE WHEN billed_usd IS NULL AND cost_usd > 0 THEN 1 ELSE 0 END AS unbilled
        FROM request
        WHERE user_id = spender.id AND (cost_usd IS NOT NULL OR billed_usd IS NOT NULL)
          AND finished_at >= :begin AND finished_at < :end
        OFFSET 0
    ) AS call
    UNION ALL
    SELECT spender.id, spender.name, request.job_id, request.endpoint, delivery.received_at, 0, 0, 0, 0, 0,
        delivery.cost_usd, 0, 0, delivery.cost_usd, 0, 0
    FROM delivery CROSS JOIN LATERAL (SELECT * FROM request WHERE ref = delivery.ref LIMIT 1) AS request
    JOIN spender ON spender.id = request.user_id
    WHERE delivery.cost_usd > 0 AND delivery.received_at >= :begin AND delivery.received_at < :end
    UNION ALL
    SELECT spender.id, spender.name, batch.id, own.endpoint, batch.finished_at, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        CAST(batch.result ->> 'saved_usd' AS numeric), 0
    FROM spender JOIN job AS batch ON batch.user_id = spender.id
    LEFT JOIN LATERAL (
        SELECT request.endpoint FROM job AS child JOIN request ON request.job_id = child.id
        WHERE child.parent_id = batch.id AND :group_by = 'model'
        ORDER BY child.stage DESC, child.manifest_row DESC LIMIT 1
    ) AS own ON true
    WHERE batch.parent_id IS NULL AND batch.kind = 'render-batch'
      AND batch.finished_at >= :begin AND batch.finished_at < :end AND batch.result ->> 'saved_usd' IS NOT NULL
    UNION ALL
    SELECT spender.id, spender.name, request.job_id, request.endpoint, unseen.finished_at, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        unseen.estimate_usd
    FROM perhaps_paid AS unseen CROSS JOIN LATERAL (SELECT * FROM request WHERE ref = unseen.ref LIMIT 1) AS request
    JOIN spender ON spender.id = unseen.user_id
    WHERE unseen.finished_at >= :begin AND unseen.finished_at < :end
)
SELECT grouped.key, CASE WHEN :group_by = 'user' THEN min(line.name) END AS name, CAST(sum(calls) AS bigint) AS calls,
    sum(estimate_usd) AS estimate_usd, sum(cost_usd) AS cost_usd, sum(price_usd) AS price_usd,
    sum(billed_usd) AS billed_usd,
    CAST(sum(unbilled) AS bigint) AS unbilled_calls, sum(saved_usd) AS saved_usd,
    sum(drafts_saved_usd) AS drafts_saved_usd, sum(duplicates_usd) AS duplicates_usd, sum(spent_usd) AS spent_usd,
    sum(perhaps_paid_usd) AS perhaps_paid_usd
FROM line CROSS JOIN LATERAL (
    SELECT CASE CAST(:group_by AS text) WHEN 'model' THEN line.endpoint WHEN 'user' THEN line.user_id
        WHEN 'day' THEN to_char(line.at AT TIME ZONE 'UTC', 'YYYY-MM-DD') END AS key
    WHERE :group_by <> 'tag'
    UNION ALL
    SELECT unnest(CASE WHEN cardinality(own.tags) > 0 THEN own.tags ELSE ARRAY[CAST(NULL AS text)] END)
    FROM (
        SELECT CASE WHEN cardinality(job.tags) > 0 THEN job.tags ELSE parent.tags END AS tags
        FROM job LEFT JOIN job AS parent ON parent.id = job.parent_id WHERE job.id = line.job_id LIMIT 1
    ) AS own
    WHERE :group_by = 'tag'
) AS grouped
GROUP BY grouped.key ORDER BY grouped.key NULLS LAST

-- name: events_forget
-- With what they did. One that Prefect is not told of yet, that a wait took, or that a pending run is made of stays.
WITH old AS (
    SELECT id FROM event
    WHERE received_at < :before AND (told_at IS NOT NULL OR status = 'refused')
      AND NOT EXISTS (SELECT FROM wait WHERE wait.event_id = event.id)
      AND NOT EXISTS (
          SELECT FROM event_effect AS effect JOIN start ON start.id = effect.start_id
          WHERE effect.event_id = event.id AND start.status IN ('gathering', 'waiting')
      )
    ORDER BY received_at LIMIT :most FOR UPDATE SKIP LOCKED
), effects AS (
    DELETE FROM event_effect WHERE event_id = ANY(ARRAY(SELECT id FROM old))
)
DELETE FROM event WHERE id = ANY(ARRAY(SELECT id FROM old)) -- a list is looked up by the index, however long it may be

-- name: starts_forget
DELETE FROM start WHERE id = ANY(ARRAY(
    SELECT id FROM start
    WHERE settled_at < :before AND status IN ('begun', 'dropped')
      AND NOT EXISTS (SELECT FROM event_effect WHERE start_id = start.id)
      AND NOT EXISTS (SELECT FROM job WHERE id = start.job_id AND finished_at IS NULL)
    ORDER BY settled_at LIMIT :most FOR UPDATE SKIP LOCKED
))

-- name: turn_due
-- What a turn of reconcile would find, as far as the ledger alone can say. Of runs and calls whether there are any to be
-- decided about. Bills and what is old can wait for a turn that comes anyway, unless such turns do not keep up.
-- Each by the first entry of its index: of rows that merely exist, one might be looked for from the table's beginning.
SELECT (
        (SELECT true FROM run WHERE closed_at IS NULL ORDER BY created_at LIMIT 1) IS NOT NULL
        OR (SELECT true FROM run WHERE closed_at > :closed_since ORDER BY closed_at LIMIT 1) IS NOT NULL
        OR (SELECT true FROM job WHERE run_id IS NOT NULL AND finished_at IS NULL ORDER BY run_id LIMIT 1) IS NOT NULL
    ) AS runs,
    EXISTS (SELECT FROM request WHERE status IN ('granted', 'submitting', 'in_flight', 'unknown')) AS calls,
    (
        (
            SELECT true FROM delivery CROSS JOIN LATERAL (
                SELECT FROM request WHERE ref = delivery.ref AND output IS NULL AND request_id IS NOT NULL LIMIT 1
            ) AS unseen
            WHERE delivery.verdict = 'late' AND delivery.received_at > :unseen_since
            ORDER BY delivery.received_at LIMIT 1
        ) IS NOT NULL
        OR (
            SELECT true FROM request
            CROSS JOIN LATERAL (SELECT FROM job WHERE id = request.job_id AND finished_at IS NOT NULL LIMIT 1) AS ended
            WHERE request.status = 'succeeded' AND request.output IS NULL AND request.finished_at > :unseen_since
              AND request.request_id IS NOT NULL
            ORDER BY request.finished_at LIMIT 1
        ) IS NOT NULL
    ) AS paid_unseen,
    EXISTS (
        SELECT FROM request
        CROSS JOIN LATERAL (
            SELECT FROM job WHERE id = request.job_id AND run_id IS NULL AND finished_at IS NULL LIMIT 1
        ) AS unassigned
        WHERE request.status IN ('granted', 'submitting', 'in_flight', 'unknown')
    ) OR EXISTS (SELECT FROM job WHERE slotless AND run_id IS NULL AND finished_at IS NULL) AS unassigned,
    (
        (SELECT true FROM start WHERE status = 'gathering' AND due_at <= :now ORDER BY due_at LIMIT 1) IS NOT NULL
        OR EXISTS (SELECT FROM start WHERE status = 'waiting' AND (due_at IS NULL OR due_at <= :now))
    ) AS pending_runs,
    (
        SELECT true FROM request WHERE status = 'queued' AND (not_before IS NULL OR not_before <= :now)
        ORDER BY user_id, lane, created_at, ref LIMIT 1
    ) IS NOT NULL AS queued,
    (SELECT true FROM notification WHERE to_ingest ORDER BY id LIMIT 1) IS NOT NULL AS ends,
    (
        SELECT true FROM event_effect AS effect CROSS JOIN LATERAL (
            SELECT FROM job
            WHERE id = effect.job_id AND finished_at IS NULL AND cancel_requested_at IS NULL
              AND (replayed_at IS NULL OR replayed_at < effect.at)
            LIMIT 1
        ) AS undone
        WHERE effect.what = 'cancelled' AND effect.at > :cancelled_since
        ORDER BY effect.at LIMIT 1
    ) IS NOT NULL AS cancels,
    (
        SELECT true FROM event WHERE told_at IS NULL AND status = 'accepted' AND received_at < :untold_before
        ORDER BY received_at LIMIT 1
    ) IS NOT NULL AS events,
    EXISTS (
        SELECT FROM unnest(CAST(:billing AS text[])) AS billing (account_id)
        LEFT JOIN account_money AS money ON money.account_id = billing.account_id
        LEFT JOIN LATERAL (
            SELECT true AS is_there FROM request
            WHERE request.account_id = billing.account_id AND finished_at IS NOT NULL AND request_id IS NOT NULL
              AND NOT bill_closed AND COALESCE(bill_due_at, finished_at) > :bills_since
              AND COALESCE(bill_due_at, finished_at) <= :bills_before
            ORDER BY COALESCE(bill_due_at, finished_at) LIMIT 1
        ) AS unbilled ON true
        WHERE money.balance_due_at IS NULL OR money.balance_due_at <= :now
           OR unbilled.is_there AND (money.bills_due_at IS NULL OR money.bills_due_at <= :now)
           OR money.drift_told_on IS NULL AND CAST(:drift_day AS date) IS NOT NULL OR money.drift_told_on < :drift_day
    ) AS money,
    (
        (SELECT true FROM notification WHERE created_at < :old_news ORDER BY created_at LIMIT 1) IS NOT NULL
        OR (
            SELECT true FROM callback WHERE created_at < :old_news AND status <> 'pending' ORDER BY created_at LIMIT 1
        ) IS NOT NULL
        OR (
            SELECT true FROM event
            WHERE received_at < :old_events AND (told_at IS NOT NULL OR status = 'refused')
              AND NOT EXISTS (SELECT FROM wait WHERE wait.event_id = event.id)
              AND NOT EXISTS (
                  SELECT FROM event_effect AS effect JOIN start ON start.id = effect.start_id
                  WHERE effect.event_id = event.id AND start.status IN ('gathering', 'waiting')
              )
            ORDER BY received_at LIMIT 1
        ) IS NOT NULL
        OR (
            SELECT true FROM start
            WHERE settled_at < :old_events AND status IN ('begun', 'dropped')
              AND NOT EXISTS (SELECT FROM event_effect WHERE start_id = start.id)
              AND NOT EXISTS (SELECT FROM job WHERE id = start.job_id AND finished_at IS NULL)
            ORDER BY settled_at LIMIT 1
        ) IS NOT NULL
    ) AS old,
    EXISTS (
        SELECT FROM account WHERE down_since IS NOT NULL AND down_reason IS NOT NULL AND down_notified_at IS NULL
    ) AS accounts,
    EXISTS (SELECT FROM callback_endpoint WHERE off_at IS NOT NULL AND off_told_at IS NULL) AS endpoints

-- name: try_room
-- 128 KiB, which take a file of their own; gone at the end of the transaction.
CREATE TEMPORARY TABLE room ON COMMIT DROP AS SELECT repeat(md5(number::text), 32) FROM generate_series(1, 128) number
