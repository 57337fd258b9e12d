"""W4: many runs suspended at once, and what they cost while they wait.

Their orders are real: granted, submitted and held at the provider. One run carries many of them, so each order is then
given a run of its own, on the ledger and at Prefect, in the state in which a run leaves. That they are what they look
like is shown at the end: some are released, their webhooks come, and their pictures are finished.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any
from uuid import UUID, uuid4

from acceptance.running import Stack
from support import wait_until

from benchmarks.contestants import Darkroom
from benchmarks.driver import post_all
from benchmarks.meters import FLOW_PROCESSES, cpu_seconds, memory_bytes, processes, trees
from benchmarks.provider import Provider
from darkroom.ledger.tables import new_id

MARKER = "asleep"
WOKEN = 3
SECONDS_TO_FALL_ASLEEP = 120.0
QUIET_CPU_SECONDS = 0.02

# All but the first order of each run.
TO_BE_PARTED = """
    SELECT id, user_id, kind, parameters FROM (
        SELECT *, row_number() OVER (PARTITION BY run_id ORDER BY created_at, id) AS place
        FROM job WHERE finished_at IS NULL
    ) AS carried WHERE place > 1 LIMIT %s
"""
NEW_RUN = """
    INSERT INTO run (id, user_id, kind, shared, flow_run_id, created_at, left_at)
    VALUES (%(run_id)s, %(user_id)s, %(kind)s, true, %(flow_run_id)s, now(), now())
"""
PART = "UPDATE job SET run_id = %(run_id)s WHERE id = %(id)s"
STILL_AWAKE = """
    SELECT (SELECT count(*) FROM request WHERE status IN ('queued', 'granted', 'submitting'))
        + (SELECT count(*) FROM run WHERE closed_at IS NULL AND left_at IS NULL) AS awake
"""
ASLEEP = "SELECT count(*) AS asleep FROM run WHERE closed_at IS NULL AND left_at IS NOT NULL"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What the stack uses while nothing happens."""

    # By part; the medians of the seconds in which cron did nothing.
    cpu_ms_per_second: Mapping[str, float]
    memory_bytes: Mapping[str, float]
    flow_processes: int
    reconcile_cpu_seconds: float  # of what cron does each minute, all parts together


@dataclass(frozen=True, kw_only=True)
class Asleep:
    runs: int
    without: Standing
    with_them: Standing
    woken: int  # how many of those that were released were finished

    def more(self, of: Callable[[Standing], Mapping[str, float]], *parts: str) -> float:
        """What these parts use more than without the sleepers."""
        return sum(of(self.with_them).get(part, 0) - of(self.without).get(part, 0) for part in parts)


def asleep(darkroom: Darkroom, provider: Provider, *, runs: int, seconds: int) -> Asleep:
    provider.rules({"match": MARKER, "hold": True}, {"latency": 1})
    darkroom.limit(None)
    without = _standing(darkroom, seconds)
    _fall_asleep(darkroom, runs)
    with_them = _standing(darkroom, seconds)
    return Asleep(runs=_number(darkroom, ASLEEP), without=without, with_them=with_them, woken=_wake(darkroom, provider))


def _fall_asleep(darkroom: Darkroom, runs: int) -> None:
    post_all(darkroom.door, [f"{MARKER} {n}" for n in range(runs)])
    wait_until(
        lambda: not _number(darkroom, STILL_AWAKE), timeout=SECONDS_TO_FALL_ASLEEP, every=0.5, what="runs that sleep"
    )
    carried = darkroom.rows.execute(TO_BE_PARTED, [runs]).fetchall()
    prefect = _Prefect(darkroom.stack)
    with ThreadPoolExecutor(4) as pool:
        parted = list(pool.map(prefect.suspended_run, carried))
    with darkroom.rows.transaction(), darkroom.rows.cursor() as cursor:
        cursor.executemany(NEW_RUN, parted)
        cursor.executemany(PART, parted)


