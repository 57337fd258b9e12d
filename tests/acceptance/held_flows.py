"""The flow of `test_flow_control.py`, and the events that start it: put into a copy of the project."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.engine import Job, drive

DAY = timedelta(days=1)
EVENTS = """

class _Trial(EventData):
    n: int = 0
    key: str = ""
    holds: bool = False
    sends: bool = False


for _case in {cases}:
    event(f"trial.{{_case}}")(_Trial)
"""


def play(job: Job) -> Any:
    """One that holds is under way until it is told to go on; one that sends asks for another run by an event."""
    given = job.parameters
    if given.get("sends"):
        job.send_event("trial.sent", {"n": given["n"]}, step="send")
    if given.get("holds"):
        job.wait_for_event("trial.go", match={"n": given["n"]}, timeout=DAY)
    return {"n": given.get("n"), "events": given.get("events")}


@flow(name="held", retries=0)
def held(
    n: int = 0,
    key: str = "",
    holds: bool = False,
    sends: bool = False,
    events: list[dict[str, Any]] | None = None,
    user: str = "operator",
) -> State[Any]:
    given = {"n": n, "key": key, "holds": holds, "sends": sends, "events": events}
    return drive(play, parameters=given, user=user)
