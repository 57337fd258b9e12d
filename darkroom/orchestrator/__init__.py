"""What Darkroom asks of Prefect: runs, their queues, the events that wake them, and their states.

Thread-safe. A call is repeated only where doing it twice is the same as doing it once: runs carry an idempotency key,
events their own id. The rest raises `Retry`, and `reconcile` does it again.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from darkroom.clock import utc_now
from darkroom.errors import DarkroomError, NeedsHuman
from darkroom.orchestrator.api import MOST_PER_PAGE, PrefectApi
from darkroom.orchestrator.run_states import RunState, run_state_of
from darkroom.orchestrator.schedules import Timetables
from darkroom.orchestrator.state_names import RECOVERING

logger = logging.getLogger(__name__)

WORK_POOL = "darkroom"
RECONCILE = "reconcile/every-minute"
# The events on which the automation resumes a run, unless they name it in this role: asked to resume what is resumed
# already, it would record an action that has failed.
RESUME_EVENTS = ("fal.job.completed", "fal.job.failed", "darkroom.slot.granted", "darkroom.run.woken")
RESUMED_ROLE = "resumed-run"
# States in which a run may have lost its process. A suspended run has none by right, a cancelled one is wanted so.
RECOVERABLE = frozenset({"CRASHED", "FAILED", "RUNNING", "PENDING"})
UNDER_WAY = frozenset({"RUNNING", "PENDING", "CANCELLING"})
# For how long a queue is not looked at again. One that is deleted meanwhile is made anew by Prefect, without a limit.
ENSURED_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """Something that happened outside, for Prefect's feed and for automations: `name` begins with "darkroom."."""

    id: str
    name: str
    user_id: str | None
    payload: Mapping[str, Any]
    occurred: datetime


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Names of what a deployment's runs take, and those without which they do not begin."""

    names: frozenset[str]
    required: frozenset[str]


def queue_name(user_id: str) -> str:
    return f"user-{user_id}"