class _Prefect:
    def __init__(self, stack: Stack) -> None:
        self._http = stack.prefect
        found = self._http.get("/deployments/name/generate-image/on-demand").raise_for_status().json()
        self._create = f"/deployments/{found['id']}/create_flow_run"

    def suspended_run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """The job, with the id of a new run and that of its flow run."""
        run_id = new_id("run_")
        order = {
            "parameters": job["parameters"] | {"user": job["user_id"]},
            "work_queue_name": f"user-{job['user_id']}",
            "idempotency_key": run_id,
            "state": {"type": "PENDING"},
        }
        created = self._http.post(self._create, json=order).raise_for_status().json()
        state = {"state": _suspended(), "force": True}
        self._http.post(f"/flow_runs/{created['id']}/set_state", json=state).raise_for_status()
        return {"id": job["id"], "user_id": job["user_id"], "kind": job["kind"], "run_id": run_id} | {
            "flow_run_id": UUID(created["id"])
        }


def _suspended() -> dict[str, Any]:
    due = datetime.now(UTC) + timedelta(days=1)
    details = {"pause_timeout": due.isoformat(), "pause_key": str(uuid4()), "pause_reschedule": True}
    return {"type": "PAUSED", "name": "Suspended", "state_details": details}


def _standing(darkroom: Darkroom, seconds: int) -> Standing:
    """First what cron does each minute, then seconds without it."""
    _until_quiet(darkroom)
    before = _cpu(darkroom)
    darkroom.stack.reconcile()
    _until_quiet(darkroom)
    looks = [_look(darkroom)]
    reconcile = sum(looks[0].cpu_seconds.values()) - sum(before.values())
    for _ in range(seconds):
        time.sleep(1)
        looks.append(_look(darkroom))
    return Standing(
        cpu_ms_per_second=quiet_cpu_ms(looks),
        memory_bytes=quiet_memory(looks),
        flow_processes=min(look.flow_processes for look in looks),
        reconcile_cpu_seconds=reconcile,
    )


@dataclass(frozen=True, kw_only=True)
class Look:
    cpu_seconds: Mapping[str, float]  # so far, by part
    memory_bytes: Mapping[str, int]
    flow_processes: int


def quiet_memory(looks: Sequence[Look]) -> dict[str, float]:
    """By part, the median of the moments in which no flow process was there but those that stay."""
    fewest = min(look.flow_processes for look in looks)
    quiet = [look.memory_bytes for look in looks if look.flow_processes == fewest]
    return {part: median(memory[part] for memory in quiet) for part in quiet[0]}


def quiet_cpu_ms(looks: Sequence[Look]) -> dict[str, float]:
    """By part, the median of the steps in which no flow process was there but those that stay."""
    fewest = min(look.flow_processes for look in looks)
    steps = [
        (before.cpu_seconds, after.cpu_seconds)
        for before, after in pairwise(looks)
        if before.flow_processes == after.flow_processes == fewest
    ]
    if not steps:
        raise RuntimeError("There was no second without a flow run.")
    return {part: 1000 * median(after[part] - before[part] for before, after in steps) for part in steps[0][0]}


def _until_quiet(darkroom: Darkroom) -> None:
    """No flow process has done anything for a second."""
    seen = [0.0]

    def quiet() -> bool:
        seen.append(_cpu(darkroom)[FLOW_PROCESSES])
        return abs(seen[-1] - seen[-2]) < QUIET_CPU_SECONDS

    wait_until(quiet, timeout=60, every=1, what="flow processes that do nothing")


def _cpu(darkroom: Darkroom) -> dict[str, float]:
    return cpu_seconds(processes(), darkroom.processes())


def _look(darkroom: Darkroom) -> Look:
    table, roots = processes(), darkroom.processes()
    return Look(
        cpu_seconds=cpu_seconds(table, roots),
        memory_bytes=memory_bytes(roots),
        flow_processes=len(trees(table, roots)[FLOW_PROCESSES]),
    )


def _wake(darkroom: Darkroom, provider: Provider) -> int:
    open_before = darkroom.open()
    for request in provider.requests(MARKER)[-WOKEN:]:
        provider.release(request["request_id"])
    wait_until(lambda: darkroom.open() <= open_before - WOKEN, timeout=90, every=0.2, what="runs that were woken")
    return open_before - darkroom.open()


def _number(darkroom: Darkroom, statement: str) -> int:
    found = darkroom.rows.execute(statement).fetchone()
    assert found is not None
    return int(next(iter(found.values())))
