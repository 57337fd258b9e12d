"""The flow of `test_flow_control.py`, its deployments, and the events that start it: a case each, flow controlled."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from darkroom import Job, Order, pipeline

DAY = timedelta(days=1)
CASES = {
    "last": "debounce: {key: event.data.key, period: 5s, longest: 60s}",
    "all": "debounce: {key: event.data.key, period: 5s, longest: 60s, keep: all}",
    "longest": "debounce: {key: event.user, period: 3s, longest: 3s}",
    "batch": "batch: {size: 10, longest: 3s}",
    "throttle": "throttle: {key: event.user, limit: 4, period: 4s, burst: 4}",
    "refused": "rate_limit: {key: event.user, limit: 3, period: 1h}",
    "queued": "rate_limit: {key: event.user, limit: 2, period: 4s, over: queue}",
    "priority": "concurrency: {limit: 1}, priority: event.data.n",
    "concurrency": "concurrency: {key: event.data.key, limit: 2}",
    "skip": "singleton: {key: event.data.key, when_running: skip}",
    "cancel": "singleton: {key: event.data.key, when_running: cancel}",
    "queue": "singleton: {key: event.data.key, when_running: queue}",
    "gathers": "debounce: {key: event.data.key, period: 5s}",
    "waits": "throttle: {key: event.user, limit: 1, period: 1s}",
    "sends": "concurrency: {limit: 1}",
    "sent": "batch: {size: 2, longest: 1m}",
    "changed": "concurrency: {limit: 1}",
    "hand": "debounce: {period: 1h}",
}
DEPLOYMENT = """
  - name: {case}
    entrypoint: flows/held_flows.py:held
    tags: [darkroom]
    work_pool:
      name: darkroom
    starts_on:
      - event: trial.{case}
    flow_control: {{{control}}}
"""
EVENTS = """

class _Trial(EventData):
    n: int = 0
    key: str = ""
    holds: bool = False
    sends: bool = False


for _case in {cases}:
    event(f"trial.{{_case}}")(_Trial)
""".format(cases=[*CASES, "go", "gone"])


def deployments() -> str:
    """As they stand in prefect.yaml."""
    return "".join(deployment(case, control) for case, control in CASES.items())


def deployment(case: str, control: str) -> str:
    return DEPLOYMENT.format(case=case, control=control)


class Held(Order):
    n: int = 0
    key: str = ""
    holds: bool = False
    sends: bool = False
    events: list[dict[str, Any]] | None = None


@pipeline(Held)
def held(job: Job, order: Held) -> Any:
    """One that holds is under way until it is told to go on; one that sends asks for another run by an event."""
    if order.sends:
        job.send_event("trial.sent", {"n": order.n}, step="send")
    if order.holds:
        job.wait_for_event("trial.go", match={"n": order.n}, timeout=DAY)
    return {"n": order.n, "events": order.events}
