"""What reconcile decides, case by case."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from blocks.ledger import Request, RequestStatus, Run
from blocks.orchestrator import RunState
from flows.reconcile import ForRequest, ForRun, decide_request, decide_run

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
FLOW_RUN = UUID(int=7)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("status", "seconds", "webhooks", "cancelled", "expected"),
    [
        (RequestStatus.GRANTED, 900, True, False, ForRequest.NOTHING),
        (RequestStatus.SUBMITTING, 59, True, False, ForRequest.NOTHING),
        (RequestStatus.SUBMITTING, 61, True, False, ForRequest.LOSE),
        (RequestStatus.IN_FLIGHT, 19, True, False, ForRequest.NOTHING),
        (RequestStatus.IN_FLIGHT, 31, True, False, ForRequest.POLL),
        (RequestStatus.IN_FLIGHT, 1, False, False, ForRequest.POLL),
        (RequestStatus.IN_FLIGHT, 1, True, True, ForRequest.CANCEL),
        (RequestStatus.IN_FLIGHT, 1801, True, False, ForRequest.OVERDUE),
        (RequestStatus.UNKNOWN, 689, True, False, ForRequest.NOTHING),
        (RequestStatus.UNKNOWN, 691, True, False, ForRequest.EXPIRE),
        (RequestStatus.SUCCEEDED, 9999, True, False, ForRequest.NOTHING),
    ],
)
def test_a_request_is_touched_only_when_its_time_is_over(
    status: RequestStatus, seconds: float, webhooks: bool, cancelled: bool, expected: ForRequest
) -> None:
    """Expected 10 s, start time-out 600 s, deadline 1800 s: unknown is given up after 600 + 3 × 10 + 60 s."""
    row = Request(
        ref="req",
        status=status,
        submitted_at=ago(seconds),
        deadline_at=ago(seconds - 1800),
        cancel_requested_at=ago(1) if cancelled else None,
    )
    decided = decide_request(
        row, now=NOW, expected=timedelta(seconds=10), start_timeout=timedelta(seconds=600), webhooks=webhooks
    )
    assert decided is expected


def a_run(**times: datetime | None) -> Run:
    return Run(id="run", user_id="u", kind="k", shared=True, flow_run_id=FLOW_RUN, **{"created_at": ago(600)} | times)


@pytest.mark.parametrize(
    ("run", "state", "granted", "expected"),
    [
        pytest.param(a_run(), ("SCHEDULED", 600), False, ForRun.NOTHING, id="waits for a worker"),
        pytest.param(a_run(alive_until=ago(-20)), ("RUNNING", 60), True, ForRun.NOTHING, id="alive"),
        pytest.param(a_run(alive_until=ago(29)), ("RUNNING", 60), True, ForRun.NOTHING, id="silent for a moment"),
        pytest.param(a_run(alive_until=ago(31)), ("RUNNING", 60), True, ForRun.RECOVER, id="silent for too long"),
        pytest.param(a_run(alive_until=ago(-9)), ("CRASHED", 1), False, ForRun.RECOVER, id="crashed"),
        pytest.param(a_run(), ("PENDING", 59), False, ForRun.NOTHING, id="about to start"),
        pytest.param(a_run(), ("PENDING", 61), False, ForRun.RECOVER, id="its worker died before the start"),
        pytest.param(a_run(left_at=ago(500)), ("PAUSED", 500), False, ForRun.NOTHING, id="waits for the provider"),
        pytest.param(a_run(left_at=ago(500)), ("PAUSED", 500), True, ForRun.WAKE, id="granted and not told"),
        pytest.param(a_run(woken_at=ago(9)), ("PAUSED", 500), False, ForRun.NOTHING, id="just woken"),
        pytest.param(a_run(woken_at=ago(11)), ("PAUSED", 500), False, ForRun.WAKE, id="the wake was not heard"),
        pytest.param(a_run(alive_until=ago(31)), ("PAUSED", 35), False, ForRun.WAKE, id="died while it left"),
        pytest.param(a_run(alive_until=ago(-20)), ("PAUSED", 1), False, ForRun.NOTHING, id="is leaving"),
        pytest.param(a_run(), ("CANCELLED", 5), False, ForRun.CLOSE, id="cancelled"),
        pytest.param(a_run(), ("FAILED", 5), False, ForRun.CLOSE, id="failed at Prefect"),
        pytest.param(a_run(), None, False, ForRun.CREATE, id="Prefect never heard of it"),
        pytest.param(a_run(created_at=ago(3)), None, False, ForRun.NOTHING, id="is being created"),
    ],
)
def test_a_run_is_brought_back_or_ended(
    run: Run, state: tuple[str, float] | None, granted: bool, expected: ForRun
) -> None:
    """Every way a run can be left standing has one answer, and a healthy run is left alone."""
    seen = RunState(type=state[0], name=state[0], timestamp=ago(state[1])) if state else None
    assert decide_run(run, seen, now=NOW, has_granted=granted) is expected


def test_a_script_that_died_hands_its_jobs_over() -> None:
    """No worker can start it again."""
    seen = RunState(type="CRASHED", name="Crashed", timestamp=ago(1), deployed=False)
    assert decide_run(a_run(), seen, now=NOW, has_granted=False) is ForRun.HAND_OVER
