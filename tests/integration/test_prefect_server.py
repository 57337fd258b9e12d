"""Prefect's server as the local stack runs it: what it leaves out is missed by nobody."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from prefect_server import PrefectServer
from support import wait_until

from darkroom.clock import utc_now
from darkroom.errors import Permanent
from darkroom.orchestrator import WORK_POOL

TRIGGERED = "prefect.automation.triggered"


def test_events_of_task_runs_are_not_kept_and_all_others_are(prefect: PrefectServer) -> None:
    name = f"order.{uuid4().hex}"
    resource = {"prefect.resource.id": name}
    for event in (f"prefect.task-run.{name}", f"prefect.flow-run.{name}", name):
        told = {"event": event, "id": str(uuid4()), "occurred": str(utc_now()), "resource": resource}
        prefect.call("POST", "/events", json=[told])

    def kept() -> list[str]:
        found = prefect.call("POST", "/events/filter", json={"filter": {"resource": {"id": [name]}}})
        return sorted(each["event"] for each in found["events"])

    wait_until(lambda: name in kept(), what="the last one")
    assert kept() == sorted([name, f"prefect.flow-run.{name}"])


def test_automations_act_though_they_could_not_be_loaded_when_the_server_started(prefect: PrefectServer) -> None:
    """By a second server, whose first look at them is made to fail."""
    first_look = """
        SELECT pid FROM pg_stat_activity
        WHERE application_name = 'second' AND wait_event_type = 'Lock' AND query LIKE '%FROM automation%'
    """
    url = prefect.environment["DARKROOM_LEDGER_URL"].replace("/darkroom?", "/prefect?")
    name = f"order.{uuid4().hex}"
    with psycopg.connect(url) as holds, psycopg.connect(url, autocommit=True) as looks:
        holds.execute("LOCK TABLE automation IN ACCESS EXCLUSIVE MODE")
        with prefect.second(PREFECT_SERVER_DATABASE_SQLALCHEMY_CONNECT_ARGS_APPLICATION_NAME="second") as api:
            waiting = wait_until(lambda: looks.execute(first_look).fetchone(), timeout=30, what="its first look")
            looks.execute("SELECT pg_cancel_backend(%s)", waiting)
            holds.rollback()
            trigger = {"type": "event", "posture": "Reactive", "expect": [name], "threshold": 1, "within": 0}
            wanted = {"name": name, "trigger": trigger, "actions": [{"type": "do-nothing"}]}
            made = api.call("POST", "/automations/", json=wanted, repeatable=False)
            acted = {"resource": {"id": [f"prefect.automation.{made['id']}"]}, "event": {"name": [TRIGGERED]}}
            resource = {"prefect.resource.id": name}

            def has_acted() -> bool:
                told = {"event": name, "id": str(uuid4()), "occurred": str(utc_now()), "resource": resource}
                api.call("POST", "/events", json=[told])
                return bool(api.call("POST", "/events/filter", json={"filter": acted})["events"])

            try:
                wait_until(has_acted, timeout=30, every=0.2, what="the automation to act")
            finally:
                api.call("DELETE", f"/automations/{made['id']}")


def test_a_runs_job_variables_are_checked_though_others_were_right(prefect: PrefectServer) -> None:
    deployment = prefect.call("GET", "/deployments/name/generate-image/on-demand")["id"]

    def order(**variables: Any) -> dict[str, Any]:
        late = {"state": {"type": "SCHEDULED", "state_details": {"scheduled_time": "2100-01-01T00:00:00Z"}}}
        body = {"parameters": {"prompt": "a fox"}, "job_variables": variables, **late}
        run: dict[str, Any] = prefect.call("POST", f"/deployments/{deployment}/create_flow_run", json=body)
        return run

    for _ in range(2):
        right = order(stream_output=False)
        prefect.call("DELETE", f"/flow_runs/{right['id']}")
        with pytest.raises(Permanent, match="422"):
            order(stream_output="perhaps")


def test_a_queue_that_nobody_has_polled_is_ready_once_somebody_has(prefect: PrefectServer) -> None:
    prefect.call("POST", f"/work_pools/{WORK_POOL}/get_scheduled_flow_runs", json={})
    queue = f"new-{uuid4().hex}"
    prefect.call("POST", f"/work_pools/{WORK_POOL}/queues", json={"name": queue})

    def status() -> str:
        prefect.call("POST", f"/work_pools/{WORK_POOL}/get_scheduled_flow_runs", json={})
        return str(prefect.call("GET", f"/work_pools/{WORK_POOL}/queues/{queue}")["status"])

    wait_until(lambda: status() == "READY", what="the queue to be ready")


def test_a_run_waits_for_a_place_of_its_deployment_and_says_its_queue_and_pool(prefect: PrefectServer) -> None:
    """The rules read the deployment, with its limit, while the run is locked; what a run shows is read as before."""
    entry = prefect.call("GET", "/deployments/name/generate-image/on-demand")
    told = {"name": f"one-{uuid4().hex}", "flow_id": entry["flow_id"], "concurrency_limit": 1}
    place = {"work_pool_name": WORK_POOL, "work_queue_name": f"new-{uuid4().hex}"}
    deployment = prefect.call("POST", "/deployments/", json=told | place)
    runs = [prefect.call("POST", f"/deployments/{deployment['id']}/create_flow_run", json={}) for _ in range(2)]

    def propose(run: dict[str, Any], state: str) -> dict[str, Any]:
        answer: dict[str, Any] = prefect.call(
            "POST", f"/flow_runs/{run['id']}/set_state", json={"state": {"type": state}}
        )
        return answer

    try:
        assert propose(runs[0], "PENDING")["status"] == "ACCEPT"
        assert propose(runs[1], "PENDING")["state"]["name"] == "AwaitingConcurrencySlot"
        assert propose(runs[0], "RUNNING")["status"] == "ACCEPT"
        shown = prefect.call("GET", f"/flow_runs/{runs[0]['id']}")
        assert shown["state_type"] == "RUNNING"
        assert place.items() <= shown.items()
        assert propose(runs[0], "COMPLETED")["status"] == "ACCEPT"
        assert place.items() <= prefect.call("GET", f"/deployments/{deployment['id']}").items()
    finally:
        prefect.call("DELETE", f"/deployments/{deployment['id']}")


def test_a_deployment_tells_its_schedules_the_newest_first(prefect: PrefectServer) -> None:
    entry = prefect.call("GET", "/deployments/name/generate-image/on-demand")
    schedules = [{"schedule": {"interval": hours * 3600.0}, "active": False} for hours in (1, 2, 3)]
    told = {"name": f"often-{uuid4().hex}", "flow_id": entry["flow_id"], "schedules": schedules}
    made = prefect.call("POST", "/deployments/", json=told)
    try:
        first = made["schedules"][-1]["id"]
        prefect.call("PATCH", f"/deployments/{made['id']}/schedules/{first}", json={"active": True})
        shown = [each["id"] for each in prefect.call("GET", f"/deployments/{made['id']}")["schedules"]]
        assert shown[0] == first
        assert sorted(shown) == sorted(each["id"] for each in made["schedules"])
    finally:
        prefect.call("DELETE", f"/deployments/{made['id']}")


class Asked(Exception):
    """A session was asked for this."""


class OnlyAsked:
    """A session that answers nothing."""

    async def get(self, *which: Any, options: Any) -> Any:
        raise Asked(which[0].__name__, [str(option.path) for option in options])


def test_the_rules_about_states_read_a_deployment_by_one_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what is put in the place of Prefect's own reading, with all that it would load after it."""
    from prefect.server.database.orm_models import Deployment
    from prefect.server.models import deployments
    from prefect.server.orchestration import core_policy
    from sqlalchemy import inspect

    from darkroom.deployments.stack import server_internals

    monkeypatch.setattr(deployments, "read_deployment", deployments.read_deployment)
    server_internals.read_deployments_at_once()
    with pytest.raises(Asked) as asked:
        asyncio.run(core_policy.deployments.read_deployment(session=OnlyAsked(), deployment_id=uuid4()))  # type: ignore[arg-type]
    kind, beside = asked.value.args
    loaded = {each.key for each in inspect(Deployment).relationships if each.lazy == "selectin"}
    assert kind == "Deployment"
    # The limit is a statement more only where there is one.
    assert {name for name in loaded if any(name in path for path in beside)} == loaded - {"global_concurrency_limit"}


