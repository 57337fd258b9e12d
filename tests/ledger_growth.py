"""A ledger of many ended jobs, filled by SQL, and what is asked of a ledger, one by one: to see what grows with it.

A thousand jobs a day, back from now, so a larger ledger is an older one, and what is open stays as much. Half are one
user's. What is rare is rare among hundreds: a kind, a tag, failures (most of them put away), refused events. Of that a
page is as short as ten thousand jobs fill it: in a larger ledger a longer one would not be slower, but more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import psycopg
from sqlalchemy import text

from darkroom.ledger import EventStatus, JobStatus, Ledger, RequestSpec, Search
from darkroom.ledger.dead_letters import DeadLetterFilter
from darkroom.ledger.statuses import PendingStatus

USERS = 20
OPEN = 200  # jobs, each with a call that waits
FILL = """
    CREATE TEMPORARY TABLE ended AS
    SELECT n, lpad(to_hex(10000000 - n), 12, '0') AS id,
        CASE WHEN n % 2 = 0 THEN 'u1' ELSE 'u' || 1 + n % 20 END AS user_id,
        now() - n * interval '86.4 s' AS at,
        CASE WHEN n % 100 = 7 THEN 'failed' WHEN n % 1000 = 8 THEN 'cancelled' ELSE 'completed' END AS status,
        CASE WHEN n % 4000 = 10 THEN 'train-lora' ELSE 'generate-image' END AS kind,
        CASE WHEN n % 1000 = 12 THEN ARRAY['spring'] WHEN n <= 20 THEN ARRAY['autumn'] ELSE '{}' END AS tags
    FROM generate_series(1, %(jobs)s) AS n;
    INSERT INTO "user" (id, name, plan, notified, created_at)
    SELECT 'u' || n, 'user ' || n, 'studio', 0, now() FROM generate_series(1, 20) AS n;
    INSERT INTO run (id, user_id, kind, shared, created_at, closed_at)
    SELECT 'run' || id, user_id, kind, true, at, at FROM ended WHERE n % 10 = 0 ORDER BY n DESC;
    INSERT INTO job (id, user_id, kind, status, run_id, parameters, tags, error, created_at, started_at, finished_at,
        discarded_at)
    SELECT 'job' || id, user_id, kind, status, CASE WHEN n % 10 = 0 THEN 'run' || id END,
        jsonb_build_object('prompt', CASE WHEN n <= 20 THEN 'a heron ' ELSE 'a fox in the snow ' END || n), tags,
        CASE WHEN status = 'failed' THEN jsonb_build_object('class', 'Permanent', 'code', 'content_policy', 'ref',
            'req' || id) END,
        at, at, at + interval '5 s', CASE WHEN status = 'failed' AND n > 5000 THEN at END
    FROM ended ORDER BY n DESC;
    INSERT INTO request (ref, job_id, user_id, account_id, step, attempt, endpoint, input, input_hash, lane, status,
        token, request_id, estimate_usd, cost_usd, bill_closed, created_at, granted_at, submitted_at, finished_at,
        output)
    SELECT 'req' || id, 'job' || id, user_id, 'fal', 'generate', 1, 'fal-ai/flux/dev', '{}', '', 1,
        CASE status WHEN 'completed' THEN 'succeeded' ELSE status END, md5(id), 'provider' || id, 0.025,
        CASE WHEN status = 'completed' THEN 0.025 END, true, at, at, at, at + interval '4 s', '{}'
    FROM ended ORDER BY n DESC;
    INSERT INTO event (id, source, key, user_id, name, status, occurred_at, received_at, told_at)
    SELECT 'evt' || id, CASE WHEN n % 1000 = 14 THEN 'u2' ELSE 'u1' END, id,
        CASE WHEN n % 1000 = 14 THEN 'u3' WHEN n % 3 = 0 THEN NULL ELSE 'u1' END, 'user.did',
        CASE WHEN n % 1000 = 16 THEN 'refused' ELSE 'accepted' END, at, at, at
    FROM ended ORDER BY n DESC;
    INSERT INTO event_effect (event_id, n, what, deployment, at)
    SELECT 'evt' || id, 0, 'started', 'sync-profile/debounced', at FROM ended ORDER BY n DESC;
    INSERT INTO start (id, deployment, user_id, status, takes_all, priority, gate_key, parameters, events, bytes,
        created_at, ranked_at, settled_at)
    SELECT 'sta' || id, CASE WHEN n % 1000 = 18 THEN 'onboard-user/on-demand' ELSE 'sync-profile/debounced' END,
        user_id, CASE WHEN n % 1000 = 20 THEN 'dropped' ELSE 'begun' END, false, 0, '', '{}', 1, 2, at, at, at
    FROM ended ORDER BY n DESC;
    INSERT INTO job (id, user_id, kind, status, parameters, created_at)
    SELECT 'open' || n, 'u' || 1 + n % 20, 'generate-image', 'pending', '{"prompt": "a fox"}', now()
    FROM generate_series(1, %(open)s) AS n;
    INSERT INTO request (ref, job_id, user_id, account_id, step, attempt, endpoint, input, input_hash, lane, status,
        token, estimate_usd, created_at)
    SELECT 'waits' || n, 'open' || n, 'u' || 1 + n % 20, 'fal', 'generate', 1, 'fal-ai/flux/dev', '{}', '', 1, 'queued',
        md5('waits' || n), 0.025, now()
    FROM generate_series(1, %(open)s) AS n;
    DROP TABLE ended
