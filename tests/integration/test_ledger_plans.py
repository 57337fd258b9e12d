"""No statement that runs for every grant, page, webhook or reconcile reads a large table from its beginning to its end.

Postgres itself tells the plan of everything that is executed (auto_explain), with its real parameters, also of what is
prepared and has a plan for all parameters by then. `PLANS=100000 pytest --capture no <this file>` prints the plans with
so many rows that wait and as many that are finished.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import psycopg
import pytest
from ledger_databases import Db
from ledger_scenes import DEV, SUCCESS, webhook
from pydantic import SecretStr
from reconciling import resources_of, turn
from running_gateway import NO_PREFECT, GivenBlocks, RunningGateway, running_gateway
from sqlalchemy import Pool, event

from darkroom.clock import utc_now
from darkroom.engine.reconcile_due import DueDuties
from darkroom.ledger import DeadLetterFilter, EventStart, JobStatus, Ledger, NewEvent
from darkroom.ledger.flow_control.terms import Held, Terms
from darkroom.providers.fal import Fal
from darkroom.providers.fal.provider import FalProvider
from darkroom.providers.registry import Providers
from darkroom.settings import Settings

ROWS = int(os.environ.get("PLANS", 20_000))
USERS = max(ROWS // 100, 10)
OPEN_RUNS = 10
CUSTOMER, WAITS, FINISHED = "user 2", "j1", "done1"
# It counts everybody who is before a row that waits, and so reads those who wait: 25 ms of 100,000, for one who asks.
# To count them user by user in the index was no quicker.
COUNTS = {"place_in_line"}
# Lest the test looks on while something else is done.
SEEN = {
    "grantable",
    "jobs_page",
    "job_get",
    "place_in_line",
    "job_post",
    "request_settle",
    "job_finish",
    "runs_not_closed",
    "turn_due",
    "starts_gather",
    "starts_release",
    "starts_waiting",
    "starts_running",
    "starts_begun",
    "starts_paced",
    "starts_page",
    "dead_page",
    "dead_ids",
    "dead_calls",
    "dead_paid",
    "replay_spent",
    "spending",
    "bills_due",
    "bills_keep",
    "bills_drift",
}
GATHERS = Terms.model_validate({"debounce": {"period": "1h"}})
TERMS = Terms.model_validate(
    {
        "rate_limit": {"limit": 3, "period": "1m"},
        "throttle": {"limit": 1, "period": "1m"},
        "singleton": {},
        "concurrency": {"limit": 1},
    }
)
# Postgres makes a plan for all parameters with the sixth execution of what psycopg has prepared with the third.
TIMES = 9
WHOLE_TABLE = re.compile(r"Seq Scan on (request|job|delivery|run|asset|start|event_effect)\b")
EXPLAIN = (
    "SET auto_explain.log_min_duration = 0",
    "SET auto_explain.log_analyze = on",
    "SET auto_explain.log_nested_statements = on",
    "SET auto_explain.log_buffers = on",
    "SET auto_explain.log_parameter_max_length = 0",
    "SET client_min_messages = log",
)

SCENE = """
    INSERT INTO "user" (id, name, plan, notified, created_at)
    SELECT 'u' || n, 'user ' || n, 'pro', 0, now() FROM generate_series(1, %(users)s) AS n;
    INSERT INTO job (id, user_id, kind, status, parameters, created_at)
    SELECT 'j' || n, 'u' || 1 + n %% %(users)s, 'generate-image', 'pending', '{}', now()
    FROM generate_series(1, %(rows)s) AS n;
    INSERT INTO request (ref, job_id, user_id, account_id, step, attempt, endpoint, input, input_hash, lane, status,
        token, estimate_usd, created_at)
    SELECT 'r' || n, 'j' || n, 'u' || 1 + n %% %(users)s, 'fal', 'generate', 1, 'fal-ai/flux/dev', '{}', '', 1,
        'queued', md5(n::text), 0.025, now() + n * interval '1 ms' FROM generate_series(1, %(rows)s) AS n;

    INSERT INTO run (id, user_id, kind, shared, flow_run_id, created_at, closed_at)
    SELECT 'run' || n, 'u' || 1 + n %% %(users)s, 'generate-image', true, gen_random_uuid(),
        now() - interval '1 day', now() - n * interval '1 minute' FROM generate_series(1, %(runs)s) AS n;
    INSERT INTO job (id, user_id, kind, status, run_id, parameters, created_at, finished_at)
    SELECT 'done' || n, 'u' || 1 + n %% %(users)s, 'generate-image', 'completed', 'run' || 1 + n %% %(runs)s, '{}',
        now() - n * interval '1 s', now() - n * interval '1 s' FROM generate_series(1, %(rows)s) AS n;
    INSERT INTO request (ref, job_id, user_id, account_id, step, attempt, endpoint, input, input_hash, lane, status,
        token, request_id, estimate_usd, cost_usd, created_at, submitted_at, finished_at, output)
    SELECT 'rdone' || n, 'done' || n, 'u' || 1 + n %% %(users)s, 'fal', 'generate', 1, 'fal-ai/flux/dev', '{}', '', 1,
        'succeeded', md5('done' || n), 'fal-' || n, 0.025, 0.025, now() - n * interval '1 s',
        now() - n * interval '1 s', now() - n * interval '1 s', '{}' FROM generate_series(1, %(rows)s) AS n;
    INSERT INTO job (id, user_id, kind, status, error, parameters, created_at, finished_at)
    SELECT 'dead' || n, 'u' || 1 + n %% %(users)s, 'generate-image', 'failed',
        jsonb_build_object('class', 'permanent', 'code', 'code-' || n %% 20, 'ref', 'rdead' || n), '{}',
        now() - n * interval '1 s', now() - n * interval '1 s' FROM generate_series(1, %(runs)s) AS n;
    INSERT INTO request (ref, job_id, user_id, account_id, step, attempt, endpoint, input, input_hash, lane, status,
        token, estimate_usd, created_at, submitted_at, finished_at)
    SELECT 'rdead' || n, 'dead' || n, 'u' || 1 + n %% %(users)s, 'fal', 'generate', 1, 'fal-ai/flux/dev', '{}', '', 1,
        'failed', md5('dead' || n), 0.025, now() - n * interval '1 s', now() - n * interval '1 s',
        now() - n * interval '1 s' FROM generate_series(1, %(runs)s) AS n;
    INSERT INTO delivery (provider, request_id, ref, verdict, body_sha256, received_at)
    SELECT 'fal', 'fal-' || n, 'rdone' || n, 'settled', '', now() FROM generate_series(1, %(rows)s) AS n;
    INSERT INTO asset (id, job_id, user_id, ref, step, n, key, sha256, content_type, bytes, width, height, created_at)
    SELECT 'a' || n, 'done' || n, 'u' || 1 + n %% %(users)s, 'rdone' || n, 'generate', 0, 'images/' || n, '',
        'image/png', 1, 1, 1, now() FROM generate_series(1, %(rows)s) AS n;

    INSERT INTO run (id, user_id, kind, shared, flow_run_id, created_at, left_at)
    SELECT 'open' || n, 'u' || n, 'generate-image', true, gen_random_uuid(), now(), now()
    FROM generate_series(1, %(open)s) AS n;
    INSERT INTO job (id, user_id, kind, status, run_id, parameters, created_at)
    SELECT 'flying' || n, 'u' || 1 + n %% %(open)s, 'generate-image', 'running', 'open' || 1 + n %% %(open)s, '{}',
        now() FROM generate_series(1, %(flying)s) AS n;
    INSERT INTO request (ref, job_id, user_id, account_id, step, attempt, endpoint, input, input_hash, lane, status,
        token, request_id, estimate_usd, created_at, granted_at, submitted_at)
    SELECT 'rflying' || n, 'flying' || n, 'u' || 1 + n %% %(open)s, 'fal', 'generate', 1, 'fal-ai/flux/dev', '{}', '',
        1, CASE WHEN n %% 5 = 0 THEN 'unknown' WHEN n %% 7 = 0 THEN 'granted' ELSE 'in_flight' END,
        md5('flying' || n), 'flying-' || n, 0.025, now(), now(), now() FROM generate_series(1, %(flying)s) AS n;
