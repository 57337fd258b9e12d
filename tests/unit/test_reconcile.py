"""What reconcile decides, case by case."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from darkroom.engine.reconcile_rules import (
    ForRequest,
    ForRun,
    decide_closed_run,
    decide_request,
    decide_run,
    differing,
    next_recovery,
    recent_recoveries,
)
from darkroom.ledger import Request, RequestStatus, Run
from darkroom.orchestrator.run_states import RunState
from darkroom.orchestrator.state_names import REFUSED
from darkroom.timing import SUBMIT_PATIENCE, UNSCALED

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
FLOW_RUN = UUID(int=7)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


@pytest.mark.parametrize("factor", [1, 0.1])
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
    status: RequestStatus, seconds: float, webhooks: bool, cancelled: bool, expected: ForRequest, factor: float
) -> None:
    """Expected 10 s, start time-out 600 s, deadline 1800 s: unknown is given up after 600 + 3 × 10 + 60 s.

    At a tenth of the scale after a tenth of each, but for the 30 s that a POST has at any scale.
    """
    post = SUBMIT_PATIENCE.total_seconds() if status in (RequestStatus.SUBMITTING, RequestStatus.UNKNOWN) else 0
    row = Request(
        ref="req",
        status=status,
        submitted_at=ago(post + factor * (seconds - post)),
        deadline_at=ago(factor * (seconds - 1800)),
        cancel_requested_at=ago(1) if cancelled else None,
    )
    decided = decide_request(
        row,
        now=NOW,
        expected=timedelta(seconds=10),
        start_timeout=timedelta(seconds=600),
        webhooks=webhooks,
        timing=UNSCALED.scaled(factor),
    )
    assert decided is expected


def a_run(**times: Any) -> Run:
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
        pytest.param(a_run(suspended_at=ago(500)), ("PAUSED", 500), False, ForRun.NOTHING, id="waits for the provider"),
        pytest.param(a_run(suspended_at=ago(500)), ("PAUSED", 500), True, ForRun.WAKE, id="granted and not told"),
        pytest.param(a_run(woken_at=ago(9)), ("PAUSED", 500), False, ForRun.NOTHING, id="just woken"),
        pytest.param(a_run(woken_at=ago(11)), ("PAUSED", 500), False, ForRun.WAKE, id="the wake was not heard"),
        pytest.param(a_run(alive_until=ago(31)), ("PAUSED", 35), False, ForRun.WAKE, id="died while it left"),
        pytest.param(a_run(alive_until=ago(-20)), ("PAUSED", 1), False, ForRun.NOTHING, id="is leaving"),
        pytest.param(a_run(), ("CANCELLED", 5), False, ForRun.CLOSE, id="cancelled"),
        pytest.param(a_run(), ("COMPLETED", 5), False, ForRun.CLOSE, id="over, with jobs it never took up"),
        pytest.param(a_run(alive_until=ago(-9)), ("FAILED", 5), False, ForRun.RECOVER, id="failed, its jobs did not"),
        pytest.param(a_run(), ("RUNNING", 59), False, ForRun.NOTHING, id="its flow is about to begin"),
        pytest.param(a_run(), ("RUNNING", 61), False, ForRun.RECOVER, id="died before its first line"),
        pytest.param(a_run(alive_until=ago(29)), ("CANCELLING", 90), False, ForRun.NOTHING, id="is ending"),
        pytest.param(a_run(alive_until=ago(31)), ("CANCELLING", 1), False, ForRun.CONFIRM, id="nobody is left to end"),
        pytest.param(a_run(), ("CANCELLING", 59), False, ForRun.NOTHING, id="cancelled before it began"),
        pytest.param(a_run(), ("CANCELLING", 61), False, ForRun.CONFIRM, id="… and no worker heard it"),
        pytest.param(a_run(), None, False, ForRun.CREATE, id="Prefect never heard of it"),
        pytest.param(a_run(created_at=ago(3)), None, False, ForRun.NOTHING, id="is being created"),
        pytest.param(a_run(alive_until=ago(29)), None, False, ForRun.NOTHING, id="deleted while it runs"),
        pytest.param(a_run(alive_until=ago(31)), None, False, ForRun.CREATE, id="deleted, and gone"),
    ],
)
def test_a_run_is_brought_back_or_ended(
    run: Run, state: tuple[str, float] | None, granted: bool, expected: ForRun
) -> None:
    """Every way a run can be left standing has one answer, and a healthy run is left alone."""
    seen = RunState(type=state[0], name=state[0], timestamp=ago(state[1])) if state else None
    assert decide_run(run, seen, now=NOW, has_granted=granted, timing=UNSCALED) is expected


INVALID = "Validation of flow parameters failed with error: ParameterTypeError: Invalid:\n - seed: no integer"


@pytest.mark.parametrize(
    ("message", "fields"), [(INVALID, ("seed",)), ("Flow run encountered an exception: BadInput: a secret", ())]
)
def test_a_run_that_failed_for_its_parameters_is_not_brought_back(message: str, fields: tuple[str, ...]) -> None:
    """It would fail again; what was given is not told."""
    seen = RunState(type="FAILED", name="Failed", timestamp=ago(1), message=message)
    assert decide_run(a_run(), seen, now=NOW, has_granted=False, timing=UNSCALED) is ForRun.REFUSE
    assert seen.refused_fields == fields


@pytest.mark.parametrize(("message", "fields"), [("urls: Field required.", ("urls",)), ("There is no user 'x'.", ())])
def test_a_run_whose_flow_refused_its_input_is_not_brought_back(message: str, fields: tuple[str, ...]) -> None:
    """It says so in the message of its state."""
    seen = RunState(type="FAILED", name="Failed", timestamp=ago(1), message=REFUSED + message)
    assert decide_run(a_run(), seen, now=NOW, has_granted=False, timing=UNSCALED) is ForRun.REFUSE
    assert seen.refused_fields == fields


def test_a_script_that_died_hands_its_jobs_over() -> None:
    """No worker can start it again."""
    seen = RunState(type="CRASHED", name="Crashed", timestamp=ago(1), deployed=False)
    assert decide_run(a_run(), seen, now=NOW, has_granted=False, timing=UNSCALED) is ForRun.REASSIGN


def test_a_run_whose_queue_was_deleted_hands_its_jobs_over() -> None:
    """No worker is ever offered it."""
    seen = RunState(type="SCHEDULED", name="Resuming", timestamp=ago(1), stranded=True)
    assert decide_run(a_run(), seen, now=NOW, has_granted=False, timing=UNSCALED) is ForRun.REASSIGN


@pytest.mark.parametrize(
    ("recoveries", "seconds", "expected"),
    [
        (0, None, ForRun.RECOVER),
        (1, 1, ForRun.NOTHING),
        (1, 2, ForRun.RECOVER),
        (2, 3, ForRun.NOTHING),
        (2, 4, ForRun.RECOVER),
        (4, 15, ForRun.NOTHING),
        (4, 16, ForRun.RECOVER),
        (9, 29, ForRun.NOTHING),
        (9, 30, ForRun.RECOVER),
        (10, 31, ForRun.GIVE_UP),
        (10, 301, ForRun.RECOVER),
    ],
)
@pytest.mark.parametrize("state", ["CRASHED", "FAILED"])
def test_a_run_that_is_lost_again_and_again_is_brought_back_more_slowly_and_then_given_up(
    state: str, recoveries: int, seconds: float | None, expected: ForRun
) -> None:
    """At once, after 2, 4, 8, 16, then 30 s, ten times; the count begins anew after five quiet minutes."""
    run = a_run(recoveries=recoveries, recovered_at=None if seconds is None else ago(seconds))
    seen = RunState(type=state, name=state, timestamp=ago(0))
    assert decide_run(run, seen, now=NOW, has_granted=False, timing=UNSCALED) is expected


def test_the_count_of_recoveries_begins_anew() -> None:
    """After five minutes in which it was not needed."""
    assert recent_recoveries(a_run(recoveries=7, recovered_at=ago(299)), now=NOW, timing=UNSCALED) == 7
    assert recent_recoveries(a_run(recoveries=7, recovered_at=ago(301)), now=NOW, timing=UNSCALED) == 0
    assert next_recovery(a_run(recoveries=7, recovered_at=ago(301)), now=NOW, timing=UNSCALED) == NOW


@pytest.mark.parametrize(
    ("changes", "state", "expected"),
    [
        pytest.param({}, ("COMPLETED", 5), ForRun.NOTHING, id="as it should be"),
        pytest.param({}, ("FAILED", 5), ForRun.NOTHING, id="its one job failed"),
        pytest.param({}, ("CANCELLED", 5), ForRun.NOTHING, id="cancelled"),
        pytest.param({}, None, ForRun.NOTHING, id="deleted"),
        pytest.param({"closed_at": ago(29)}, ("RUNNING", 500), ForRun.NOTHING, id="says its last words"),
        pytest.param({"closed_at": ago(31)}, ("RUNNING", 500), ForRun.RECOVER, id="died before its last words"),
        pytest.param({}, ("CRASHED", 1), ForRun.RECOVER, id="… and its worker has said so"),
        pytest.param({}, ("RUNNING", 29), ForRun.NOTHING, id="started again"),
        pytest.param(
            {"alive_until": ago(29)}, ("RUNNING", 50), ForRun.NOTHING, id="started again, says its last words"
        ),
        pytest.param({}, ("SCHEDULED", 90), ForRun.NOTHING, id="waits for a worker"),
        pytest.param({}, ("PENDING", 59), ForRun.NOTHING, id="about to start"),
        pytest.param({}, ("PENDING", 61), ForRun.RECOVER, id="its worker died before the start"),
        pytest.param({}, ("CANCELLING", 31), ForRun.CONFIRM, id="cancelled as it ended"),
        pytest.param({}, ("PAUSED", 31), ForRun.WAKE, id="suspended as it ended"),
        pytest.param({"recoveries": 2, "recovered_at": ago(3)}, ("CRASHED", 1), ForRun.NOTHING, id="not yet again"),
        pytest.param({"recoveries": 11, "recovered_at": ago(999)}, ("CRASHED", 1), ForRun.NOTHING, id="given up"),
    ],
)
def test_a_run_that_has_closed_ends_at_prefect_too(
    changes: dict[str, Any], state: tuple[str, float] | None, expected: ForRun
) -> None:
    """Its process may have died between the ledger's word and Prefect's."""
    seen = RunState(type=state[0], name=state[0], timestamp=ago(state[1])) if state else None
    assert decide_closed_run(a_run(**{"closed_at": ago(300)} | changes), seen, now=NOW, timing=UNSCALED) is expected


def test_only_queues_that_are_not_as_they_should_be_are_touched() -> None:
    """Of another limit, of none, or deleted; queues of users without an open run are nobody's concern."""
    found = {"user-same": 3, "user-other": 3, "user-free": None, "user-idle": 1}
    wanted = {"user-same": 3, "user-other": 8, "user-free": 3, "user-gone": 1}
    assert differing(wanted, found) == {"user-other": 8, "user-free": 3, "user-gone": 1}