"""

BACKLOG = """
    INSERT INTO "user" (id, name, plan, notified, created_at)
    SELECT 'u' || n, 'user ' || n, 'pro', 0, now() FROM generate_series(1, {users}) AS n;
    INSERT INTO job (id, user_id, kind, status, parameters, created_at)
    SELECT 'j' || n, 'u' || 1 + n % {users}, 'generate-image', 'pending', '{{}}', now()
    FROM generate_series(1, {rows}) AS n;
    INSERT INTO request (ref, job_id, user_id, account_id, step, attempt, endpoint, input, input_hash, lane, status,
                         token, estimate_usd, created_at)
    SELECT 'r' || n, 'j' || n, 'u' || 1 + n % {users}, 'fal', 'generate', 1, 'fal-ai/flux/dev', '{{}}', '', 1,
           'queued', md5(n::text), 0.025, now() + n * interval '1 ms'
    FROM generate_series(1, {rows}) AS n;
    INSERT INTO job (id, user_id, kind, status, parameters, created_at, finished_at)
    SELECT 'done' || n, 'u' || 1 + n % {users}, 'generate-image', 'completed', '{{}}', now(), now()
    FROM generate_series(1, {rows}) AS n;
    INSERT INTO request (ref, job_id, user_id, account_id, step, attempt, endpoint, input, input_hash, lane, status,
                         token, estimate_usd, cost_usd, created_at, finished_at, output)
    SELECT 'rdone' || n, 'done' || n, 'u' || 1 + n % {users}, 'fal', 'generate', 1, 'fal-ai/flux/dev', '{{}}', '', 1,
           'succeeded', md5('done' || n), 0.025, 0.025, now(), now(), '{{}}'
    FROM generate_series(1, {rows}) AS n;
