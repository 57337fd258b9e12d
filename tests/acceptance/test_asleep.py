"""Around runs that sleep: Prefect's server goes and comes back, new code comes, the ledger's tables change."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import httpx
import psycopg
from running import DARKROOM, PREFECT, Stack
from support import wait_until
from trial_project import as_it_was, put, take_up

from darkroom.clock import utc_now
from darkroom.ledger import RequestStatus

FLOW, TASKS = "flows/generate_image.py", "darkroom/engine/tasks.py"
USERS = ("ann", "bob", "eve")

NEW_LINE = "this is the new code"
MIGRATION = '''"""A column that the code of before does not know."""

import sqlalchemy as sa
from alembic import op

revision = "trial"
down_revision = {newest!r}


def upgrade() -> None:
    for table in ("request", "job", "run", "asset", "account"):
        op.add_column(table, sa.Column("trial", sa.Text(), nullable=True))
'''


# -- Prefect's server ------------------------------------------------------------------------------------------------


def _asleep(stack: Stack, prompts: Mapping[str, str]) -> dict[str, tuple[str, UUID]]:
    """User → job and flow run, suspended, its picture held at the provider."""
    jobs = {}
    for user, prompt in prompts.items():
        stack.misbehave(prompt, hold=True)
        jobs[user] = stack.order(prompt, user=user)
    runs = {user: stack.flow_run_id(job_id) for user, job_id in jobs.items()}
    for flow_run_id in runs.values():
        stack.in_state(flow_run_id, "Suspended")
    return {user: (jobs[user], runs[user]) for user in prompts}


def _answers(stack: Stack) -> bool:
    try:
        return stack.prefect.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def _settled(stack: Stack, job_id: str) -> bool:
    return [row.status for row in stack.rows(job_id)] == [RequestStatus.SUCCEEDED]


def _woken_while_it_is_away(stack: Stack, job_id: str, prompt: str, how: signal.Signals) -> None:
    """Prefect's server ends so, and the webhook comes before it is back. Where it is killed, the worker is too."""
    ended = stack.pid("prefect")
    if how is signal.SIGKILL:
        os.kill(stack.pid("worker"), how)
    os.kill(ended, how)
    wait_until(lambda: not _answers(stack), timeout=20, what="the end of Prefect's server")
    stack.release(prompt)
    wait_until(lambda: _settled(stack, job_id), timeout=30, every=0.1, what="the webhook")
    wait_until(lambda: stack.pid("prefect") != ended and _answers(stack), timeout=60, every=0.1, what="its restart")


def _until_it_may_be_woken_again(stack: Stack, job_id: str) -> None:
    """A wake that failed might have been heard after all, so reconcile waits a little. Or it was, and all is done."""
    job = stack.ledger.jobs.get(job_id)
    assert job is not None and job.run_id is not None
    run_id = job.run_id

    def due() -> bool:
        run = stack.ledger.runs.get(run_id)
        assert run is not None
        return run.woken_at is None or utc_now() - run.woken_at > stack.timing.wake_again

    wait_until(due, timeout=20, every=0.2, what="the time for another wake")


def _not_ended(stack: Stack, user: str) -> list[str]:
    """States of the user's runs that are not final, as Prefect has them."""
    user_id = next(each.id for each in stack.ledger.users.all() if each.name == user)
    wanted = {"flow_runs": {"tags": {"all_": [f"user:{user_id}"]}}}
    runs = stack.prefect.post("/flow_runs/filter", json=wanted).raise_for_status().json()
    return [run["state_name"] for run in runs if run["state_type"] not in ("COMPLETED", "FAILED", "CANCELLED")]


