"""What a run waits for, as a person reads it in Prefect: a line in its log and a table among its artifacts.

Pure functions of the waits on record.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from darkroom.ledger import Wait, WaitKind, WaitStatus

MOST_ROWS = 50

_BY = {"event": "the event came", "time": "its time was over", "child": "that job ended", "hand": "ended by hand"}
_WITHOUT = {WaitStatus.SUPERSEDED: "another came first", WaitStatus.CANCELLED: "its job ended before"}


def described(waits: Sequence[Wait], *, count: int) -> str:
    """Say in one sentence what is waited for first, and how much more.

    `count`: of the waits that are open.
    """
    waiting = [wait for wait in waits if wait.status == WaitStatus.OPEN]
    if not waiting:
        return "It waits for nothing any more."
    first = waiting[0]
    # A sleep's time is what it waits for, and said already.
    until = f" until {_time(first.until)}" if first.until and first.kind != WaitKind.SLEEP else ""
    more = f", and {count - 1} more" if count > 1 else ""
    # Without the condition on which an event is waited for: that names data, and this goes into the log.
    return f"Waits for {_what(first)}{until} (step '{first.name}'){more}."


def rows(waits: Sequence[Wait]) -> list[dict[str, str]]:
    return [
        {
            "Step": wait.name,
            "Waits for": _what(wait) + (f" with {wait.match}" if wait.match else ""),
            "Until": _time(wait.until) if wait.until else "as long as it takes",
            "Since": _time(wait.created_at),
            "Now": _now(wait),
            "Job": wait.job_id,
            "Wait": wait.id,
        }
        for wait in waits
    ]


def _what(wait: Wait) -> str:
    match wait.kind:
        case WaitKind.SLEEP:
            return _time(wait.until) if wait.until else "a time"
        case WaitKind.CHILD:
            return f"the end of {wait.child_job_id}"
        case _:
            return f"an event '{wait.event_name}'"


def _now(wait: Wait) -> str:
    if wait.status == WaitStatus.OPEN:
        return "waits"
    how = _WITHOUT.get(WaitStatus(wait.status)) or _BY.get(wait.settled_by or "", "over")
    return how if wait.settled_at is None else f"{how}, {_time(wait.settled_at)}"


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