"""
GIVE_BACK = "UPDATE request SET status = 'queued', granted_at = NULL WHERE status = 'granted'"


def fill(url: str, *, jobs: int) -> None:
    """Fill the fresh ledger, and let Postgres see what is in it, as it does by itself in time."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET statement_timeout = 0")
        for statement in FILL.split(";\n"):
            # Not as parameters: those go with one statement at a time, and a % would have to be two.
            connection.execute(statement.replace("%(jobs)s", str(jobs)).replace("%(open)s", str(OPEN)))
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def fill_backlog(url: str, *, users: int, rows: int) -> None:
    """Fill the fresh ledger with rows that wait, as many of each user, and as many that have ended."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in BACKLOG.format(users=users, rows=rows).split(";\n")[:-1]:
            connection.execute(statement)
        connection.execute("VACUUM ANALYZE")


def grant_and_give_back(ledger: Ledger, url: str, *, times: int) -> Iterator[float]:
    """Grant ten slots, each time of the same backlog. Yield how many seconds that took."""
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(times):
            began = time.perf_counter()
            granted = ledger.grants.grant()
            yield time.perf_counter() - began
            assert len(granted) == 10
            connection.execute(GIVE_BACK)


def job_id(n: int) -> str:
    """The id of the nth last job that has ended."""
    return f"job{10_000_000 - n:012x}"


def _order(ledger: Ledger) -> None:
    first = RequestSpec(
        step="generate", endpoint="fal-ai/flux/dev", input={"prompt": "a fox"}, estimate_usd=Decimal("0.025")
    )
    ledger.jobs.post(user_id="u2", kind="generate-image", parameters={"prompt": "a fox"}, first=first)


def _grant(ledger: Ledger) -> None:
    """And the slots given back, for the next time."""
    assert len(ledger.grants.grant()) == 10
    with ledger.grants._engine.begin() as connection:
        connection.execute(text(GIVE_BACK))


def _job_page(ledger: Ledger) -> None:
    job = ledger.jobs.get(job_id(100))
    assert job is not None
    requests = ledger.requests.of_job(job.id)
    ledger.jobs.usage([job.id])
    ledger.jobs.first_files([job.id])
    assert ledger.waiting_for(job, requests) is None


def _reconcile(ledger: Ledger) -> None:
    """What a turn reads of the ledger, and by what it is known whether one is due."""
    kept = timedelta(days=90)
    ledger.housekeeping.turn_due(news_kept=kept, events_kept=kept, billing=["fal"], drift_day=None)
    ledger.runs.not_closed()
    ledger.runs.closed_since(ledger.clock() - timedelta(minutes=10))
    ledger.runs.limits_of_open()
    ledger.runs.with_granted()
    ledger.requests.holding_slots()
    ledger.requests.paid_unseen(since=ledger.clock() - timedelta(days=1))
    ledger.news.to_ingest(limit=50)
    ledger.budgets.publish()
    ledger.events.unpublished(before=ledger.clock(), limit=50)
    ledger.events.cancels_undone()
    ledger.jobs.unassigned()


def _report(ledger: Ledger) -> None:
    begin = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    assert ledger.usage.between(begin, begin + timedelta(days=1)).ordered > 500


def _page(**asked: object) -> Callable[[Ledger], None]:
    def page(ledger: Ledger) -> None:
        assert ledger.jobs.page(**{"user_id": "u1", "limit": 51} | asked)  # type: ignore[arg-type]

    return page


def _no_page(**asked: object) -> Callable[[Ledger], None]:
    def page(ledger: Ledger) -> None:
        assert not ledger.jobs.page(**{"user_id": "u1", "limit": 51} | asked)  # type: ignore[arg-type]

    return page


def _events(**asked: object) -> Callable[[Ledger], None]:
    def page(ledger: Ledger) -> None:
        assert ledger.events.page(**{"limit": 51} | asked)  # type: ignore[arg-type]

    return page


def _pending(**asked: object) -> Callable[[Ledger], None]:
    def page(ledger: Ledger) -> None:
        assert ledger.pending_runs.page(**{"limit": 51} | asked)  # type: ignore[arg-type]

    return page


def _letters(**asked: object) -> Callable[[Ledger], None]:
    which = DeadLetterFilter(**asked)  # type: ignore[arg-type]

    def page_and_price(ledger: Ledger) -> None:
        assert ledger.dead_letters.page(which, limit=51)
        assert ledger.dead_letters.price(which).matching

    return page_and_price


OPERATIONS: Mapping[str, Callable[[Ledger], None]] = {
    "order": _order,
    "job page": _job_page,
    "grant": _grant,
    "reconcile": _reconcile,
    "list": _page(),
    "list of all users": _page(user_id=None),
    "list, next page": _page(before=(datetime.now(UTC) - timedelta(days=2), "")),
    "list, pending": _page(user_id="u2", status=JobStatus.PENDING),
    "list, completed": _page(status=JobStatus.COMPLETED),
    "list, failed": _page(user_id="u8", status=JobStatus.FAILED),
    "list, cancelled": _page(status=JobStatus.CANCELLED, limit=10),
    "list, one kind": _page(kind="train-lora", limit=3),
    "list, one kind, completed, since": _page(
        kind="train-lora", status=JobStatus.COMPLETED, since=datetime.now(UTC) - timedelta(days=9)
    ),
    "list, one kind of all users": _page(user_id=None, kind="train-lora", limit=3),
    "list, a tag": _page(search=Search(tags=("autumn",))),
    "list, a tag of all users": _page(user_id=None, search=Search(tags=("autumn",))),
    "list, a word": _page(search=Search(text="heron")),
    "list, a word of all users": _page(user_id=None, search=Search(text="heron")),
    "list, a word of no job": _no_page(search=Search(text="zebra")),
    "dead letters": _letters(),
    "dead letters of a user": _letters(user_id="u8"),
    "dead letters of an endpoint": _letters(endpoint="fal-ai/flux/dev"),
    "dead letters of a code": _letters(code="content_policy"),
    "dead letters since": _letters(since=datetime.now(UTC) - timedelta(days=1)),
    "the day's report": _report,
    "events": _events(),
    "events of a source": _events(source="u2", limit=10),
    "events of a user": _events(source="u1", user_id="u1"),
    "events, refused": _events(status=EventStatus.REFUSED, limit=10),
    "pending runs": _pending(),
    "pending runs of a user": _pending(user_id="u1"),
    "pending runs of a deployment": _pending(deployment="onboard-user/on-demand", limit=10),
    "pending runs, dropped": _pending(status=PendingStatus.DROPPED, limit=10),
}
# What is found by tags and words is more in a larger ledger, and all of it is read, up to a bound.
MORE_FOUND: Mapping[str, Callable[[Ledger], None]] = {
    "list, a tag of one in a thousand": _page(search=Search(tags=("spring",)), limit=10),
    "list, words of one in a thousand": _page(search=Search(text="in the snow 999"), limit=5),
}