def test_a_prefect_server_that_goes_finds_its_suspended_runs_when_it_is_back(
    stack: Stack, prompt: str, no_cron: str
) -> None:
    """Ended by SIGTERM, then by SIGKILL with the worker, each time with a webhook meanwhile: one reconcile brings up
    what it missed.

    The run for which nothing came sleeps on, and is woken as ever. Nobody is kept from the next picture.
    """
    prompts = {user: f"{prompt} for {user}" for user in USERS}
    asleep = _asleep(stack, prompts)

    for user, how in zip(USERS, (signal.SIGTERM, signal.SIGKILL), strict=False):
        job_id, flow_run_id = asleep[user]
        _woken_while_it_is_away(stack, job_id, prompts[user], how)
        _until_it_may_be_woken_again(stack, job_id)
        stack.reconcile()
        assert stack.ended(job_id, user=user)["status"] == "completed"
        stack.in_state(flow_run_id, "Completed")  # or it would be lost with the worker
        assert stack.flow_run(asleep["eve"][1])["state_name"] == "Suspended"
        assert not stack.flow_processes(asleep["eve"][1])

    stack.release(prompts["eve"])
    assert stack.ended(asleep["eve"][0], user="eve")["status"] == "completed"

    stack.in_state(asleep["eve"][1], "Completed")

    for user in asleep:
        assert _not_ended(stack, user) == []
        assert len(stack.at_provider(prompts[user])) == 1
    again = {user: stack.order(f"{prompt} again", user=user) for user in USERS}
    for user, job_id in again.items():
        assert stack.ended(job_id, user=user)["status"] == "completed"


# -- new code, and a migration ---------------------------------------------------------------------------------------


def _new_code(project: Path) -> None:
    """The job's function says so in the run's log; and the steps are other tasks, as far as their source goes."""
    stored = "    made = job.store("
    put(project / FLOW, stored, f"    get_run_logger().info({NEW_LINE!r})\n{stored}")
    put(
        project / FLOW,
        "from typing import Any\n",
        "from typing import Any\n\nfrom prefect.logging import get_run_logger\n",
    )
    put(
        project / TASKS,
        "    return row.request_id or row.status.value",
        "    request_id = row.request_id\n    return request_id or row.status.value",
    )
    put(project / TASKS, "    assert job is not None\n", "    assert job is not None, job_id\n")


def _new_table(project: Path) -> None:
    versions = project / "darkroom" / "ledger" / "migrations" / "versions"
    newest = max(file.name for file in versions.glob("0*.py"))[:4]
    (versions / "trial.py").write_text(MIGRATION.format(newest=newest))


def _says(stack: Stack, flow_run_id: UUID, line: str) -> None:
    """In its log at Prefect, soon: that is sent every two seconds."""
    wanted = {"logs": {"flow_run_id": {"any_": [str(flow_run_id)]}}}

    def said() -> list[str]:
        found = stack.prefect.post("/logs/filter", json=wanted).raise_for_status().json()
        return [each["message"] for each in found]

    wait_until(lambda: line in said(), timeout=20, every=0.2, what=f"the line {line!r}")


def _columns(stack: Stack, table: str) -> set[str]:
    with psycopg.connect(stack.environment["DARKROOM_LEDGER_URL"]) as connection:
        found = connection.execute("SELECT column_name FROM information_schema.columns WHERE table_name = %s", [table])
        return {name for (name,) in found}


def test_a_run_that_sleeps_while_code_and_ledger_change_finishes_with_the_new_and_pays_nothing_again(
    stack: Stack, prompt: str, no_cron: str
) -> None:
    """Migrated and deployed while it is suspended; the worker takes the new code up when it is told to.

    The gateway is of before and runs on: it takes the webhook at the first try, though its tables have new columns.
    """
    ((job_id, flow_run_id),) = _asleep(stack, {"ann": prompt}).values()
    gateway = stack.pid("gateway")

    with as_it_was(stack.project, FLOW, TASKS):
        _new_code(stack.project)
        _new_table(stack.project)  # and stays there: the ledger is at it
        stack.command(DARKROOM, "provision")
        stack.command(PREFECT, "--no-prompt", "deploy", "--name", "generate-image/on-demand", cwd=stack.project)
        take_up(stack)
        assert "trial" in _columns(stack, "request")

        stack.release(prompt)
        assert stack.ended(job_id)["status"] == "completed"
        _says(stack, flow_run_id, NEW_LINE)
        assert len(stack.at_provider(prompt)) == 1
        assert stack.webhook_answers(prompt) == [200]
        assert stack.pid("gateway") == gateway
    take_up(stack)