"""
HELD = """
    INSERT INTO flow_control (deployment, terms) VALUES ('sync/one', %(terms)s);
    INSERT INTO start (id, deployment, user_id, status, takes_all, rate_key, throttle_key, singleton_key,
        concurrency_key, gate_key, priority, parameters, events, bytes, created_at, ranked_at, settled_at, paced_until)
    SELECT 'begun' || n, 'sync/one', 'u' || 1 + n %% %(users)s, 'begun', false, 'k' || n %% 100, 'k' || n %% 100,
        'k' || n %% 100, 'k' || n %% 100, 'k' || n %% 100, 0, '{}', 1, 0, now(), now(), now(), now()
    FROM generate_series(1, %(rows)s) AS n;
    INSERT INTO start (id, deployment, user_id, status, gather_key, takes_all, gate_key, priority, parameters, events,
        bytes, created_at, ranked_at, due_at)
    SELECT 'gathers' || n, 'sync/one', 'u' || 1 + n %% %(users)s, 'gathering', 'k' || n, false, '', 0, '{}', 1, 0,
        now(), now(), now() + interval '1 hour'
    FROM generate_series(1, %(rows)s) AS n;
    INSERT INTO event (id, source, user_id, name, status, occurred_at, received_at, told_at)
    SELECT 'evt' || n, 'u1', 'u1', 'sync.asked', 'accepted', now(), now(), now() FROM generate_series(1, %(rows)s) AS n;
    INSERT INTO event_effect (event_id, n, what, deployment, start_id, start_n, at)
    SELECT 'evt' || n, 0, 'gathered', 'sync/one', 'gathers' || n, 1, now() FROM generate_series(1, %(rows)s) AS n;