def test_connections_that_are_cut_while_they_lie_idle_are_noticed(prefect: PrefectServer) -> None:
    url = prefect.environment["DARKROOM_LEDGER_URL"]
    with psycopg.connect(url, autocommit=True) as connection:
        cut = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'prefect' AND state = 'idle'"
        )
        old = "AND state_change < now() - interval '1 second'"
        wait_until(lambda: connection.execute(f"{cut} {old}").fetchone() != (0,), what="idle connections")
    for _ in range(4):
        assert prefect.call("POST", "/flow_runs/count", json={}, repeatable=False) >= 0


@pytest.mark.parametrize(
    ("every", "when"),
    [(timedelta(hours=1), None), (timedelta(seconds=0.05), timedelta(seconds=0.1))],
    ids=["at once", "planned"],
)
def test_what_its_services_are_to_do_wakes_them(
    monkeypatch: pytest.MonkeyPatch, every: timedelta, when: timedelta | None
) -> None:
    """However seldom they look. What is planned is done when they look after its time."""
    # Not above: Prefect's server takes two seconds to import, and every process of tests imports this module.
    from docket import Docket
    from prefect.server.api import background_workers

    from darkroom.deployments.stack import server_internals

    monkeypatch.setattr(server_internals, "LOOK_EVERY", every)
    monkeypatch.setattr(background_workers, "Worker", server_internals.PatientWorker)
    monkeypatch.setattr(background_workers, "register_and_schedule_perpetual_services", _nothing)

    async def run() -> None:
        done = asyncio.Event()

        async def service() -> None:
            done.set()

        async with (
            Docket(name=f"test-{every}", url="memory://") as docket,
            background_workers.background_worker(docket),
        ):
            docket.register(service)
            await docket.add(service, when=when and datetime.now(UTC) + when)()
            await asyncio.wait_for(done.wait(), 30)

    asyncio.run(run())


async def _nothing(*_: object, **__: object) -> None:
    pass