class Orchestrator:
    def __init__(self, api: PrefectApi | None = None) -> None:
        self._api = api or PrefectApi.from_environment()
        self.timetables = Timetables(self._api)
        self._deployment_ids: dict[str, UUID] = {}
        self._parameters: dict[str, Parameters] = {}
        self._ensured: dict[tuple[str, int], float] = {}  # queue and limit → when

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._api.close()

    def ensure_queue(self, user_id: str, *, limit: int) -> None:
        """Ensure that the user's work queue exists and lets at most `limit` of its runs execute at once."""
        name, now = queue_name(user_id), time.monotonic()
        # In a burst it would be every second call.
        if now - self._ensured.get((name, limit), float("-inf")) < ENSURED_SECONDS:
            return
        self.ensure_named_queue(name, limit=limit)
        fresh = {queue: at for queue, at in self._ensured.items() if now - at < ENSURED_SECONDS and queue[0] != name}
        self._ensured = fresh | {(name, limit): now}

    def ensure_named_queue(self, name: str, *, limit: int | None) -> None:
        queues = f"/work_pools/{WORK_POOL}/queues"
        # Prefect makes a queue by itself for a run that names it, but without a limit.
        if self._api.call("PATCH", f"{queues}/{name}", json={"concurrency_limit": limit}, absent=True) is not None:
            return
        # Another process may make it meanwhile (409).
        queue = {"name": name, "concurrency_limit": limit}
        if self._api.call("POST", queues, json=queue, absent=True, conflict=True) is None:
            raise NeedsHuman(f"Prefect has no work pool '{WORK_POOL}': run `darkroom provision`")

    def queue_limits(self) -> dict[str, int | None]:
        """Return the limit of every queue of the pool, by its name."""
        found = self._api.all_of(f"/work_pools/{WORK_POOL}/queues/filter", {})
        return {queue["name"]: queue["concurrency_limit"] for queue in found}

    def create_run(
        self,
        *,
        deployment: str,
        run_key: str,
        name: str,
        user_id: str,
        plan: str,
        parameters: Mapping[str, Any],
    ) -> UUID:
        """Create the flow run of this `run_key`, or return the one made before.

        Its queue must exist (`ensure_queue`).
        """
        body = {
            "parameters": dict(parameters),
            "idempotency_key": run_key,
            "name": name,
            # The gateway has checked them, and the flow does. The server's check costs it 8 ms.
            "enforce_parameter_schema": False,
            "work_queue_name": queue_name(user_id),
            "tags": [f"user:{user_id}", f"plan:{plan}"],
        }
        return self._create(deployment, body)

    def run_now(self, deployment: str, **parameters: Any) -> UUID:
        """Create one more run of a deployment, in the deployment's own queue."""
        # A key of its own, so that the call can be repeated: a lost answer makes no second run.
        return self._create(deployment, {"idempotency_key": uuid4().hex, "parameters": parameters})

    def run_state(self, flow_run_id: UUID) -> RunState | None:
        """Return the run's state; None if there is no such run."""
        run = self._api.call("GET", f"/flow_runs/{flow_run_id}", absent=True)
        state = run and run.get("state")
        if not state:
            return None
        return run_state_of(state, run)

    def run_states(self, flow_run_ids: Iterable[UUID]) -> dict[UUID, RunState]:
        """Return the states of many runs at once; a run that does not exist is missing."""
        ids, found = [str(each) for each in flow_run_ids], dict[UUID, RunState]()
        for start in range(0, len(ids), MOST_PER_PAGE):
            body = {"flow_runs": {"id": {"any_": ids[start : start + MOST_PER_PAGE]}}, "limit": MOST_PER_PAGE}
            for run in self._api.call("POST", "/flow_runs/filter", json=body):
                if state := run.get("state"):
                    found[UUID(run["id"])] = run_state_of(state, run)
        return found

    def under_way_since(self, before: datetime, *, deployment: str) -> list[UUID]:
        """Return runs of the deployment that a process took up before that time and that have not ended since."""
        wanted = {
            "deployment_id": {"any_": [str(self.deployment_id(deployment))]},
            "state": {"type": {"any_": sorted(UNDER_WAY)}},
        }
        # Those since when it is that way are not to be asked for: Prefect filters by a state's kind, not by its time.
        found = self._api.all_of("/flow_runs/filter", {"flow_runs": wanted, "sort": "EXPECTED_START_TIME_ASC"})
        return [UUID(run["id"]) for run in found if run_state_of(run["state"], run).timestamp < before]

    def history(self, flow_run_id: UUID) -> list[RunState]:
        """Return every state the run was in, oldest first."""
        states = self._api.call("GET", f"/flow_run_states/?flow_run_id={flow_run_id}")
        return sorted(map(run_state_of, states), key=lambda state: state.timestamp)

    def add_tags(self, flow_run_id: UUID, tags: Iterable[str]) -> None:
        path = f"/flow_runs/{flow_run_id}"
        # Prefect replaces all tags by those that it is given.
        present = set(self._api.call("GET", path)["tags"])
        if missing := set(tags) - present:
            self._api.call("PATCH", path, json={"tags": sorted(present | missing)})

    def wake(self, flow_run_id: UUID, *, event: str, request_ref: str, payload: Mapping[str, Any]) -> bool:
        """Resume the run and emit the event that says what for. Return whether this has resumed it."""
        # Asked directly, Prefect has resumed the run before the automation would hear of the event. Where it does not
        # answer, the event names the run such that the automation resumes it.
        try:
            resumed, role = self._resume(flow_run_id), RESUMED_ROLE
        except DarkroomError:
            resumed, role = False, "flow-run"
        # The automation resumes the first flow run among the event's resources, so exactly one is named.
        run = {"prefect.resource.id": f"prefect.flow-run.{flow_run_id}", "prefect.resource.role": role}
        body = {
            "id": str(uuid4()),  # a new one each time: Prefect drops a repeated id for 30 minutes
            "occurred": utc_now().isoformat(),
            "event": event,
            "resource": {"prefect.resource.id": f"fal.request.{request_ref}"},
            "related": [run],
            "payload": dict(payload),
        }
        try:
            self._api.call("POST", "/events", json=[body])
        except DarkroomError:
            if not resumed:
                raise
            logger.warning("Flow run %s is resumed, and the event %s is not in Prefect's feed", flow_run_id, event)
        return resumed

    def announce(self, announcements: Sequence[Announcement]) -> None:
        """Publish the announcements as Prefect's events, in one call."""
        self._api.call("POST", "/events", json=[_event(each) for each in announcements])

    def resume(self, flow_run_id: UUID) -> bool:
        """Resume the run. Return True if it was paused or suspended and now goes on.

        Return False if it was neither, or does not exist. One that was suspended with a form is resumed, too: it finds
        no answer to that.
        """
        state = self.run_state(flow_run_id)
        if state is None or state.type != "PAUSED":
            return False
        if state.deployed:  # as `/resume` does it, which asks for an answer first, and for a form that is there by now
            return self._set_state(flow_run_id, type="SCHEDULED", name="Resuming")
        return self._resume(flow_run_id)

    def _resume(self, flow_run_id: UUID) -> bool:
        path = f"/flow_runs/{flow_run_id}/resume"
        return _accepted(self._api.call("POST", path, json={}, absent=True, repeatable=False))

    def answer(self, flow_run_id: UUID) -> Mapping[str, Any] | None:
        """Return what the form was answered with which the run was suspended last; None if there was none."""
        states = self._api.call("GET", f"/flow_run_states/?flow_run_id={flow_run_id}")
        paused = [state for state in states if state["type"] == "PAUSED"]
        last = max(paused, key=lambda state: datetime.fromisoformat(state["timestamp"]), default=None)
        keyset = ((last or {}).get("state_details") or {}).get("run_input_keyset")
        if keyset is None:
            return None
        found = self._api.call("GET", f"/flow_runs/{flow_run_id}/input/{keyset['response']}", absent=True)
        return dict(found) if isinstance(found, dict) else None

    def recover(self, flow_run_id: UUID) -> bool:
        """Put a run whose process is gone back into its queue. False if its state says there is nothing to recover."""
        state = self.run_state(flow_run_id)
        if state is None or state.type not in RECOVERABLE:
            return False
        # A run that bears a pid is cancelled by whoever has that process: nobody. Before it is ready, lest a worker
        # has noted the next one.
        self._api.call("PATCH", f"/flow_runs/{flow_run_id}", json={"infrastructure_pid": None}, absent=True)
        # Without force, so Prefect's own rules still apply, and never repeated: a second `Scheduled` could overtake the
        # worker that has just taken the first.
        return self._set_state(flow_run_id, type="SCHEDULED", name=RECOVERING)

    def confirm_cancel(self, flow_run_id: UUID) -> bool:
        """Set Cancelling to Cancelled, for a run whose process is gone, and so cannot say it."""
        state = self.run_state(flow_run_id)
        if state is None or state.type != "CANCELLING":
            return False
        return self._set_state(flow_run_id, type="CANCELLED", name="Cancelled")

    def give_up(self, flow_run_id: UUID, *, message: str) -> None:
        """Set the run to Failed, for good: nobody brings it back."""
        self._set_state(flow_run_id, type="FAILED", name="Failed", message=message)

    def cancel_run(self, flow_run_id: UUID) -> None:
        """Ask for the end of the run. One without a process is cancelled at once, a finished one stays as it is."""
        self._set_state(flow_run_id, type="CANCELLING", name="Cancelling")

    def show_picture(self, flow_run_id: UUID, *, key: str, url: str, description: str) -> None:
        """Show an image among the run's artifacts. `key`: lowercase letters, digits and dashes."""
        self._show(key=key, type="image", data=url, description=description, flow_run_id=str(flow_run_id))

    def show_costs(self, flow_run_id: UUID, *, key: str, table: Sequence[Mapping[str, str]]) -> None:
        """Show a table of what it cost among the run's artifacts."""
        data = json.dumps([dict(row) for row in table])
        self._show(key=key, type="table", data=data, description="What it cost", flow_run_id=str(flow_run_id))

    def show_text(self, flow_run_id: UUID, *, key: str, markdown: str, description: str) -> None:
        self._show(key=key, type="markdown", data=markdown, description=description, flow_run_id=str(flow_run_id))

    def show_progress(self, flow_run_id: UUID, *, key: str, percent: float, text: str) -> None:
        """Show a bar among the run's artifacts, moved on where it is there already."""
        self._keep(flow_run_id, key=key, type="progress", data=percent, description=text)

    def keep_table(self, flow_run_id: UUID, *, key: str, table: Sequence[Mapping[str, str]], description: str) -> None:
        """Keep a table among the run's artifacts, one that is brought up to date."""
        data = json.dumps([dict(row) for row in table])
        self._keep(flow_run_id, key=key, type="table", data=data, description=description)

    def show_table(
        self, flow_run_id: UUID, *, key: str, name: str, message: str, table: Sequence[Mapping[str, str]]
    ) -> None:
        """Add a finished task run of that name, and a table as its artifact."""
        # By hand: Prefect's own engine takes ten times as long over a task run that has nothing to do.
        body = {
            "flow_run_id": str(flow_run_id),
            "name": name,
            "task_key": "report",
            # A call with a key that there is, is answered with the task run that is there.
            "dynamic_key": str(uuid4()),
            "state": {"type": "COMPLETED", "name": "Completed", "message": message},
        }
        task_run = self._api.call("POST", "/task_runs/", json=body)
        self._show(
            key=key,
            type="table",
            data=json.dumps([dict(row) for row in table]),
            description=message,
            flow_run_id=str(flow_run_id),
            task_run_id=task_run["id"],
        )

    def _keep(self, flow_run_id: UUID, *, key: str, type: str, data: str | float, description: str) -> None:
        # Not by `/artifacts/{key}/latest`: its `id` is that of a list of versions, and no artifact's.
        asked = {"artifacts": {"key": {"any_": [key]}, "flow_run_id": {"any_": [str(flow_run_id)]}}, "limit": 1}
        if found := self._api.call("POST", "/artifacts/filter", json=asked):
            self._api.call("PATCH", f"/artifacts/{found[0]['id']}", json={"data": data, "description": description})
        else:
            self._show(key=key, type=type, flow_run_id=str(flow_run_id), data=data, description=description)

    def _show(self, **artifact: str | float) -> None:
        # Not repeated: an artifact that is made twice is shown twice.
        self._api.call("POST", "/artifacts/", json=artifact, repeatable=False)

    def _create(self, deployment: str, body: Mapping[str, Any]) -> UUID:
        for _ in range(2):  # the deployment we knew may have been deleted, and made anew under another id
            path = f"/deployments/{self.deployment_id(deployment)}/create_flow_run"
            if run := self._api.call("POST", path, json=body, absent=True):
                return UUID(run["id"])
            self._deployment_ids.pop(deployment, None)
        raise _unknown_deployment(deployment)

    def deployment_id(self, deployment: str) -> UUID:
        """Return the deployment's id by its full name. It is remembered, as it is asked for with each run."""
        if deployment not in self._deployment_ids:
            found = self._api.call("GET", f"/deployments/name/{deployment}", absent=True)
            if found is None:
                raise _unknown_deployment(deployment)
            self._deployment_ids[deployment] = UUID(found["id"])
        return self._deployment_ids[deployment]

    def deployment_of(self, deployment_id: UUID) -> str:
        """Return the deployment's name, without the flow's."""
        return str(self._api.call("GET", f"/deployments/{deployment_id}")["name"])

    def given_to(self, flow_run_id: UUID) -> Mapping[str, Any]:
        """Return the parameters of a run; none for one that does not exist."""
        return dict((self._api.call("GET", f"/flow_runs/{flow_run_id}", absent=True) or {}).get("parameters") or {})

    def parameters_of(self, deployment: str) -> Parameters:
        """Return what the deployment's runs take, as its form has it. It is remembered.

        Raises NeedsHuman where there is no such deployment.
        """
        if deployment not in self._parameters:
            found = self._api.call("GET", f"/deployments/name/{deployment}", absent=True)
            if found is None:
                raise _unknown_deployment(deployment)
            schema = found.get("parameter_openapi_schema") or {}
            names, required = schema.get("properties") or {}, schema.get("required") or ()
            self._parameters[deployment] = Parameters(names=frozenset(names), required=frozenset(required))
        return self._parameters[deployment]

    def _set_state(self, flow_run_id: UUID, *, type: str, name: str, message: str | None = None) -> bool:
        body = {"state": {"type": type, "name": name, "message": message}, "force": False}
        path = f"/flow_runs/{flow_run_id}/set_state"
        return _accepted(self._api.call("POST", path, json=body, absent=True, repeatable=False))


def _event(announcement: Announcement) -> dict[str, Any]:
    """Convert an announcement to Prefect's event."""
    user = {"prefect.resource.id": f"darkroom.user.{announcement.user_id}", "prefect.resource.role": "user"}
    return {
        # Made from ours: one that is published again is the same event there.
        "id": str(uuid5(NAMESPACE_URL, f"darkroom:{announcement.id}")),
        "occurred": announcement.occurred.isoformat(),
        "event": announcement.name,
        "resource": {
            "prefect.resource.id": f"darkroom.event.{announcement.id}",
            "prefect.resource.name": announcement.name,
        },
        # No flow run, so that no automation takes it for the end of what a run waits for.
        "related": [] if announcement.user_id is None else [user],
        "payload": dict(announcement.payload),
    }


def _accepted(outcome: Any) -> bool:
    return bool(outcome) and outcome.get("status") == "ACCEPT"


def _unknown_deployment(deployment: str) -> NeedsHuman:
    return NeedsHuman(f"Prefect has no deployment '{deployment}': run `darkroom provision`")