"""
GIVE_BACK = (
    "UPDATE request SET status = 'queued', granted_at = NULL WHERE status = 'granted' AND ref NOT LIKE 'rflying%'"
)


@pytest.fixture
def large(ledger_url: str, db: Db) -> None:
    values = {"users": USERS, "rows": ROWS, "runs": ROWS // 4, "open": OPEN_RUNS, "flying": OPEN_RUNS * TIMES}
    for statement in SCENE.split(";")[:-1]:
        db.execute(statement, values)
    for statement in HELD.split(";")[:-1]:
        db.execute(statement, {"terms": TERMS.model_dump_json(), "users": USERS, "rows": ROWS})
    db.execute("UPDATE account SET slots = %s", [OPEN_RUNS * TIMES + 10])
    db.execute("VACUUM ANALYZE")


class Plans:
    """What Postgres says of each statement, by its name: the plans it had, in their order."""

    def __init__(self) -> None:
        self.seen: defaultdict[str, list[str]] = defaultdict(list)

    def hear(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        said = diagnostic.message_primary or ""
        if "Query Text: " in said:
            lines = said.partition("Query Text: ")[2].split("\n")
            first = next((n for n, line in enumerate(lines) if "(cost=" in line), len(lines))
            statement = "\n".join(lines[:first])
            named = re.search(r"/\* (\w+) \*/", statement)  # not in those of a function
            plan = [said.partition("  plan:")[0], *lines[first:]]
            self.seen[named[1] if named else statement].append("\n".join(plan))

    def bad(self) -> dict[str, str]:
        """The statements that once read a whole table."""
        told = {name: plans for name, plans in self.seen.items() if name not in COUNTS}
        return {name: plan for name, plans in told.items() for plan in plans if WHOLE_TABLE.search(plan)}


@pytest.fixture
def plans() -> Iterator[Plans]:
    """Of everything that this process executes from now on."""
    found = Plans()

    def explain(connection: Any, _: Any) -> None:
        connection.add_notice_handler(found.hear)
        for setting in ("LOAD 'auto_explain'", *EXPLAIN):
            connection.execute(setting)
        connection.commit()

    event.listen(Pool, "connect", explain)
    yield found
    event.remove(Pool, "connect", explain)


def of_a_grant(ledger: Ledger, db: Db) -> None:
    db.execute(GIVE_BACK)
    assert len(ledger.grants.grant()) >= 10
    ledger.grants.next_without_run(10)
    ledger.grants.outlook()


def of_a_customer(gateway: RunningGateway, key: str) -> None:
    """Orders one more, turns the pages, looks at one that waits and at one that is finished."""
    user = gateway.as_user(key)
    assert user.order().status_code == 202
    cursor = user.get("/v1/jobs?limit=5").json()["next"]
    for path in (f"?limit=5&cursor={cursor}", "?status=completed", f"/{WAITS}", f"/{FINISHED}"):
        assert user.get(f"/v1/jobs{path}").status_code == 200


def of_the_dead(ledger: Ledger, n: int) -> None:
    """Listed for an operator and for a user, priced, and one of them put back under a budget."""
    for which in (DeadLetterFilter(), DeadLetterFilter(user_id="u2"), DeadLetterFilter(code="code-3", endpoint=DEV)):
        assert ledger.dead_letters.page(which, limit=5)
        assert ledger.dead_letters.price(which).replayable
    named = DeadLetterFilter(job_ids=(f"dead{n}",))
    assert ledger.dead_letters.replay(named, budget_usd=Decimal(1)).job_ids


def of_a_picture(ledger: Ledger, n: int) -> None:
    """One that was granted, from its webhook on."""
    assert ledger.requests.settle_arrival(webhook(f"flying-{n}"), lambda _: SUCCESS) is not None
    ledger.jobs.take_up([f"flying{n}"])
    ledger.jobs.finish(f"flying{n}", JobStatus.COMPLETED)


def of_flow_control(ledger: Ledger, n: int) -> None:
    """An event that gathers and one that waits, what begins and falls due, and a user's page."""
    key = f"k{n}"
    gathers = Held(terms=GATHERS, gather_key=key)
    waits = Held(terms=TERMS, rate_key=key, throttle_key=key, singleton_key=key, concurrency_key=key)
    starts = [EventStart(deployment="sync/one", held=waits), EventStart(deployment="sync/two", held=gathers)]
    event = NewEvent(name="profile.changed", user_id="u1", owner_id="u1", data={}, starts=starts)
    ledger.events.receive("u1", [event], matches=lambda *_: True)
    ledger.pending_runs.release(all=True)
    ledger.pending_runs.begin("sync/one")
    ledger.pending_runs.next_due(after=utc_now())
    assert ledger.pending_runs.page(user_id="u1", limit=5)
    assert ledger.pending_runs.page(limit=5)


