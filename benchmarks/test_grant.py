"""What a grant costs as the backlog grows: a ratio of two backlogs, measured side by side in one run."""

from __future__ import annotations

import time
from contextlib import closing
from statistics import median

import psycopg
from ledger_databases import Databases

from darkroom.ledger import Ledger

BACKLOG = """
    INSERT INTO "user" (id, name, plan, notified, created_at)
    SELECT 'u' || n, 'user ' || n, 'pro', 0, now() FROM generate_series(1, %(users)s) AS n;
    INSERT INTO job (id, user_id, kind, status, parameters, created_at)
    SELECT 'j' || n, 'u' || 1 + n %% %(users)s, 'generate-image', 'pending', '{}', now()
    FROM generate_series(1, %(rows)s) AS n;
    INSERT INTO request (ref, job_id, user_id, account_id, step, attempt, endpoint, input, input_hash, lane, status,
                         token, estimate_usd, created_at)
    SELECT 'r' || n, 'j' || n, 'u' || 1 + n %% %(users)s, 'fal', 'generate', 1, 'fal-ai/flux/dev', '{}', '', 1,
           'queued', md5(n::text), 0.025, now() + n * interval '1 ms'
    FROM generate_series(1, %(rows)s) AS n;
    INSERT INTO job (id, user_id, kind, status, parameters, created_at, finished_at)
    SELECT 'done' || n, 'u' || 1 + n %% %(users)s, 'generate-image', 'completed', '{}', now(), now()
    FROM generate_series(1, %(rows)s) AS n;
    INSERT INTO request (ref, job_id, user_id, account_id, step, attempt, endpoint, input, input_hash, lane, status,
                         token, estimate_usd, cost_usd, created_at, finished_at)
    SELECT 'rdone' || n, 'done' || n, 'u' || 1 + n %% %(users)s, 'fal', 'generate', 1, 'fal-ai/flux/dev', '{}', '', 1,
           'succeeded', md5('done' || n), 0.025, 0.025, now(), now()
    FROM generate_series(1, %(rows)s) AS n;
"""
GIVE_BACK = "UPDATE request SET status = 'queued', granted_at = NULL WHERE status = 'granted'"
ROUNDS = 15


def _seconds_per_grant(url: str, *, users: int, rows: int) -> float:
    """The median over rounds of ten slots each, every time from the same backlog."""
    with psycopg.connect(url, autocommit=True) as connection, closing(Ledger(url)) as ledger:
        with connection.cursor(binary=False) as cursor:
            for statement in BACKLOG.split(";")[:-1]:
                cursor.execute(statement, {"users": users, "rows": rows})
        connection.execute("VACUUM ANALYZE")
        return median(_one(ledger, connection) for _ in range(ROUNDS))


def _one(ledger: Ledger, connection: psycopg.Connection) -> float:
    started = time.perf_counter()
    granted = ledger.grants.grant()
    seconds = time.perf_counter() - started
    assert len(granted) == 10
    connection.execute(GIVE_BACK)
    return seconds


def test_a_backlog_a_hundred_times_as_large_costs_a_grant_less_than_twenty_times_as_much(databases: Databases) -> None:
    """1,000 queued rows of 10 users against 100,000 of 1,000: reading the backlog itself would cost a hundred times."""
    with databases.fresh() as small, databases.fresh() as large:
        few = _seconds_per_grant(small, users=10, rows=1_000)
        many = _seconds_per_grant(large, users=1_000, rows=100_000)
    figures = f"{few * 1000:.1f} ms at 1,000 queued, {many * 1000:.1f} ms at 100,000: {many / few:.1f} times"
    print(f"\na grant of 10 slots: {figures}")
    assert many < 20 * few