def of_the_money(ledger: Ledger) -> None:
    """A month is asked for, of one user and of all; bills, as far as they are due, and how they differ."""
    now = utc_now()
    for user_id in ("u2", None):
        assert ledger.spending.between(now - timedelta(minutes=5), now, group_by="tag", user_id=user_id).items
    due = ledger.bills.due("fal", limit=50)
    ledger.bills.keep(due, {due[0].request_id: Decimal("0.02")}, source="bills")
    ledger.bills.drift("fal", now - timedelta(hours=1), now)


def of_a_reconcile(ledger: Ledger) -> None:
    """Neither Prefect nor the provider knows of anything."""
    fal = FalProvider(create_autospec(Fal, instance=True))
    resources = resources_of(ledger, providers=Providers({"fal": lambda: fal}))
    list(DueDuties(ledger, resources.orchestrator, settings=resources.settings).found())
    turn(resources)


@pytest.mark.usefixtures("large")
def test_nothing_that_is_done_all_the_time_reads_a_whole_table(
    ledger: Ledger, ledger_url: str, db: Db, plans: Plans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grant, a user's order and pages, a webhook, and reconcile: whatever they ask is found by an index."""
    monkeypatch.setenv("PREFECT_API_URL", NO_PREFECT)
    key = ledger.users.rotate(CUSTOMER).key
    for n in range(TIMES):
        of_a_grant(ledger, db)
        of_a_reconcile(ledger)
        of_a_picture(ledger, n + 1)
        of_the_dead(ledger, n + 1)
        of_the_money(ledger)
        of_flow_control(ledger, n + 1)
    settings = Settings(ledger_url=ledger_url, home=tmp_path, signing_key=SecretStr("a long random text"))
    with running_gateway(settings, blocks=GivenBlocks()) as gateway:
        for _ in range(TIMES):
            of_a_customer(gateway, key)

    show(plans)
    assert set(plans.seen) >= SEEN
    assert plans.bad() == {}


def show(plans: Plans) -> None:
    for name, found in sorted(plans.seen.items()):
        print(f"\n{name}, {len(found)} times; the last:\n{found[-1]}")
